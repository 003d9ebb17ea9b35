//! A small WebSocket client.

use super::{Server, soon};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub struct Ws {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The close frame's code and reason, once it has come.
    pub closed: Option<(u16, String)>,
}

impl Ws {
    pub async fn open(server: &Server, token: Option<&str>) -> Self {
        Self::try_open(server, token).await.expect("an upgrade")
    }

    pub async fn try_open(server: &Server, token: Option<&str>) -> Result<Self, Error> {
        Self::try_open_at(&server.url("/v1/ws"), token).await
    }

    pub async fn try_open_at(url: &str, token: Option<&str>) -> Result<Self, Error> {
        let mut request = url.replacen("http", "ws", 1).into_client_request()?;
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        let (stream, _) = soon("an upgrade", tokio_tungstenite::connect_async(request)).await?;
        Ok(Self { stream, closed: None })
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send_raw(Message::text(text)).await;
    }

    /// Sends anything; that the connection has ended shows when reading.
    pub async fn send_raw(&mut self, message: Message) {
        let _ = self.stream.send(message).await;
    }

    /// The next frame; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match soon("a frame", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(frame))) => {
                    self.closed = frame.map(|f| (f.code.into(), f.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Reads on to a frame with this `op`.
    pub async fn op(&mut self, op: &str) -> Value {
        loop {
            let frame = self.next().await.unwrap_or_else(|| panic!("ended without {op}: {:?}", self.closed));
            assert!(frame["op"] != "error" || op == "error", "{frame}");
            if frame["op"] == op {
                return frame;
            }
        }
    }

    /// Subscribes and waits for the answer.
    pub async fn subscribe(&mut self, topic: &str, from: &str) -> Value {
        self.send(json!({"op": "subscribe", "ref": "s", "topic": topic, "from": from})).await;
        self.op("subscribed").await
    }

    /// The next event; `None` when the connection has ended. Also gives its cursor.
    pub async fn try_event(&mut self) -> Option<(String, Value)> {
        loop {
            let mut frame = self.next().await?;
            assert!(frame["op"] != "gap" && frame["op"] != "error", "{frame}");
            if frame["op"] == "event" {
                let cursor = frame["cursor"].as_str().expect("a cursor").to_owned();
                return Some((cursor, frame["event"].take()));
            }
        }
    }

    pub async fn event(&mut self) -> Value {
        self.try_event().await.expect("the connection goes on").1
    }

    /// Reads to the end and returns the close frame.
    pub async fn end(&mut self) -> (u16, String) {
        while self.next().await.is_some() {}
        self.closed.clone().expect("a close frame")
    }
}
