//! A queue that hangs: connections stand, connections are made, and nothing is answered.

use super::*;
use tidings_engine::bus::{ANSWER_WITHIN, Status};

async fn is_told_and_left(queue: Queue) {
    let bus = queue.bus();
    let ear = Ear::listens(&bus, "items").await;
    bus.publish(signal("items", "1")).await.expect("it works");
    queue.peer.freeze();
    let asked = Instant::now();
    let error = bus.publish(signal("items", "2")).await.expect_err("nobody answers");
    assert!(error.retryable() && asked.elapsed() < ANSWER_WITHIN + Duration::from_secs(1), "{error}");
    let mut status = bus.status();
    let lost = status.wait_for(|status| matches!(status, Status::Lost { .. }));
    tokio::time::timeout(PATIENCE, lost).await.expect("in time").expect("the bus lives");
    ear.0.lock().unwrap().clear();
    queue.peer.thaw();
    until("signals may have been missed", || ear.has(&News::Missed(name("items")))).await;
    bus.publish(signal("items", "3")).await.expect("it works again");
    until("a later signal", || ear.has(&News::Signal(signal("items", "3")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_that_hangs_is_told_and_left() {
    is_told_and_left(Queue::new(peers::nats(&[]).started(), "nats://", "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nsq_that_hangs_is_told_and_left() {
    is_told_and_left(Queue::new(peers::nsqd(&[]).started(), "nsq://", "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_hangs_is_told_and_left() {
    is_told_and_left(Queue::new(peers::redis(&[]).started(), "redis://", "")).await;
}
