//! The fan: writes live events to the sockets of streams that have caught up.
//!
//! Owns: a few threads, each with the connections parked on it, by address. When the hub wakes an address,
//! its thread goes through the connections there once and writes to each what it lacks, in one write; what
//! was published meanwhile goes out together in the next round, so the cost per event falls with load. Whoever has the
//! time gives a few connections what they lack itself while the thread sleeps.
//! Never: waits for a socket. One that is full goes back to its own task with its cursor (I11).

#[cfg(test)]
mod tests;

use crate::conn::{Conn, Pumped};
use crate::round::Round;
use bytes::Bytes;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use tidings_engine::{Listener, Place, Services, Subscription};

/// The threads that write live events. Cheap to clone.
#[derive(Clone)]
pub struct Fan {
    shards: Arc<[Arc<Shard>]>,
    turn: Arc<AtomicUsize>,
    tickets: Arc<AtomicU64>,
}

/// One thread's inbox, and what it looks after.
#[derive(Default)]
pub struct Shard {
    inbox: Mutex<Inbox>,
    news: Condvar,
    stop: AtomicBool,
    parking: Mutex<Parking>,
}

/// So many connections are written to on the thread that has news for them, if it has the time.
const HERE_MAX: usize = 4;

#[derive(Default)]
struct Inbox {
    woken: Vec<Place>,
    parked: Vec<Parked>,
    left: HashSet<usize>,
    /// The thread sleeps and has to be woken.
    is_idle: bool,
}

struct Parked {
    conn: Arc<Conn>,
    ticket: u64,
    places: Vec<Place>,
}

/// Who is parked where.
#[derive(Default)]
struct Parking {
    places: HashMap<Place, Row>,
    /// Only memory.
    scratch: VecDeque<Bytes>,
}

/// The connections at one place, by their addresses, so that one is there only once. They are gone through in the
/// order in which they came: theirs is about the order of their sockets and of their memory, which costs less to look
/// at than any other.
type Row = IndexMap<usize, (Arc<Conn>, u64)>;

impl Listener for Shard {
    fn wake(&self, place: Place) {
        let mut inbox = self.inbox.lock().expect("no panic while holding the lock");
        // As many as there are addresses with news in one round; one address is noted once.
        if !inbox.woken.iter().rev().take(8).any(|p| *p == place) {
            inbox.woken.push(place);
        }
        self.rouse(inbox);
    }

    /// Nothing is taken from the thread while it is at work, and no lasting work is done here.
    fn wake_here(&self, place: Place) {
        let inbox = self.inbox.lock().expect("no panic while holding the lock");
        let is_asleep = inbox.is_idle && inbox.is_empty();
        if is_asleep
            && let Ok(mut parking) = self.parking.try_lock()
            && parking.places.get(&place).is_none_or(|row| row.len() <= HERE_MAX)
        {
            drop(inbox);
            return parking.give(place);
        }
        drop(inbox);
        self.wake(place);
    }
}

/// Where one connection is parked.
pub struct Berth {
    shard: Arc<Shard>,
    listener: Arc<dyn Listener>,
}

impl Fan {
    /// Starts one thread for each two cores.
    pub fn start(services: &Services) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let shards: Arc<[Arc<Shard>]> = (0..(cores / 2).clamp(1, 16))
            .map(|i| {
                let shard = Arc::new(Shard::default());
                let own = Arc::clone(&shard);
                std::thread::Builder::new()
                    .name(format!("tidings-fan-{i}"))
                    .spawn(move || own.run())
                    .expect("the system can start a thread");
                shard
            })
            .collect();
        let (all, stop) = (Arc::clone(&shards), services.stop().clone());
        services.spawn("fan", async move {
            stop.cancelled().await;
            for shard in all.iter() {
                shard.stop.store(true, Ordering::Release);
                shard.rouse(shard.inbox.lock().expect("no panic while holding the lock"));
            }
        });
        Self { shards, turn: Arc::default(), tickets: Arc::default() }
    }

    /// A thread for a new connection.
    pub fn berth(&self) -> Berth {
        let i = self.turn.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let shard = Arc::clone(&self.shards[i]);
        Berth { listener: Arc::clone(&shard) as Arc<dyn Listener>, shard }
    }

    /// Hands over a subscription that has nothing at hand at the moment.
    pub fn park(&self, berth: &Berth, conn: &Arc<Conn>, mut subscription: Box<Subscription>) {
        subscription.unlisten();
        let places = subscription.places().collect();
        // Listening begins before the subscription is looked at again, so no news falls between.
        subscription.listen_with(&berth.listener);
        subscription.look_everywhere();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        conn.park(subscription, ticket);
        let mut inbox = berth.shard.inbox.lock().expect("no panic while holding the lock");
        inbox.parked.push(Parked { conn: Arc::clone(conn), ticket, places });
        berth.shard.rouse(inbox);
    }
}

impl Berth {
    /// After the subscription was taken back.
    pub fn release(&self, subscription: &Subscription) {
        subscription.unlisten_with(&self.listener);
    }

    /// The connection ends: its places are cleared.
    pub fn leave(&self, conn: &Arc<Conn>) {
        let mut inbox = self.shard.inbox.lock().expect("no panic while holding the lock");
        inbox.left.insert(address(conn));
        self.shard.rouse(inbox);
    }
}

fn address(conn: &Arc<Conn>) -> usize {
    Arc::as_ptr(conn) as usize
}

impl Shard {
    /// Wakes the thread if it sleeps; a wake-up it does not need would be a system call for nothing.
    fn rouse(&self, mut inbox: MutexGuard<'_, Inbox>) {
        if std::mem::take(&mut inbox.is_idle) {
            drop(inbox);
            self.news.notify_one();
        }
    }

    fn run(&self) {
        loop {
            let inbox = {
                let mut inbox = self.inbox.lock().expect("no panic while holding the lock");
                while inbox.is_empty() {
                    if self.stop.load(Ordering::Acquire) {
                        return;
                    }
                    inbox.is_idle = true;
                    inbox = self.news.wait(inbox).expect("no panic while holding the lock");
                }
                std::mem::take(&mut *inbox)
            };
            self.parking.lock().expect("no panic while holding the lock").go_through(inbox);
        }
    }
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.parked.is_empty() && self.left.is_empty()
    }
}

impl Parking {
    fn go_through(&mut self, Inbox { woken, parked, left, .. }: Inbox) {
        // First who left: a new connection may have an old one's address.
        if !left.is_empty() {
            self.places.retain(|_, row| {
                row.retain(|address, _| !left.contains(address));
                !row.is_empty()
            });
        }
        for Parked { conn, ticket, places } in parked {
            if conn.pump(ticket, None, &mut self.scratch) == Pumped::Keep {
                for place in places {
                    let row = self.places.entry(place).or_default();
                    row.insert(address(&conn), (Arc::clone(&conn), ticket));
                }
            }
            self.scratch.clear();
        }
        woken.into_iter().for_each(|place| self.give(place));
    }

    /// Gives the connections at `place` what they lack.
    fn give(&mut self, place: Place) {
        let Some(row) = self.places.get_mut(&place) else { return };
        let mut round = Round::default();
        row.retain(|_, (conn, ticket)| {
            let pumped = conn.pump(*ticket, Some((place, &mut round)), &mut self.scratch);
            self.scratch.clear();
            pumped == Pumped::Keep
        });
        if place.is_once() || row.is_empty() {
            self.places.remove(&place);
        }
    }
}
