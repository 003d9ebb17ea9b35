//! Esink's interfaces, as its clients use them: Socket.IO with the library from npm, and HTTP.

mod capture;
mod clients;
mod connect;
mod database;
mod environment;
mod mariadb;
mod native;
mod protocol;
mod publish;
mod stuck;
mod tokens;
mod turns;

use crate::harness::Server;
use clients::{Clients, Way};
use reqwest::Response;
use serde_json::{Value, json};
use std::path::PathBuf;

const WAYS: [Way; 3] = [Way::Polling, Way::WebSocket, Way::Both];
/// What `/publish` asks for.
const SECURITY: &str = "the security token of a test";

/// A server whose settings are these lines, with a security token.
async fn server(lines: &str) -> Server {
    Server::start_with(&settings(lines)).await
}

/// Flags that name a file with these lines. The file stays until the process of the tests ends.
fn settings(lines: &str) -> [String; 2] {
    let dir = tempfile::tempdir().unwrap().keep();
    let file: PathBuf = dir.join("settings.toml");
    std::fs::write(&file, lines).unwrap();
    ["--config".into(), file.display().to_string()]
}

/// Settings with a security token and with `lines` in `[esink]`.
fn esink(lines: &str) -> String {
    format!("[esink]\nsecurity_token = \"{SECURITY}\"\n{lines}\n")
}

/// A token of this server for a user who may read what Esink's interface publishes.
async fn token(server: &Server, user: &str) -> String {
    server.token(&["--sub", user, "--subscribe", "esink"]).await
}

/// What `/publish` takes, with changes.
fn change(user: &str, more: Value) -> Value {
    let mut body = json!({
        "data": {"id": 7, "name": "Ada"}, "type": "insert", "table": "users", "userId": user, "securityToken": SECURITY,
    });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    body
}

async fn publish(server: &Server, body: &Value) -> (u16, Value) {
    let request = server.http.post(server.url("/publish")).header("content-type", "application/json");
    json_of(request.body(body.to_string()).send().await.unwrap()).await
}

async fn json_of(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
}
