//! Far more at once than one write to a socket takes, for many readers who stand at the same place.

use crate::harness::{Server, Sse, Ws, soon};
use serde_json::{Value, json};

const READERS: usize = 25;
const EVENTS: u64 = 250;
const EVENT_BYTES: usize = 10_000;

/// What every event of the burst says.
fn data(n: u64) -> Value {
    // Not all the same, so that a part that comes twice or in another place shows.
    json!({"n": n, "body": format!("{n} ").repeat(EVENT_BYTES / 4)})
}

fn check(event: &Value, n: u64) {
    assert_eq!((&event["offset"], &event["data"]["n"]), (&json!(n + 2), &json!(n)));
    assert!(event["data"] == data(n), "event {n} is another");
}

/// As many over SSE as over WebSockets, all of whom have read the first event.
async fn readers(server: &Server) -> (Vec<Sse>, Vec<Ws>) {
    server.publish("t", &[json!("first")]).await;
    let (mut streams, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..READERS {
        let (mut stream, mut socket) =
            (server.sse("t", "from=earliest").await, server.ws(&server.admin).await);
        socket.subscribe("t", "earliest").await;
        assert_eq!(
            (stream.event().await["offset"].as_u64(), socket.event().await["offset"].as_u64()),
            (Some(1), Some(1))
        );
        streams.push(stream);
        sockets.push(socket);
    }
    (streams, sockets)
}

/// All of them read at once, and all the way.
async fn read((streams, sockets): (Vec<Sse>, Vec<Ws>)) {
    let mut reading = Vec::new();
    for mut stream in streams {
        reading.push(tokio::spawn(async move {
            for n in 0..EVENTS {
                check(&stream.event().await, n);
            }
        }));
    }
    for mut socket in sockets {
        reading.push(tokio::spawn(async move {
            for n in 0..EVENTS {
                check(&socket.event().await, n);
            }
        }));
    }
    for reader in reading {
        soon("a reader to get everything", reader).await.expect("it gets everything");
    }
}

#[tokio::test]
async fn a_batch_of_megabytes_reaches_all_who_stand_at_the_same_place() {
    let server = Server::start().await;
    let readers = readers(&server).await;
    let all: Vec<Value> = (0..EVENTS).map(data).collect();
    server.publish("t", &all).await;
    read(readers).await;
}

#[tokio::test]
async fn megabytes_one_after_the_other_reach_all_who_did_not_read_meanwhile() {
    let server = Server::start().await;
    let readers = readers(&server).await;
    for n in 0..EVENTS {
        server.publish("t", &[data(n)]).await;
    }
    read(readers).await;
}
