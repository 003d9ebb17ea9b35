//! One order line of a destination: events of which each waits for the one before.

use super::settings::Order;
use std::collections::VecDeque;
use tidings_model::Event;

/// Which line of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LineKey {
    /// What is sent again.
    Again,
    /// All events.
    Whole,
    /// Those of a key; those without one wait for each other.
    Key(Box<str>),
    /// One alone.
    Own(u64),
}

#[derive(Debug, Default)]
pub struct Line {
    pub head: Head,
    /// The head first.
    pub items: VecDeque<Item>,
}

/// How the first of a line's items stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    #[default]
    Ready,
    Flying,
    /// It is being read again.
    Loading,
    /// It has failed.
    Waiting,
    /// It is dead, and the line waits until it is replayed.
    Held,
}

#[derive(Debug)]
pub struct Item {
    pub offset: u64,
    /// Not while the line waits: that may take hours.
    pub event: Option<Event>,
}

impl LineKey {
    /// The line of an event.
    pub fn of(order: Order, event: &Event) -> Self {
        match order {
            Order::Topic => Self::Whole,
            Order::Key => Self::Key(event.key().unwrap_or_default().into()),
            Order::None => Self::Own(event.offset().0),
        }
    }
}

impl Line {
    /// Forgets the events, which the log has; answers how many there were.
    pub fn forget(&mut self) -> usize {
        self.items.iter_mut().filter_map(|item| item.event.take()).count()
    }
}
