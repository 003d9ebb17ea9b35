//! What is sent again: ranges that an admin names, one after the other, in a line of their own.

use super::Runner;
use crate::delivery::attempt::{Delivery, Status};
use crate::delivery::line::{Head, LineKey};
use crate::delivery::mark::Replay;
use std::collections::HashMap;
use tidings_model::Event;

impl Runner {
    /// Sends these again, behind other replays; `false` if there are too many.
    pub fn replay(&mut self, replay: Replay, max: usize) -> bool {
        if self.replays.len() >= max {
            return false;
        }
        if self.replays.is_empty() {
            self.again_read = replay.first.saturating_sub(1);
        }
        self.replays.push_back(replay);
        true
    }

    /// What is to be replayed, with the records of those that are dead, and the offset up to which there is nothing
    /// else. What the line has not come to yet is left to it; a delivery that holds its line is tried anew.
    pub fn took_again(&mut self, events: Vec<Event>, records: Vec<Delivery>, up_to: u64) {
        self.is_reading_again = false;
        let mut records: HashMap<u64, Delivery> = records.into_iter().map(|d| (d.offset, d)).collect();
        for event in events {
            let offset = event.offset().0;
            if !self.settled.contains(offset) {
                self.release(offset, LineKey::of(self.policy.order, &event));
                continue;
            }
            if let Some(mut delivery) = records.remove(&offset)
                && !self.troubled.contains_key(&offset)
            {
                if delivery.status != Status::Waiting {
                    (delivery.tries, delivery.next_at) = (0, None);
                }
                self.troubled.insert(offset, delivery);
            }
            self.push(LineKey::Again, event);
        }
        self.again_read = self.again_read.max(up_to);
        self.end_replay();
    }

    fn release(&mut self, offset: u64, key: LineKey) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        if matches!(line.head, Head::Held) && line.items.front().is_some_and(|item| item.offset == offset) {
            line.head = Head::Ready;
            if let Some(delivery) = self.troubled.get_mut(&offset) {
                (delivery.tries, delivery.status) = (0, Status::Waiting);
            }
            self.ready.push_back(key);
        }
    }

    /// Ends the first replay once everything of it was handed to the line and is through.
    pub(super) fn end_replay(&mut self) {
        let is_idle = self.lines.get(&LineKey::Again).is_none_or(|line| line.items.is_empty());
        let Some(replay) = self.replays.front().filter(|_| is_idle) else { return };
        if self.again_read >= replay.last {
            self.replays.pop_front();
            self.again_read = self.replays.front().map_or(0, |next| next.first.saturating_sub(1));
        }
    }
}
