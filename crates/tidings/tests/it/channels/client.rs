//! Phoenix's own clients from npm, driven from here.

use crate::harness::{Server, soon};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A node process with sockets of either client.
pub struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What was said and not asked for yet.
    said: Vec<Value>,
}

impl Node {
    pub fn start() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../js/compat/phoenix");
        let found = dir.join("node_modules").exists();
        assert!(found, "`cargo xtask test` installs the clients (npm ci in {})", dir.display());
        let mut command = Command::new("node");
        command.arg(dir.join("client.mjs")).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines, said: Vec::new() }
    }

    pub async fn tell(&mut self, command: Value) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(format!("{command}\n").as_bytes()).await.expect("node listens");
    }

    /// The first that `what` was said of this socket (or of all), now or later.
    pub async fn hear(&mut self, what: &str, socket: &str) -> Value {
        let is_it = |said: &Value| said["what"] == what && (socket.is_empty() || said["socket"] == socket);
        if let Some(i) = self.said.iter().position(is_it) {
            return self.said.remove(i);
        }
        loop {
            let line = soon(what, self.lines.next_line()).await.expect("text").expect("node goes on");
            let said: Value = serde_json::from_str(&line).expect("JSON");
            if is_it(&said) {
                return said;
            }
            self.said.push(said);
        }
    }

    pub async fn connect(&mut self, server: &Server, socket: &str, version: u8) {
        let url = server.url("");
        self.tell(json!({"do": "connect", "socket": socket, "version": version, "url": url})).await;
        self.hear("open", socket).await;
    }

    pub async fn try_join(&mut self, socket: &str, topic: &str, params: Value) {
        self.tell(json!({"do": "join", "socket": socket, "topic": topic, "params": params})).await;
    }

    /// Joins, and answers with the response.
    pub async fn join(&mut self, socket: &str, topic: &str, token: &str) -> Value {
        self.try_join(socket, topic, json!({"token": token})).await;
        self.hear("joined", socket).await["response"].take()
    }

    /// Why a join is refused.
    pub async fn refused(&mut self, socket: &str, topic: &str, params: Value) -> Value {
        self.try_join(socket, topic, params).await;
        let mut refused = self.hear("refused", socket).await;
        assert_eq!(refused["topic"], topic);
        // The client would try again for ever.
        self.tell(json!({"do": "leave", "socket": socket, "topic": topic})).await;
        refused["response"].take()
    }

    /// The next event pushed to that socket, with its channel.
    pub async fn event(&mut self, socket: &str) -> (String, Value) {
        let mut said = self.hear("event", socket).await;
        assert_eq!(said["event"], "event:published");
        (said["topic"].as_str().expect("a name").to_owned(), said["payload"].take())
    }

    /// The answer to a push.
    pub async fn push(&mut self, socket: &str, topic: &str, event: &str, payload: Value) -> (String, Value) {
        let command =
            json!({"do": "push", "socket": socket, "topic": topic, "event": event, "payload": payload});
        self.tell(command).await;
        let mut reply = self.hear("reply", socket).await;
        (reply["status"].as_str().expect("a status").to_owned(), reply["response"].take())
    }
}
