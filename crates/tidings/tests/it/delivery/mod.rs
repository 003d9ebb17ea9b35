//! Destinations: records, queues, webhooks, copies.

mod clients;
mod copies;
mod queue;
pub mod receiver;
mod records;
mod trouble;
mod webhooks;

use crate::harness::{Server, code, soon, until};
use receiver::Receiver;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

impl Server {
    /// Sends JSON as an admin.
    pub async fn send_json(&self, method: Method, path: &str, body: Value) -> Response {
        self.request(method, path, &self.admin).json(&body).send().await.expect("an answer")
    }

    /// Sends JSON as an admin, and expects success with JSON.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let response = self.send_json(method, path, body).await;
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Creates a destination and answers its path.
    pub async fn destination(&self, fields: Value) -> String {
        let made = self.call(Method::POST, "/v1/destinations", fields).await;
        format!("/v1/destinations/{}", made["id"].as_str().expect("an id"))
    }
}

/// A time as RFC 3339 writes it.
pub fn time_text(s: u64) -> String {
    let words = ["-u", "-d", &format!("@{s}"), "+%Y-%m-%dT%H:%M:%SZ"];
    let done = std::process::Command::new("date").args(words).output();
    String::from_utf8(done.expect("date").stdout).unwrap().trim().to_owned()
}

/// A server whose webhooks may go to this machine and are tried again soon.
pub struct Hooks {
    server: Server,
    _settings: TempDir,
}

impl Hooks {
    pub async fn start() -> Self {
        let settings = tempfile::tempdir().expect("a directory");
        let file = settings.path().join("tidings.toml");
        let text = "[webhooks]\nallow_private_addresses = true\nretry_base_ms = 20\n";
        std::fs::write(&file, text).expect("settings");
        let server = Server::start_to_restart(&["--config", file.to_str().unwrap()]).await;
        Self { server, _settings: settings }
    }

    /// A webhook to `receiver`; answers its path.
    pub async fn hook(&self, name: &str, topic: &str, receiver: &Receiver, more: Value) -> String {
        let mut fields = json!({ "name": name, "topic": topic, "url": receiver.url() });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.destination(fields).await
    }
}

impl Deref for Hooks {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Hooks {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}
