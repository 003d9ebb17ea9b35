//! A shard whose thread never runs: what arrives was written by whoever had the news.

use super::*;
use crate::conn::{Socket, Style};
use std::time::Duration;
use tidings_engine::{Hold, Hub, Step, Tidings};
use tidings_log::SystemClock;
use tidings_log::memory::MemoryLog;
use tidings_model::{Filter, From, Limits, NewEvent, Principal, Topic};
use tokio::net::UnixStream;

struct Site {
    tidings: Tidings,
    shard: Arc<Shard>,
    fan: Fan,
    topic: Topic,
}

impl Site {
    fn new() -> Self {
        let limits = Limits::default();
        let hub = Arc::new(Hub::new(&limits));
        let log = MemoryLog::new(Arc::new(SystemClock), Arc::clone(&hub) as _);
        let tidings = Tidings::new(Arc::new(log), hub, Arc::new(SystemClock), limits);
        let shard = Arc::new(Shard::default());
        let fan =
            Fan { shards: Arc::new([Arc::clone(&shard)]), turn: Arc::default(), tickets: Arc::default() };
        Self { tidings, shard, fan, topic: Topic::parse("t").unwrap() }
    }

    /// Somebody who reads live.
    async fn reader(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let conn = Arc::new(Conn::new(Socket::Pair(ours), Style::Ws, Duration::from_secs(9)));
        let (who, topics) = (Arc::new(Principal::admin()), vec![self.topic.clone()]);
        let all = Filter::default();
        let subscription = self.tidings.subscribe(who, topics, &From::Latest, &all);
        let mut subscription = subscription.await.unwrap();
        while matches!(subscription.step(), Step::Item(_)) {}
        self.fan.park(&self.fan.berth(), &conn, Box::new(subscription));
        theirs
    }

    /// What the thread does when it is woken.
    fn go_through(&self) {
        let inbox = std::mem::take(&mut *self.shard.inbox.lock().unwrap());
        self.shard.parking.lock().unwrap().go_through(inbox);
        self.shard.inbox.lock().unwrap().is_idle = true;
    }

    /// Publishes what is told when the answer is dropped.
    async fn published(&self) -> Hold {
        let held = self.tidings.hold([self.topic.name.clone()]);
        let event = NewEvent::new(self.topic.clone(), "n");
        self.tidings.publish(&Principal::admin(), vec![event]).await.unwrap();
        held
    }

    fn is_left_to_the_thread(&self) -> bool {
        !self.shard.inbox.lock().unwrap().woken.is_empty()
    }
}

/// Whether anything has arrived; takes it.
fn has_news(reader: &UnixStream) -> bool {
    let mut some = [0; 4096];
    // The system is asked, not the runtime.
    rustix::net::recv(reader, &mut some, rustix::net::RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count > 0)
}

#[tokio::test]
async fn few_readers_are_written_to_by_who_has_the_news_and_more_by_the_thread() {
    let site = Site::new();
    let mut readers = Vec::new();
    for _ in 0..HERE_MAX {
        readers.push(site.reader().await);
    }
    site.go_through();
    for _ in 0..3 {
        drop(site.published().await);
        assert!(!site.is_left_to_the_thread());
        assert!(readers.iter().all(has_news));
        assert!(!readers.iter().any(has_news), "once");
    }
    readers.push(site.reader().await);
    site.go_through();
    drop(site.published().await);
    assert!(site.is_left_to_the_thread() && !readers.iter().any(has_news));
    site.go_through();
    assert!(readers.iter().all(has_news));
}

#[tokio::test]
async fn a_thread_at_work_is_left_to_it() {
    let site = Site::new();
    let reader = site.reader().await;
    site.go_through();
    // Somebody else was just parked; then the thread is awake; then it is in the middle of something.
    let _other = site.reader().await;
    drop(site.published().await);
    assert!(site.is_left_to_the_thread() && !has_news(&reader));
    site.go_through();
    assert!(has_news(&reader));
    site.shard.inbox.lock().unwrap().is_idle = false;
    drop(site.published().await);
    assert!(site.is_left_to_the_thread() && !has_news(&reader));
    site.go_through();
    assert!(has_news(&reader));
    let held = site.published().await;
    let parking = site.shard.parking.lock().unwrap();
    drop(held);
    drop(parking);
    assert!(site.is_left_to_the_thread() && !has_news(&reader));
    site.go_through();
    assert!(has_news(&reader));
}
