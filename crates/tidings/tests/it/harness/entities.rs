//! A client of entity-sync, and an application whose endpoint serves rows.

use super::{PATIENCE, Server, soon};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// One WebSocket client.
pub struct Es {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub pings: usize,
    pub closed: Option<u16>,
}

impl Es {
    pub async fn open(server: &Server, query: &str) -> Self {
        Self::at(&server.url(&format!("/ws/entity-sync/{query}"))).await
    }

    pub async fn at(url: &str) -> Self {
        Self::try_at(url, &[]).await.expect("an upgrade")
    }

    pub async fn try_at(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = url.replacen("http", "ws", 1).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let (stream, _) = soon("an upgrade", tokio_tungstenite::connect_async(request)).await?;
        Ok(Self { stream, pings: 0, closed: None })
    }

    pub async fn say(&mut self, message: impl Into<Message>) {
        let _ = self.stream.send(message.into()).await;
    }

    pub async fn action(&mut self, action: &str, body: Value) {
        self.say(json!({"action": action, "body": body}).to_string()).await;
    }

    pub async fn subscribe(&mut self, entity: &str, id: &str) {
        self.action("subscribe", json!({"id": id, "entity": entity})).await;
    }

    /// The next text frame; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<String> {
        soon("a frame", self.next_whenever()).await
    }

    async fn next_whenever(&mut self) -> Option<String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(frame))) => self.closed = frame.map(|f| f.code.into()),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub async fn frame(&mut self) -> String {
        self.next().await.expect("the connection goes on")
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.frame().await).expect("JSON")
    }

    /// Reads until `last` comes, and answers everything before it.
    pub async fn until(&mut self, last: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let frame = self.frame().await;
            if frame == last {
                return before;
            }
            before.push(frame);
        }
    }

    /// Waits until the connection has ended by itself.
    pub async fn end(&mut self) -> Option<u16> {
        while self.next().await.is_some() {}
        self.closed
    }

    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }
}

/// An application with an endpoint: `GET /NAME/ID` answers with rows, and notes who asked.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    port: u16,
    rows: Mutex<HashMap<String, Vec<String>>>,
    /// Path and secret of every request, in order of arrival.
    asked: Mutex<Vec<(String, String)>>,
    /// While set, answers wait.
    held: Mutex<bool>,
    released: Notify,
    posted: Mutex<Vec<(String, String)>>,
    only_secret: Mutex<Option<String>>,
    fails: Mutex<bool>,
}

impl App {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let app = Self(Arc::new(Inner {
            port: listener.local_addr().expect("bound").port(),
            rows: Mutex::default(),
            asked: Mutex::default(),
            held: Mutex::new(false),
            released: Notify::new(),
            posted: Mutex::default(),
            only_secret: Mutex::default(),
            fails: Mutex::new(false),
        }));
        let own = app.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let own = own.clone();
                tokio::spawn(async move { own.serve(socket).await });
            }
        });
        app
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.0.port)
    }

    /// The JSON rows that a path has from now on.
    pub fn set(&self, path: &str, rows: &[Value]) {
        let rows = rows.iter().map(Value::to_string).collect();
        self.0.rows.lock().unwrap().insert(path.into(), rows);
    }

    /// Everybody else is refused.
    pub fn only(&self, secret: &str) {
        *self.0.only_secret.lock().unwrap() = Some(secret.into());
    }

    pub fn fail(&self, fails: bool) {
        *self.0.fails.lock().unwrap() = fails;
    }

    pub fn hold(&self) {
        *self.0.held.lock().unwrap() = true;
    }

    pub fn release(&self) {
        *self.0.held.lock().unwrap() = false;
        self.0.released.notify_waiters();
    }

    pub fn asked(&self) -> Vec<(String, String)> {
        self.0.asked.lock().unwrap().clone()
    }

    pub fn asked_for(&self, path: &str) -> usize {
        self.asked().iter().filter(|(own, _)| own == path).count()
    }

    /// Bodies that were posted, with the secret.
    pub fn posted(&self) -> Vec<(String, String)> {
        self.0.posted.lock().unwrap().clone()
    }

    /// One request after the other on a connection (HTTP/1.1).
    async fn serve(&self, mut socket: TcpStream) {
        let mut text = Vec::new();
        loop {
            let head_end = loop {
                if let Some(i) = text.windows(4).position(|w| w == b"\r\n\r\n") {
                    break i + 4;
                }
                let mut some = [0; 4096];
                match socket.read(&mut some).await {
                    Ok(n) if n > 0 => text.extend_from_slice(&some[..n]),
                    _ => return,
                }
            };
            let head = String::from_utf8_lossy(&text[..head_end]).into_owned();
            let value = |name: &str| {
                head.lines()
                    .filter_map(|l| l.split_once(':'))
                    .find_map(|(own, value)| own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
            };
            let length: usize = value("content-length").map_or(0, |n| n.parse().expect("a length"));
            while text.len() < head_end + length {
                let mut some = [0; 4096];
                match socket.read(&mut some).await {
                    Ok(n) if n > 0 => text.extend_from_slice(&some[..n]),
                    _ => return,
                }
            }
            let body = String::from_utf8_lossy(&text[head_end..head_end + length]).into_owned();
            text.drain(..head_end + length);
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let secret = value("x-entity-secret").unwrap_or_default();
            let answer = self.answer(method, path, secret, body).await;
            if socket.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, method: &str, path: &str, secret: String, body: String) -> Vec<u8> {
        let say = |status: &str, body: &str| {
            let kind = "content-type: application/json";
            format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        };
        if method == "POST" {
            self.0.posted.lock().unwrap().push((body, secret));
            return say("200 OK", "");
        }
        // What is stored when the request comes is what it gets, however long the answer takes.
        let rows = self.0.rows.lock().unwrap().get(path).cloned();
        self.0.asked.lock().unwrap().push((path.into(), secret.clone()));
        loop {
            let released = self.0.released.notified();
            if !*self.0.held.lock().unwrap() {
                break;
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), released).await;
        }
        if *self.0.fails.lock().unwrap() {
            return say("500 Internal Server Error", "");
        }
        if self.0.only_secret.lock().unwrap().as_ref().is_some_and(|only| *only != secret) {
            return say("403 Forbidden", "");
        }
        match rows {
            None => say("404 Not Found", ""),
            Some(rows) => say("200 OK", &format!("[{}]", rows.join(","))),
        }
    }
}

/// The number that a metric shows.
pub async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").await.text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |n| n.parse().expect("a number"))
}

/// Says over HTTP that an entity has changed.
pub async fn changed(server: &Server, entity: &str, id: &str) {
    let path = format!("/v1/entities/{entity}/{id}/changed");
    let request = server.request(reqwest::Method::POST, &path, &server.admin);
    let response = tokio::time::timeout(PATIENCE, request.send()).await.expect("in time").expect("an answer");
    assert_eq!(response.status(), 204, "{}", response.text().await.unwrap_or_default());
}

/// Waits until the server counts so many subscriptions to `entity`.
pub async fn subscriptions(server: &Server, entity: &str, count: u64) {
    let name = format!("tidings_entity_subscriptions{{entity=\"{entity}\"}}");
    super::until("the subscriptions to be counted", || async { metric(server, &name).await == count }).await;
}
