//! socket.io-client from npm, unmodified, as a test drives it: in Node, or in a page of Chromium.

use crate::harness::{PATIENCE, soon};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How a client reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Polling,
    WebSocket,
    /// Long polling first, as the library does by itself.
    Both,
}

impl Way {
    fn transports(self) -> Value {
        match self {
            Self::Polling => json!(["polling"]),
            Self::WebSocket => json!(["websocket"]),
            Self::Both => json!(["polling", "websocket"]),
        }
    }
}

/// One process with any number of sockets, each known by a name.
pub struct Clients {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Reports that nobody has asked for yet.
    seen: Vec<Value>,
    next_ref: u64,
}

impl Clients {
    pub fn node() -> Self {
        Self::start("client.mjs")
    }

    /// In a page; with the origin of it, which a server must let in.
    pub async fn page() -> (Self, String) {
        let mut clients = Self::start("browser.mjs");
        let origin = clients.event("page", "origin").await["args"][0].as_str().unwrap().to_owned();
        (clients, origin)
    }

    fn start(script: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../js/compat/socketio");
        let place = dir.display();
        assert!(
            dir.join("node_modules").exists(),
            "`cargo xtask test` installs the clients (npm ci in {place})"
        );
        let mut command = Command::new("node");
        command.arg(dir.join(script)).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines(), seen: Vec::new(), next_ref: 0 }
    }

    async fn command(&mut self, command: Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.expect("the script reads");
    }

    pub async fn connect(&mut self, name: &str, url: &str, way: Way, auth: Value) {
        let transports = way.transports();
        let connect =
            json!({"op": "connect", "name": name, "url": url, "transports": transports, "auth": auth});
        self.command(connect).await;
    }

    /// Connects, and waits for the verdict that the client is in.
    pub async fn enter(&mut self, name: &str, url: &str, way: Way, token: &str) -> Value {
        self.connect(name, url, way, json!({ "token": token })).await;
        self.event(name, "connected").await
    }

    pub async fn emit(&mut self, name: &str, event: &str, args: Value) {
        self.command(json!({"op": "emit", "name": name, "event": event, "args": args})).await;
    }

    /// Emits, and waits for the acknowledgement.
    pub async fn ask(&mut self, name: &str, event: &str, args: Value) -> Value {
        self.next_ref += 1;
        let reference = self.next_ref;
        let emit = json!({"op": "emit", "name": name, "event": event, "args": args, "ref": reference});
        self.command(emit).await;
        self.take(|seen| seen["name"] == name && seen["ack"] == reference).await["args"][0].clone()
    }

    pub async fn cut(&mut self, name: &str, auth: Option<Value>) {
        let mut cut = json!({"op": "cut", "name": name});
        if let Some(auth) = auth {
            cut["auth"] = auth;
        }
        self.command(cut).await;
    }

    /// Changes what the library shows when it connects again by itself.
    pub async fn renew(&mut self, name: &str, auth: Value) {
        self.command(json!({"op": "renew", "name": name, "auth": auth})).await;
    }

    pub async fn disconnect(&mut self, name: &str) {
        self.command(json!({"op": "disconnect", "name": name})).await;
    }

    /// The next report of `event` at `name`, whatever else came before.
    pub async fn event(&mut self, name: &str, event: &str) -> Value {
        self.take(|seen| seen["name"] == name && seen["event"] == event).await
    }

    /// The next report of anything at `name` that the server has emitted.
    pub async fn any(&mut self, name: &str) -> Value {
        let own = ["connect", "transport", "disconnect", "connect_error"];
        self.take(|seen| seen["name"] == name && !own.iter().any(|own| seen["event"] == *own)).await
    }

    async fn take(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.seen.iter().position(&is) {
            return self.seen.remove(at);
        }
        let read = async {
            loop {
                let line = self.lines.next_line().await.expect("text").expect("the script goes on");
                let report: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
                if is(&report) {
                    return report;
                }
                self.seen.push(report);
            }
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(found) => found,
            Err(_) => panic!("not within {PATIENCE:?}; so far: {:#?}", self.seen),
        }
    }

    /// Ends the process; nothing of it stays.
    pub async fn end(mut self) {
        drop(self.stdin);
        assert!(soon("the clients' end", self.child.wait()).await.unwrap().success());
    }
}
