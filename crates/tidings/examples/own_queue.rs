//! Servers on a queue of the program's own: two functions, one publishes bytes, one subscribes to them. Here the
//! queue is a broadcast channel, and the server's doors are part of the program's own router and listener.

use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tidings::{Builder, Config, Nested, OwnQueue, SystemClock};
use tokio::sync::broadcast;

/// A queue: one channel for each topic.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<HashMap<String, broadcast::Sender<bytes::Bytes>>>>);

impl Queue {
    fn topic(&self, name: String) -> broadcast::Sender<bytes::Bytes> {
        let mut topics = self.0.lock().expect("no panic while holding the lock");
        topics.entry(name).or_insert_with(|| broadcast::channel(1000).0).clone()
    }

    fn bus(&self) -> OwnQueue {
        let (out, back) = (self.clone(), self.clone());
        let publish = move |topic, message| {
            let _ = out.topic(topic).send(message);
            std::future::ready(Ok::<(), String>(()))
        };
        let subscribe = move |topic, to: tidings::bus::Own| {
            let mut messages = back.topic(topic).subscribe();
            tokio::spawn(async move {
                loop {
                    match messages.recv().await {
                        Ok(message) => to.message(&message),
                        // Whatever was lost is fetched anew.
                        Err(broadcast::error::RecvError::Lagged(_)) => to.missed(),
                        Err(broadcast::error::RecvError::Closed) => return,
                    }
                }
            });
            std::future::ready(Ok::<(), String>(()))
        };
        OwnQueue::new(publish, subscribe)
    }
}

/// A server on `queue`, and the address where a listener of the program's own serves it under `/live`.
async fn server(
    queue: &Queue,
    dir: &std::path::Path,
) -> Result<(Nested, std::net::SocketAddr), Box<dyn std::error::Error>> {
    let config = Config { data: dir.to_owned(), ..Config::default() };
    let server = Builder::new(config)
        .clock(Arc::new(SystemClock))
        .bus(queue.bus())
        .fetch("report", |key, secret, rows| async move {
            if secret.expose() == "let me in" {
                rows.push(format!("{{\"report\":{:?}}}", key.id.as_str()))?;
                rows.push("{\"author\":\"ann\"}")?;
            }
            Ok::<(), tidings::entity::Error>(())
        })
        .pass_through(|_secret, message: bytes::Bytes| async move { println!("passed through: {message:?}") })
        .nested()
        .await?;
    let app = axum::Router::new().nest("/live", server.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok((server, address))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run().await
}

pub async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (one, other, queue) = (tempfile::tempdir()?, tempfile::tempdir()?, Queue::default());
    let (here, address) = server(&queue, one.path()).await?;
    let (there, _) = server(&queue, other.path()).await?;

    let url = format!("ws://{address}/live/ws/entity-sync/?ack=1");
    let (mut client, _) = tokio_tungstenite::connect_async(url).await?;
    for message in [
        r#"{"action":"secret","body":"let me in"}"#,
        r#"{"foo":1}"#,
        r#"{"action":"subscribe","body":{"id":"7","entity":"report"}}"#,
    ] {
        client.send(message.into()).await?;
    }
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let frame = client.next().await.ok_or("the server went away")??;
        if frame.is_text() {
            seen.push(frame.into_text()?.to_string());
        }
        if seen.len() == 2 {
            // The subscription is acknowledged: the other server says that the report has changed.
            there.tidings().notify_changed("report", "7").await?;
        }
    }
    println!("{seen:#?}");
    assert_eq!(seen[2..], [r#"{"report":"7"}"#, r#"{"author":"ann"}"#]);
    drop(client);
    here.shutdown().await?;
    there.shutdown().await?;
    Ok(())
}
