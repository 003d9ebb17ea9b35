//! What every [`Bus`] must do, as one suite that each driver runs in its tests.
//!
//! Owns: the promises of the contract that can be seen from outside. Never: looks into a driver.

use super::{ANSWER_WITHIN, Bus, News, Signal, Sink, Status};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidings_model::{EntityKey, TopicName};

/// What a rig's methods return.
pub type Done<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A queue under test, running when the suite begins.
pub trait Rig: Send {
    /// Another node's own connection to the queue; the queue may be down.
    fn node(&mut self) -> Done<'_, Arc<dyn Bus>>;

    /// Kills the queue at once and waits for its end; `false` where there is nothing to kill, because the bus
    /// lives in this process. What a queue that cannot be killed need not do is left out then.
    fn kill(&mut self) -> Done<'_, bool>;

    /// Starts the queue again at the same address and waits until it takes connections.
    fn restart(&mut self) -> Done<'_, ()>;
}

/// Longer than any driver may pause between two tries to connect.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs every case. The runtime needs at least two threads.
pub async fn suite(rig: &mut dyn Rig) {
    a_signal_reaches_every_node_that_subscribes_and_no_other(rig).await;
    ids_come_through_unchanged(rig).await;
    a_burst_from_two_nodes_arrives_whole(rig).await;
    a_node_that_is_gone_hinders_nobody(rig).await;
    if rig.kill().await {
        a_queue_that_is_down_at_the_start_is_an_error_and_then_recovers(rig).await;
        a_killed_queue_is_told_and_reconnected_to(rig).await;
        a_sink_that_dawdles_delays_no_other_node(rig).await;
    }
}

/// Writes down what it hears, and may dawdle.
#[derive(Default)]
struct Ear {
    heard: Mutex<HashMap<News, usize>>,
    dawdle: Option<Duration>,
}

impl Sink for Ear {
    fn hear(&self, news: News) {
        if let Some(pause) = self.dawdle {
            std::thread::sleep(pause);
        }
        *self.heard.lock().expect("no panic while holding the lock").entry(news).or_default() += 1;
    }
}

impl Ear {
    fn has(&self, news: &News) -> bool {
        self.heard.lock().expect("no panic while holding the lock").contains_key(news)
    }

    fn count(&self) -> usize {
        self.heard.lock().expect("no panic while holding the lock").len()
    }

