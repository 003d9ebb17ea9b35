//! Every queue passes the suite of buses, and what is particular to each.

mod hang;
mod third_party;

use peers::Peer;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidings_drivers::bus::{QueueBus, Settings, open};
use tidings_engine::Services;
use tidings_engine::bus::conformance::{Done, Rig, suite};
use tidings_engine::bus::{Bus, News, Signal, Sink};
use tidings_model::{EntityKey, TopicName};

const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes on one real queue.
struct Queue {
    peer: Peer,
    url: String,
    prefix: &'static str,
    services: Services,
}

impl Queue {
    fn new(peer: Peer, scheme: &str, prefix: &'static str) -> Self {
        let url = format!("{scheme}127.0.0.1:{}", peer.port());
        Self { peer, url, prefix, services: Services::new() }
    }

    fn bus(&self) -> Arc<QueueBus> {
        let settings = Settings { url: self.url.clone(), prefix: self.prefix.to_owned() };
        open(&settings, &self.services).expect("good settings")
    }
}

impl Rig for Queue {
    fn node(&mut self) -> Done<'_, Arc<dyn Bus>> {
        let bus: Arc<dyn Bus> = self.bus();
        Box::pin(std::future::ready(bus))
    }

    fn kill(&mut self) -> Done<'_, bool> {
        self.peer.kill();
        Box::pin(std::future::ready(true))
    }

    fn restart(&mut self) -> Done<'_, ()> {
        self.peer.start();
        Box::pin(std::future::ready(()))
    }
}

/// What a bus has heard.
#[derive(Default)]
struct Ear(Mutex<Vec<News>>);

impl Sink for Ear {
    fn hear(&self, news: News) {
        self.0.lock().unwrap().push(news);
    }
}

impl Ear {
    async fn listens(bus: &QueueBus, entity: &str) -> Arc<Self> {
        let ear = Arc::new(Self::default());
        bus.subscribe(&name(entity), Arc::clone(&ear) as Arc<dyn Sink>).await.expect("subscribes");
        ear
    }

    fn has(&self, news: &News) -> bool {
        self.0.lock().unwrap().contains(news)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_passes_the_suite() {
    suite(&mut Queue::new(peers::nats(&[]).started(), "nats://", "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_with_a_password_and_a_prefix_passes_the_suite() {
    let peer = peers::nats(&["--user", "me", "--pass", "p@ss/word"]).started();
    suite(&mut Queue::new(peer, "nats://me:p%40ss%2Fword@", "shop.")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nsq_passes_the_suite() {
    suite(&mut Queue::new(peers::nsqd(&[]).started(), "nsq://", "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_passes_the_suite() {
    suite(&mut Queue::new(peers::redis(&[]).started(), "redis://", "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_a_password_and_a_prefix_passes_the_suite() {
    let peer = peers::redis(&["--requirepass", "p@ss"]).started();
    suite(&mut Queue::new(peer, "redis://:p%40ss@", "shop:")).await;
}
