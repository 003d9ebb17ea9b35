//! What others say and hear on the queue, byte by byte, without our clients.

use super::*;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use tidings_engine::bus::{Error, Status};
use uuid::Uuid;

const BODY: &str = r#"{"entity":"items","id":"100"}"#;
/// Messages that are no signals about items.
const NO_SIGNALS: [&str; 5] =
    ["", "[]", r#"{"entity":"items","id":7}"#, r#"{"entity":"users","id":"1"}"#, r#"{"entity":"items"}"#];

/// A plain connection to a queue.
struct Wire(BufReader<TcpStream>);

impl Wire {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn exact(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// A frame of nsqd without its length.
    fn frame(&mut self) -> Vec<u8> {
        let length = u32::from_be_bytes(self.exact(4).try_into().unwrap());
        self.exact(length as usize)
    }

    fn nsq(port: u16) -> Self {
        let mut wire = Self::open(port);
        wire.say("  V2");
        wire
    }

    fn nsq_publish(&mut self, topic: &str, body: &str) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.say([format!("PUB {topic}\n").as_bytes(), &length, body.as_bytes()].concat());
        assert_eq!(self.frame(), b"\0\0\0\0OK");
    }
}

fn http(port: u16, request: &str, body: &str) -> String {
    let mut wire = Wire::open(port);
    let length = body.len();
    wire.say(format!("{request} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}"));
    let mut answer = String::new();
    wire.0.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 OK"), "{answer}");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

fn stats(queue: &Queue) -> serde_json::Value {
    serde_json::from_str(&http(queue.peer.second_port(), "GET /stats?format=json", "")).unwrap()
}

/// The channels of our topic.
fn channels(queue: &Queue, topic: &str) -> Vec<serde_json::Value> {
    let stats = stats(queue);
    let topics = stats["topics"].as_array().cloned().unwrap_or_default();
    let topic = topics.into_iter().find(|t| t["topic_name"] == topic);
    topic.and_then(|t| t["channels"].as_array().cloned()).unwrap_or_default()
}

async fn hears(ear: &Ear, id: &str) {
    until(id, || ear.has(&News::Signal(signal("items", id)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nsq_others_publish_and_everything_else_is_finished_and_counted() {
    let queue = Queue::new(peers::nsqd(&[]).started(), "nsq://", "shop.");
    let bus = queue.bus();
    let ear = Ear::listens(&bus, "items").await;
    http(queue.peer.second_port(), "POST /pub?topic=shop.items", BODY);
    hears(&ear, "100").await;
    let mut wire = Wire::nsq(queue.peer.port());
    for body in NO_SIGNALS.iter().filter(|body| !body.is_empty()) {
        wire.nsq_publish("shop.items", body);
    }
    wire.nsq_publish("shop.items", &"x".repeat(1 << 20));
    wire.nsq_publish("shop.items", r#"{"id":"101","entity":"items","more":[]}"#);
    hears(&ear, "101").await;
    until("all are counted", || bus.ignored() == 5).await;
    let ours = || channels(&queue, "shop.items").remove(0);
    until("all are finished", || ours()["depth"] == 0 && ours()["in_flight_count"] == 0).await;
    let ours = ours();
    assert_eq!((&ours["message_count"], &ours["requeue_count"]), (&7.into(), &0.into()));
    let channel =
        ours["channel_name"].as_str().unwrap().strip_suffix("#ephemeral").expect("an ephemeral channel");
    Uuid::try_parse(channel).expect("a UUID");
    drop(bus);
    until("the channel is gone", || channels(&queue, "shop.items").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nsq_others_hear_what_we_publish() {
    let queue = Queue::new(peers::nsqd(&[]).started(), "nsq://", "");
    let mut wire = Wire::nsq(queue.peer.port());
    wire.say(format!("SUB items {}#ephemeral\n", Uuid::new_v4()));
    assert_eq!(wire.frame(), b"\0\0\0\0OK");
    wire.say("RDY 1\n");
    queue.bus().publish(signal("items", "100")).await.unwrap();
    let frame = wire.frame();
    assert_eq!((&frame[..4], &frame[30..]), (b"\0\0\0\x02".as_slice(), BODY.as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nsq_connections_live_on_while_nothing_happens() {
    let queue = Queue::new(peers::nsqd(&[]).started(), "nsq://", "");
    let bus = queue.bus();
    let ear = Ear::listens(&bus, "items").await;
    ear.0.lock().unwrap().clear();
    // nsqd cuts a connection that leaves two of its heartbeats unanswered.
    let began = Instant::now();
    let mut status = bus.status();
    assert_eq!(*status.borrow_and_update(), Status::Connected);
    until("three heartbeats", || {
        assert!(!status.has_changed().unwrap(), "the connection was lost");
        began.elapsed() > Duration::from_secs(16)
    })
    .await;
    bus.publish(signal("items", "1")).await.unwrap();
    hears(&ear, "1").await;
    assert!(!ear.has(&News::Missed(name("items"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_a_queue_cannot_carry_are_refused() {
    let nsq = Queue::new(peers::nsqd(&[]).started(), "nsq://", "");
    let nats = Queue::new(peers::nats(&[]).started(), "nats://", "");
    for (queue, entities) in [
        (&nsq, ["two words", "käse", "a/b", "a*"].as_slice()),
        (&nats, &["two words", "a.*", ">", "a..b", ".a"]),
    ] {
        let bus = queue.bus();
        for entity in entities {
            let subscribed = bus.subscribe(&name(entity), Arc::new(Ear::default())).await;
            assert!(matches!(subscribed, Err(Error::Name { .. })), "{entity}: {subscribed:?}");
            let published = bus.publish(signal(entity, "1")).await;
            assert!(matches!(published, Err(Error::Name { .. })), "{entity}: {published:?}");
        }
        bus.publish(signal("items", "1")).await.expect("nothing was broken by it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_others_publish_and_hear() {
    let queue = Queue::new(peers::nats(&[]).started(), "nats://", "shop.");
    let bus = queue.bus();
    let ear = Ear::listens(&bus, "items").await;
    let mut wire = Wire::open(queue.peer.port());
    assert!(wire.line().starts_with("INFO "));
    wire.say("CONNECT {\"verbose\":false}\r\nSUB shop.items 1\r\n");
    for body in NO_SIGNALS.iter().chain([&BODY]) {
        wire.say(format!("PUB shop.items {}\r\n{body}\r\n", body.len()));
        assert!(wire.line().starts_with("MSG shop.items 1 "));
        assert_eq!(wire.line(), *body);
    }
    hears(&ear, "100").await;
    assert_eq!(bus.ignored(), NO_SIGNALS.len() as u64);
    bus.publish(signal("items", "100")).await.unwrap();
    wire.line();
    assert_eq!(wire.line(), BODY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_others_publish_and_hear() {
    let queue = Queue::new(peers::redis(&[]).started(), "redis://", "shop:");
    let bus = queue.bus();
    let ear = Ear::listens(&bus, "items").await;
    let (mut speaks, mut listens) = (Wire::open(queue.peer.port()), Wire::open(queue.peer.port()));
    for body in NO_SIGNALS.iter().chain([&BODY]) {
        let length = body.len();
        speaks.say(format!("*3\r\n$7\r\nPUBLISH\r\n$10\r\nshop:items\r\n${length}\r\n{body}\r\n"));
        assert_eq!(speaks.line(), ":1");
    }
    hears(&ear, "100").await;
    assert_eq!(bus.ignored(), NO_SIGNALS.len() as u64);
    listens.say("SUBSCRIBE shop:items\r\n");
    assert_eq!([(); 6].map(|()| listens.line()).join(" "), "*3 $9 subscribe $10 shop:items :1");
    bus.publish(signal("items", "100")).await.unwrap();
    assert_eq!(
        [(); 7].map(|()| listens.line()).join(" "),
        format!("*3 $7 message $10 shop:items $29 {BODY}")
    );
}