    async fn hears(&self, what: &str, news: &News) {
        until(what, || self.has(news)).await;
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn name(entity: &str) -> TopicName {
    TopicName::parse(entity).expect("a valid name")
}

fn signal(entity: &str, id: &str) -> Signal {
    Signal(EntityKey::parse(entity, id).expect("a valid key"))
}

fn news(entity: &str, id: &str) -> News {
    News::Signal(signal(entity, id))
}

async fn ear(bus: &Arc<dyn Bus>, entity: &str) -> Arc<Ear> {
    let ear = Arc::new(Ear::default());
    bus.subscribe(&name(entity), Arc::clone(&ear) as Arc<dyn Sink>).await.expect("subscribes");
    ear
}

async fn publish(bus: &Arc<dyn Bus>, entity: &str, id: &str) {
    bus.publish(signal(entity, id)).await.expect("publishes");
}

async fn is_connected(bus: &Arc<dyn Bus>) {
    let mut status = bus.status();
    let connected = status.wait_for(|s| *s == Status::Connected);
    tokio::time::timeout(PATIENCE, connected).await.expect("connected in time").expect("the bus lives");
}

async fn a_signal_reaches_every_node_that_subscribes_and_no_other(rig: &mut dyn Rig) {
    let (a, b) = (rig.node().await, rig.node().await);
    let (at_a, at_b, other) = (ear(&a, "items").await, ear(&b, "items").await, ear(&b, "users").await);
    is_connected(&a).await;
    publish(&a, "items", "100").await;
    at_a.hears("the publisher's own signal", &news("items", "100")).await;
    at_b.hears("the other node's signal", &news("items", "100")).await;
    publish(&b, "users", "1").await;
    other.hears("the other entity's signal", &news("users", "1")).await;
    // Behind a later signal of the same entity, so that a stray one would have come by now.
    publish(&b, "items", "101").await;
    at_a.hears("a later signal", &news("items", "101")).await;
    assert!(!at_a.has(&news("users", "1")) && !other.has(&news("items", "100")));
    // Publishing what nobody listens for is no error.
    publish(&a, "unheard", "1").await;
}

async fn ids_come_through_unchanged(rig: &mut dyn Rig) {
    let bus = rig.node().await;
    let ear = ear(&bus, "odd-ids").await;
    let long = "l".repeat(255);
    for id in ["é漢字", "a.b", "*", ">", "1; drop table items", "\"quoted\\\"", " blank ", &long] {
        publish(&bus, "odd-ids", id).await;
        ear.hears(id, &news("odd-ids", id)).await;
    }
}

async fn a_burst_from_two_nodes_arrives_whole(rig: &mut dyn Rig) {
    const EACH: usize = 2000;
    let (a, b) = (rig.node().await, rig.node().await);
    let (at_a, at_b) = (ear(&a, "burst").await, ear(&b, "burst").await);
    let send = |bus: Arc<dyn Bus>, who: &'static str| async move {
        for n in 0..EACH {
            publish(&bus, "burst", &format!("{who}{n}")).await;
        }
    };
    tokio::join!(send(Arc::clone(&a), "a"), send(Arc::clone(&b), "b"));
    until("the burst at both", || at_a.count() >= 2 * EACH && at_b.count() >= 2 * EACH).await;
}

async fn a_node_that_is_gone_hinders_nobody(rig: &mut dyn Rig) {
    let (a, b) = (rig.node().await, rig.node().await);
    let at_a = ear(&a, "gone").await;
    let _ = ear(&b, "gone").await;
    drop(b);
    publish(&a, "gone", "1").await;
    at_a.hears("a signal after another node went", &news("gone", "1")).await;
}

/// The queue is down when this begins, and runs when it ends.
async fn a_queue_that_is_down_at_the_start_is_an_error_and_then_recovers(rig: &mut dyn Rig) {
    let bus = rig.node().await;
    let ear = Arc::new(Ear::default());
    let asked = Instant::now();
    let subscribed = bus.subscribe(&name("late"), Arc::clone(&ear) as Arc<dyn Sink>).await;
    let error = subscribed.expect_err("the queue is down");
    assert!(error.retryable(), "{error}");
    bus.publish(signal("late", "1")).await.expect_err("the queue is down");
    assert!(asked.elapsed() < 2 * ANSWER_WITHIN + Duration::from_secs(1), "answers come in time");
    assert!(matches!(*bus.status().borrow(), Status::Lost { .. }));
    rig.restart().await;
    ear.hears("that signals may have been missed", &News::Missed(name("late"))).await;
    is_connected(&bus).await;
    publish(&bus, "late", "2").await;
    ear.hears("a signal after the recovery", &news("late", "2")).await;
}

async fn a_killed_queue_is_told_and_reconnected_to(rig: &mut dyn Rig) {
    let (a, b) = (rig.node().await, rig.node().await);
    let ears = [ear(&a, "broken").await, ear(&b, "broken").await, ear(&b, "broken-too").await];
    publish(&a, "broken", "1").await;
    ears[1].hears("a signal", &news("broken", "1")).await;
    assert!(rig.kill().await);
    for bus in [&a, &b] {
        let mut status = bus.status();
        let lost = status.wait_for(|s| matches!(s, Status::Lost { .. }));
        tokio::time::timeout(PATIENCE, lost).await.expect("told in time").expect("the bus lives");
        bus.publish(signal("broken", "2")).await.expect_err("the queue is down");
    }
    rig.restart().await;
    for (ear, entity) in ears.iter().zip(["broken", "broken", "broken-too"]) {
        ear.hears("that signals may have been missed", &News::Missed(name(entity))).await;
    }
    is_connected(&a).await;
    is_connected(&b).await;
    publish(&b, "broken", "3").await;
    ears[0].hears("a signal after the restart", &news("broken", "3")).await;
    ears[1].hears("the own signal after the restart", &news("broken", "3")).await;
}

async fn a_sink_that_dawdles_delays_no_other_node(rig: &mut dyn Rig) {
    let (a, b) = (rig.node().await, rig.node().await);
    is_connected(&a).await;
    is_connected(&b).await;
    let quick = ear(&a, "slow").await;
    let slow = Arc::new(Ear { dawdle: Some(Duration::from_millis(100)), ..Ear::default() });
    b.subscribe(&name("slow"), Arc::clone(&slow) as Arc<dyn Sink>).await.expect("subscribes");
    let began = Instant::now();
    for n in 0..50 {
        publish(&a, "slow", &n.to_string()).await;
    }
    until("the quick node", || quick.count() >= 50).await;
    assert!(began.elapsed() < Duration::from_secs(4), "a slow sink took {:?} of others", began.elapsed());
    until("the slow node", || slow.count() >= 50).await;
}
