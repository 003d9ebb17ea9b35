//! The routes, asked as a client asks them, over a log in memory.

mod cloudevents;
mod held;
mod ndjson;
mod openapi;
mod publish;
mod read;
mod rules;
mod socket;

use super::router;
use crate::{Config, Door};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tidings_engine::auth::{Gate, Keys, Secret, UserSettings, Users};
use tidings_engine::{Hub, Services, Tidings};
use tidings_log::memory::MemoryLog;
use tidings_log::{
    Answer, Batch, Bounds, Due, DuePage, DueQuery, Error, Found, Log, ReadMax, Receipt, State, SystemClock,
};
use tidings_model::{Event, Key, Limits, Offset, Timestamp, TopicName, Uuid};
use tower::ServiceExt as _;

/// A server without a socket.
struct Site {
    door: Door,
    router: Router,
    secret: Secret,
    log: Arc<Breakable>,
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: parts.status, headers: parts.headers, body }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The refusal's code, after a check that the answer is a problem of the code's own status.
    #[track_caller]
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()) && problem["title"].is_string());
        problem["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.json()
    }
}

impl Site {
    fn start() -> Self {
        Self::with(Config::default(), Limits::default())
    }

    fn with(config: Config, limits: Limits) -> Self {
        Self::with_users(config, limits, UserSettings::default())
    }

    fn with_users(config: Config, limits: Limits, users: UserSettings) -> Self {
        let hub = Arc::new(Hub::new(&limits));
        let log = MemoryLog::new(Arc::new(SystemClock), Arc::clone(&hub) as _);
        let log = Arc::new(Breakable { log, is_broken: false.into(), follows: 0.into() });
        let tidings = Tidings::new(Arc::clone(&log) as _, hub, Arc::new(SystemClock), limits);
        let secret = Secret::new(b"a secret of more than 32 characters".to_vec());
        let users = Users::new(tidings.clone(), users, secret.clone());
        let gate = Gate::new(Keys::default().own(&secret), users);
        let door = Door::new(tidings, gate, config, Services::new());
        Self { router: router(door.clone()), door, secret, log }
    }

    /// A token with these claims, valid for an hour.
    fn token(&self, mut claims: Value) -> String {
        let exp =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
        claims["exp"] = claims.get("exp").cloned().unwrap_or(exp.into());
        self.secret.sign(&claims).unwrap()
    }

    fn admin(&self) -> String {
        self.token(json!({ "admin": true }))
    }

    fn anyone(&self) -> String {
        self.token(json!({ "topics": "*" }))
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, method: &str, uri: &str, token: &str, body: impl Into<Body>) -> Reply {
        self.ask_with(method, uri, token, &[], body).await
    }

    async fn ask_with(
        &self,
        method: &str,
        uri: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(uri);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Reply::of(self.send(request.body(body.into()).unwrap()).await).await
    }

    async fn get(&self, uri: &str) -> Reply {
        self.ask("GET", uri, &self.anyone(), Body::empty()).await
    }

    async fn publish(&self, topic: &str, body: impl Into<Body>) -> Reply {
        self.ask("POST", &format!("/v1/topics/{topic}/events"), &self.anyone(), body).await
    }

    async fn publish_as(&self, kind: &str, topic: &str, body: impl Into<Body>) -> Reply {
        let uri = format!("/v1/topics/{topic}/events");
        self.ask_with("POST", &uri, &self.anyone(), &[("content-type", kind)], body).await
    }

    /// The `data` of all events of a topic.
    async fn data(&self, topic: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/topics/{topic}/events?limit=1000")).await;
        if page.status == StatusCode::NOT_FOUND {
            return Vec::new();
        }
        page.ok()["events"].as_array().unwrap().iter().map(|e| e["data"].clone()).collect()
    }
}

/// A log whose writes can be made to fail.
struct Breakable {
    log: MemoryLog,
    is_broken: AtomicBool,
    /// How often its followers were woken.
    follows: AtomicUsize,
}

impl Breakable {
    fn break_it(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
    }
}

impl Log for Breakable {
    fn commit(&self, batch: Batch) -> Answer<'_, Receipt> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Box::pin(async { Err(Error::ReadOnly("disk sda1 failed".into())) });
        }
        self.log.commit(batch)
    }

    fn follow(&self) {
        self.follows.fetch_add(1, Ordering::SeqCst);
    }

    fn bounds(&self, topic: &TopicName) -> Option<Bounds> {
        self.log.bounds(topic)
    }

    fn topic_count(&self) -> usize {
        self.log.topic_count()
    }

    fn topics(&self, after: Option<&TopicName>, max: usize) -> Answer<'_, Vec<(TopicName, Bounds)>> {
        self.log.topics(after, max)
    }

    fn read(&self, topic: &TopicName, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>> {
        assert_ne!(topic.as_str(), "panic", "the test wants a panic");
        if topic.as_str() == "faulty" {
            return Box::pin(async { Err(Error::Store { doing: "reading".into(), what: "sda1".into() }) });
        }
        self.log.read(topic, after, max)
    }

    fn read_key(&self, topic: &TopicName, key: &Key, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>> {
        self.log.read_key(topic, key, after, max)
    }

    fn read_audience(
        &self,
        topic: &TopicName,
        user: Option<&str>,
        after: Offset,
        max: ReadMax,
    ) -> Answer<'_, Found> {
        self.log.read_audience(topic, user, after, max)
    }

    fn state_audience(&self, topic: &TopicName, user: Option<&str>) -> Answer<'_, State> {
        self.log.state_audience(topic, user)
    }

    fn state(&self, topic: &TopicName, key: Option<&Key>) -> Answer<'_, State> {
        if topic.as_str() == "behind" {
            return Box::pin(async { Err(Error::IndexBehind) });
        }
        self.log.state(topic, key)
    }

    fn read_at(&self, topic: &TopicName, offsets: &[Offset], max: ReadMax) -> Answer<'_, Vec<Event>> {
        self.log.read_at(topic, offsets, max)
    }

    fn at_time(&self, topic: &TopicName, at: Timestamp) -> Answer<'_, Offset> {
        self.log.at_time(topic, at)
    }

    fn at_size(&self, topic: &TopicName, bytes: u64) -> Answer<'_, Offset> {
        self.log.at_size(topic, bytes)
    }

    fn due(&self, query: DueQuery, max: ReadMax) -> Answer<'_, DuePage> {
        self.log.due(query, max)
    }

    fn due_by_id(&self, id: Uuid) -> Answer<'_, Option<Due>> {
        self.log.due_by_id(id)
    }

    fn due_next(&self) -> Answer<'_, Option<Timestamp>> {
        self.log.due_next()
    }

    fn mark(&self, name: &str) -> Answer<'_, Option<Bytes>> {
        self.log.mark(name)
    }

    fn registry(&self, kind: &str) -> Answer<'_, Vec<(String, Bytes)>> {
        self.log.registry(kind)
    }

    fn registry_page(&self, kind: &str, after: Option<&str>, max: usize) -> Answer<'_, Vec<(String, Bytes)>> {
        self.log.registry_page(kind, after, max)
    }

    fn registered(&self, kind: &str, key: &str) -> Answer<'_, Option<Bytes>> {
        self.log.registered(kind, key)
    }

    fn read_only(&self) -> Option<String> {
        self.is_broken.load(Ordering::SeqCst).then(|| "disk sda1 failed".into())
    }

    fn close(&self) -> Answer<'_, ()> {
        self.log.close()
    }
}
