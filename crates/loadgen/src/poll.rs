//! Many subscribers read by one thread.

use crate::clock::{now_ns, seconds_since};
use crate::socket::{Epoll, Received, receive};
use crate::subscriber::Subscriber;

pub struct Poll {
    epoll: Epoll,
    buffer: Vec<u8>,
    pub subscribers: Vec<Subscriber>,
}

/// A marker that arrived.
pub struct Arrival<'a> {
    pub now_ns: u64,
    pub sent_ns: u64,
    pub sequence: u64,
    /// Of the subscriber it arrived at.
    pub next_sequence: &'a mut u64,
}

impl Poll {
    pub fn new() -> Self {
        Self { epoll: Epoll::new(), buffer: vec![0; 256 << 10], subscribers: vec![] }
    }

    pub fn add(&mut self, more: Vec<Subscriber>) {
        for mut subscriber in more {
            subscriber.feed(&mut [], |_, _| {}); // a whole frame may already wait
            self.epoll.add(subscriber.fd, self.subscribers.len() as u64);
            self.subscribers.push(subscriber);
        }
    }

    /// Subscribers that still have their connection.
    pub fn open_count(&self) -> usize {
        self.subscribers.iter().filter(|s| !s.is_closed).count()
    }

    /// Reads what is there, waiting at most `ms`; returns how many connections the server closed.
    pub fn round(&mut self, ms: i32, mut arrived: impl FnMut(Arrival<'_>)) -> u64 {
        let ready = self.epoll.wait(ms);
        let mut closed = 0;
        for i in 0..ready {
            let subscriber = &mut self.subscribers[self.epoll.key(i) as usize];
            if subscriber.is_closed {
                continue;
            }
            loop {
                match receive(subscriber.fd, &mut self.buffer) {
                    Received::Bytes(bytes) => {
                        let now_ns = now_ns();
                        let mut next = subscriber.next_sequence;
                        subscriber.feed(&mut self.buffer[..bytes], |sent_ns, sequence| {
                            arrived(Arrival { now_ns, sent_ns, sequence, next_sequence: &mut next });
                        });
                        subscriber.next_sequence = next;
                        if bytes < self.buffer.len() {
                            break;
                        }
                    }
                    Received::NothingYet => break,
                    Received::Closed => {
                        subscriber.is_closed = true;
                        break;
                    }
                }
            }
            if subscriber.is_closed {
                subscriber.end();
                closed += 1;
            }
        }
        closed
    }

    /// Reads and ignores for a time; returns how many connections the server closed.
    pub fn idle(&mut self, seconds: f64) -> u64 {
        let begun = now_ns();
        let mut closed = 0;
        while seconds_since(begun) < seconds {
            closed += self.round(20, |_| {});
        }
        closed
    }
}
