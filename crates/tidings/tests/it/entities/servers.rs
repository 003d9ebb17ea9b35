//! Several server processes on one real queue: a change told to one reaches the clients of all.

use super::ITEMS;
use crate::harness::entities::{App, Es, changed, subscriptions};
use crate::harness::{Program, Server, code, soon, until};
use peers::Peer;
use reqwest::Method;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};

struct Node {
    server: Server,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn start(app: &App, bus: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("tidings.toml");
        std::fs::write(&path, ITEMS.replace("APP", &app.url(""))).expect("a file");
        let args = ["--config", path.to_str().expect("text"), "--bus", bus];
        Self { server: Server::start_with(&args).await, _dir: dir }
    }

    async fn client(&self) -> Es {
        let mut client = Es::open(&self.server, "?ack=1").await;
        client.subscribe("items", "100").await;
        assert_eq!(client.json().await["action"], "subscribed");
        client
    }

    async fn is_ready(&self) -> bool {
        let ready = self.server.http.get(self.server.url("/readyz")).send().await.expect("an answer");
        ready.status() == 200
    }

    async fn change(&self) -> reqwest::Response {
        let path = "/v1/entities/items/100/changed";
        self.server.request(Method::POST, path, &self.server.admin).send().await.expect("an answer")
    }
}

/// Two servers, a third that comes later, and the queue killed and started again.
async fn servers_share(scheme: &str, mut queue: Peer) {
    let app = App::start().await;
    app.set("/items/100", &[json!("first")]);
    let bus = format!("{scheme}://127.0.0.1:{}", queue.port());
    let (a, b) = (Node::start(&app, &bus).await, Node::start(&app, &bus).await);
    let (mut at_a, mut at_b) = (a.client().await, b.client().await);
    changed(&a.server, "items", "100").await;
    assert_eq!((at_a.frame().await, at_b.frame().await), ("\"first\"".into(), "\"first\"".into()));
    assert_eq!(app.asked_for("/items/100"), 2, "one fetch for each server");

    let c = Node::start(&app, &bus).await;
    let mut at_c = c.client().await;
    app.set("/items/100", &[json!("second")]);
    changed(&c.server, "items", "100").await;
    for client in [&mut at_a, &mut at_b, &mut at_c] {
        assert_eq!(client.frame().await, "\"second\"", "once each");
    }

    queue.kill();
    for node in [&a, &b, &c] {
        until("the loss to be told", || async { !node.is_ready().await }).await;
    }
    app.set("/items/100", &[json!("while it was down")]);
    assert_eq!(code(b.change().await).await, (503, "bus_unavailable".into()));
    assert_eq!(at_b.frame().await, "\"while it was down\"", "its own clients were told");
    queue.start();
    for (node, client) in [(&a, &mut at_a), (&b, &mut at_b), (&c, &mut at_c)] {
        until("the server to be ready again", || node.is_ready()).await;
        assert_eq!(client.frame().await, "\"while it was down\"", "nothing stays stale");
    }
    app.set("/items/100", &[json!("third")]);
    changed(&a.server, "items", "100").await;
    for client in [&mut at_a, &mut at_b, &mut at_c] {
        client.until("\"third\"").await;
    }
    for client in [at_a, at_b, at_c] {
        client.close().await;
    }
    subscriptions(&a.server, "items", 0).await;
}

#[tokio::test]
async fn servers_share_nats() {
    servers_share("nats", peers::nats(&[]).started()).await;
}

#[tokio::test]
async fn servers_share_nsq() {
    servers_share("nsq", peers::nsqd(&[]).started()).await;
}

#[tokio::test]
async fn servers_share_redis() {
    servers_share("redis", peers::redis(&[]).started()).await;
}

/// The example program in a role of its own.
async fn example(program: &Program, nsqd: &str, role: &str) -> (tokio::process::Child, String) {
    let mut path = std::path::PathBuf::from(env!("CARGO_BIN_EXE_tidings"));
    path.set_file_name("examples");
    path.push("entity_sync");
    assert!(path.exists(), "`cargo build --examples` makes what this test runs");
    let args = ["-listen", "127.0.0.1:0", "-nsqd", nsqd];
    let mut command = program.command_of(&path, std::path::Path::new("/"), &args);
    command.env("role", role);
    let mut child = command.stderr(Stdio::inherit()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = soon("the address", lines.next_line()).await.expect("text").expect("a line");
    let address = line.strip_prefix("listening on ").expect("an address").to_owned();
    (child, format!("http://{address}/ws/entity-sync/"))
}

#[tokio::test]
async fn the_example_serves_in_both_roles_and_speaks_to_strangers_over_nsq() {
    let nsqd = peers::nsqd(&[]).started();
    let (address, program) = (format!("127.0.0.1:{}", nsqd.port()), Program::new());
    let (mut serves, here) = example(&program, &address, "1").await;
    let mut client = Es::at(&format!("{here}?ack=1")).await;
    client.subscribe("items", "100").await;
    client.json().await;
    // Somebody who knows nothing but NSQ's wire says so first: the client hears of it without the other role.
    let mut stranger = std::net::TcpStream::connect(&address).expect("nsqd is there");
    let body = br#"{"entity":"items","id":"100"}"#;
    let mut say = b"  V2PUB items\n".to_vec();
    say.extend_from_slice(&(body.len() as u32).to_be_bytes());
    say.extend_from_slice(body);
    stranger.write_all(&say).expect("it is sent");
    let mut ok = [0; 10];
    stranger.read_exact(&mut ok).expect("an answer");
    assert_eq!(&ok, b"\0\0\0\x06\0\0\0\0OK");
    let item = client.json().await;
    assert_eq!((&item["ID"], &item["Closed"]), (&json!("100"), &json!(true)));
    assert!(item["ClosedDate"].as_str().is_some_and(|at| at.ends_with('Z')), "{item}");

    let (mut changes, there) = example(&program, &address, "2").await;
    let mut other = Es::at(&format!("{there}?ack=1")).await;
    other.subscribe("items", "100").await;
    other.json().await;
    for client in [&mut client, &mut other] {
        assert_eq!(client.json().await["ID"], "100");
        assert_ne!(client.frame().await, item.to_string());
    }
    for child in [&mut serves, &mut changes] {
        child.start_kill().expect("it runs");
        child.wait().await.expect("it ends");
    }
}
