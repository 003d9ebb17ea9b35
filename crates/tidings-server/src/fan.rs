//! The fan: writes live events to the sockets of streams that have caught up.
//!
//! Owns: a few threads, each with the connections parked on it, by address. When the hub wakes an address,
//! its thread goes through the connections there once and writes to each what it lacks, in one write; what
//! was published meanwhile goes out together in the next round, so the cost per event falls with load.
//! Never: waits for a socket. One that is full goes back to its own task with its cursor (I11).

use crate::conn::{Conn, Pumped};
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use tidings_engine::{Feed, Listener, Services, Subscription};

/// The threads that write live events. Cheap to clone.
#[derive(Clone)]
pub struct Fan {
    shards: Arc<[Arc<Shard>]>,
    turn: Arc<AtomicUsize>,
    tickets: Arc<AtomicU64>,
}

/// One thread's inbox.
pub struct Shard {
    inbox: Mutex<Inbox>,
    news: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    woken: Vec<Arc<Feed>>,
    parked: Vec<Parked>,
    left: HashSet<usize>,
    /// The thread sleeps and has to be woken.
    is_idle: bool,
}

struct Parked {
    conn: Arc<Conn>,
    ticket: u64,
    feeds: Vec<usize>,
}

impl Listener for Shard {
    fn wake(&self, feed: &Arc<Feed>) {
        let mut inbox = self.inbox.lock().expect("no panic while holding the lock");
        // As many as there are addresses with news in one round; one address is noted once.
        if !inbox.woken.iter().rev().take(8).any(|f| Arc::ptr_eq(f, feed)) {
            inbox.woken.push(Arc::clone(feed));
        }
        self.rouse(inbox);
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
                let shard = Arc::new(Shard {
                    inbox: Mutex::default(),
                    news: Condvar::new(),
                    stop: AtomicBool::new(false),
                });
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
        let feeds = subscription.feeds().map(address).collect();
        // Listening begins before the subscription is looked at again, so no news falls between.
        subscription.feeds().for_each(|feed| feed.listen(&berth.listener));
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        conn.park(subscription, ticket);
        let mut inbox = berth.shard.inbox.lock().expect("no panic while holding the lock");
        inbox.parked.push(Parked { conn: Arc::clone(conn), ticket, feeds });
        berth.shard.rouse(inbox);
    }
}

impl Berth {
    /// After the subscription was taken back.
    pub fn release(&self, subscription: &Subscription) {
        subscription.feeds().for_each(|feed| feed.unlisten(&self.listener));
    }

    /// The connection ends: its places are cleared.
    pub fn leave(&self, conn: &Arc<Conn>) {
        let mut inbox = self.shard.inbox.lock().expect("no panic while holding the lock");
        inbox.left.insert(Arc::as_ptr(conn) as usize);
        self.shard.rouse(inbox);
    }
}

fn address(feed: &Arc<Feed>) -> usize {
    Arc::as_ptr(feed) as usize
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
        let mut places: HashMap<usize, Vec<(Arc<Conn>, u64)>> = HashMap::new();
        let mut scratch: VecDeque<Bytes> = VecDeque::new();
        loop {
            let Inbox { woken, parked, left, .. } = {
                let mut inbox = self.inbox.lock().expect("no panic while holding the lock");
                while inbox.woken.is_empty() && inbox.parked.is_empty() && inbox.left.is_empty() {
                    if self.stop.load(Ordering::Acquire) {
                        return;
                    }
                    inbox.is_idle = true;
                    inbox = self.news.wait(inbox).expect("no panic while holding the lock");
                }
                std::mem::take(&mut *inbox)
            };
            // First who left: a new connection may have an old one's address.
            if !left.is_empty() {
                places.retain(|_, conns| {
                    conns.retain(|(conn, _)| !left.contains(&(Arc::as_ptr(conn) as usize)));
                    !conns.is_empty()
                });
            }
            for Parked { conn, ticket, feeds } in parked {
                if conn.pump(ticket, &mut scratch) == Pumped::Keep {
                    for feed in feeds {
                        places.entry(feed).or_default().push((Arc::clone(&conn), ticket));
                    }
                }
                scratch.clear();
            }
            for feed in woken {
                let Some(conns) = places.get_mut(&address(&feed)) else { continue };
                let mut i = 0;
                while i < conns.len() {
                    let (conn, ticket) = &conns[i];
                    match conn.pump(*ticket, &mut scratch) {
                        Pumped::Keep => i += 1,
                        Pumped::Remove => drop(conns.swap_remove(i)),
                    }
                    scratch.clear();
                }
            }
        }
    }
}
