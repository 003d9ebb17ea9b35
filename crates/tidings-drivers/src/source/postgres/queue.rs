//! Events that wait for their commit, each with the place that is reached with it.
//!
//! Owns: which of them go together. Whole transactions go as they are complete, as many as there are; a large one goes
//! in pieces, so that nobody holds all of it in memory.

use std::collections::VecDeque;
use tidings_model::NewEvent;

/// With this much waiting, no more is read, and a transaction is cut.
pub const PIECE_BYTES: usize = 1 << 20;
/// What goes together at most, unless a single event is larger.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// Beside data and context, about.
const EVENT_BYTES: usize = 512;
/// The row that a delete may get, where the database says only its key: how large it is, is not known here.
const DELETED_BYTES: usize = 2 << 10;

/// `P` says how far a source has got.
pub struct Queue<P> {
    items: VecDeque<Item<P>>,
    bytes: usize,
    /// The first so many belong to transactions that are complete.
    ready: usize,
}

struct Item<P> {
    event: NewEvent,
    is_message: bool,
    bytes: usize,
    /// `None`: not to be parted from the next.
    place: Option<P>,
}

/// What is committed together.
pub struct Piece<P> {
    pub events: Vec<NewEvent>,
    pub messages: Vec<NewEvent>,
    pub place: P,
}

impl<P> Default for Queue<P> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0, ready: 0 }
    }
}

impl<P: Copy> Queue<P> {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether reading has to wait.
    pub fn is_full(&self) -> bool {
        self.bytes >= PIECE_BYTES
    }

    pub fn push(&mut self, event: NewEvent, is_message: bool) {
        let deleted = if event.deleted { DELETED_BYTES } else { 0 };
        let bytes = event.payload_bytes() + EVENT_BYTES + deleted;
        self.bytes += bytes;
        self.items.push_back(Item { event, is_message, bytes, place: None });
    }

    /// The events so far take the source to `place`; `true` if there were any.
    pub fn reached(&mut self, place: P) -> bool {
        match self.items.back_mut() {
            Some(last) => {
                last.place = Some(place);
                true
            }
            None => false,
        }
    }

    /// The events so far are whole transactions.
    pub fn complete(&mut self) {
        self.ready = self.items.len();
    }

    /// What can be committed now.
    pub fn piece(&mut self) -> Option<Piece<P>> {
        let available = match self.ready {
            0 if self.is_full() => self.items.len(),
            ready => ready,
        };
        let (mut count, mut bytes) = (0, 0);
        for (i, item) in self.items.iter().take(available).enumerate() {
            if count > 0 && bytes + item.bytes > BATCH_BYTES_MAX {
                break;
            }
            bytes += item.bytes;
            if item.place.is_some() {
                count = i + 1;
            }
        }
        let place = self.items.get(count.checked_sub(1)?)?.place?;
        let mut piece = Piece { events: Vec::with_capacity(count), messages: Vec::new(), place };
        for item in self.items.drain(..count) {
            self.bytes -= item.bytes;
            let list = if item.is_message { &mut piece.messages } else { &mut piece.events };
            list.push(item.event);
        }
        self.ready = self.ready.saturating_sub(count);
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lsn::Lsn;
    use super::super::place::Place;
    use super::*;
    use tidings_model::Topic;

    fn event(bytes: usize) -> NewEvent {
        NewEvent::new(Topic::parse("t").unwrap(), vec![b'1'; bytes])
    }

    fn at(taken: u64) -> Place {
        Place { whole: Lsn(1), part: Lsn(9), taken }
    }

    #[test]
    fn a_transaction_waits_for_its_end_unless_it_is_large() {
        let mut queue = Queue::default();
        queue.push(event(10), false);
        queue.reached(at(1));
        assert!(queue.piece().is_none());
        queue.complete();
        queue.push(event(10), true);
        queue.reached(at(2));
        let piece = queue.piece().unwrap();
        assert_eq!((piece.events.len(), piece.messages.len(), piece.place), (1, 0, at(1)));
        assert!(queue.piece().is_none());
        queue.push(event(PIECE_BYTES), false);
        queue.reached(at(3));
        let piece = queue.piece().unwrap();
        assert_eq!((piece.events.len(), piece.messages.len(), piece.place), (1, 1, at(3)));
        assert!(queue.is_empty() && !queue.is_full());
    }

    #[test]
    fn what_belongs_together_is_not_parted_and_large_events_go_alone() {
        let mut queue = Queue::default();
        for taken in 1..=3 {
            queue.push(event(3 << 20), false);
            queue.push(event(3 << 20), false);
            queue.reached(at(taken));
        }
        queue.complete();
        for taken in 1..=3 {
            let piece = queue.piece().unwrap();
            assert_eq!((piece.events.len(), piece.place), (2, at(taken)));
        }
        assert!(queue.piece().is_none());
    }
}
