//! Broker's interface, as its clients use it.

mod clients;
mod durable;
mod flags;
mod interface;
mod reach;
mod refusals;
mod stream;

use crate::harness::{Server, now_s, soon};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";
/// A flag of Broker's: with it users may sign up.
const OPEN: [&str; 2] = ["--expiry", "3600"];

/// A user who is logged in.
struct User {
    id: String,
    token: String,
}

/// Signs up and logs in.
async fn user(server: &Server, name: &str, collection: &str) -> User {
    let body = json!({"username": name, "password": "correct horse", "collection_id": collection});
    let id = json_of(post(server, "/users", "", &body).await, 200).await["id"].as_str().unwrap().to_owned();
    let token =
        json_of(post(server, "/login", "", &body).await, 200).await["jwt"].as_str().unwrap().to_owned();
    User { id, token }
}

/// Posts JSON; an empty token is none.
async fn post(server: &Server, path: &str, token: &str, body: &Value) -> Response {
    let mut request = server.http.post(server.url(path)).header("content-type", "application/json");
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    request.body(body.to_string()).send().await.expect("an answer")
}

async fn get(server: &Server, path: &str, token: &str) -> Response {
    server.request(Method::GET, path, token).send().await.expect("an answer")
}

#[track_caller]
fn json_of(response: Response, status: u16) -> impl Future<Output = Value> {
    let found = response.status().as_u16();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    async move {
        let body = response.text().await.expect("a body");
        assert_eq!((found, kind.as_str()), (status, "application/json"), "{body}");
        serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"))
    }
}

fn now() -> i64 {
    now_s() as i64
}

/// Inserts an event, and answers it as the server accepted it.
async fn insert(server: &Server, token: &str, name: &str, key: &str, at: i64, data: Value) -> Value {
    let body = json!({"event": name, "collection_id": key, "timestamp": at, "data": data});
    json_of(post(server, "/insert", token, &body).await, 200).await["event"].clone()
}

async fn collection(server: &Server, token: &str, key: &str) -> Vec<Value> {
    let path = format!("/collections/{key}");
    json_of(get(server, &path, token).await, 200).await["events"].as_array().expect("a list").clone()
}

/// A stream of states.
struct Events {
    response: Response,
    text: Vec<u8>,
}

/// One frame.
#[derive(Debug)]
struct Frame {
    id: String,
    name: String,
    state: Value,
    came_at: Instant,
}

impl Events {
    async fn open(server: &Server, token: &str) -> Self {
        let response = get(server, "/events", token).await;
        assert_eq!(response.status(), 200);
        Self { response, text: Vec::new() }
    }

    async fn next(&mut self) -> Frame {
        soon("a frame", self.try_next()).await.expect("the stream goes on")
    }

    /// `None` when the stream has ended.
    async fn try_next(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = self.text.drain(..end + 2).collect();
                return Some(Frame::parse(String::from_utf8(frame).expect("text")));
            }
            self.text.extend_from_slice(&self.response.chunk().await.ok()??);
        }
    }

    /// The next state of `name` for which `is` holds.
    async fn state(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> Frame {
        loop {
            let frame = self.next().await;
            if frame.name == name && is(&frame.state) {
                return frame;
            }
        }
    }

    /// Nothing comes for this long.
    async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.try_next()).await.is_err()
    }
}

impl Frame {
    /// In the only form that Broker's own client reads rightly, whatever the data.
    fn parse(text: String) -> Self {
        assert!(text.is_ascii(), "{text}");
        let lines: Vec<&str> =
            text.trim_start_matches('\n').strip_suffix("\n\n").unwrap().split('\n').collect();
        let [id, "retry:5000", name, data] = lines[..] else { panic!("not a frame: {text:?}") };
        let field =
            |line: &str, name: &str| line.strip_prefix(name).unwrap_or_else(|| panic!("{text}")).to_owned();
        Self {
            id: field(id, "id:"),
            name: field(name, "event:"),
            state: serde_json::from_str(&field(data, "data:")).expect("JSON"),
            came_at: Instant::now(),
        }
    }

    /// The data of each collection's latest event, the newest first.
    fn data(&self) -> Vec<Value> {
        self.state["events"].as_array().unwrap().iter().map(|event| event["data"].clone()).collect()
    }
}
