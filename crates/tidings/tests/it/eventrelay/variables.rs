//! An environment written for EventRelay.

use super::{SECRET, one, publish, relay, token};
use crate::harness::{Program, Server, soon};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::test]
async fn a_page_at_the_root_says_what_this_is() {
    let server = relay().await;
    let page = server.http.get(server.url("/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert!(page.text().await.unwrap().contains("<h1>Tidings</h1>"));
}

#[tokio::test]
async fn a_secret_that_is_too_short_is_refused_with_the_reason_and_not_shown() {
    let program = Program::new();
    let dir = tempfile::tempdir().unwrap();
    let mut command = program.command(dir.path(), &["serve", "--port", "0"]);
    let child = command.env("ER_JWT_SECRET", "only31charactersonly31character").spawn().unwrap();
    let said = crate::harness::finish(child, b"").await.fails(2);
    assert!(said.contains("ER_JWT_SECRET") && said.contains("at least 32 characters"), "{said}");
    assert!(!said.contains("only31"), "{said}");
}

#[tokio::test]
async fn what_means_nothing_here_is_named_once_and_passed_over() {
    let variables = [
        ("ER_JWT_SECRET", SECRET),
        ("ER_DATABASE_URL", "ecto://user:hush@localhost/event_relay"),
        ("ER_HAMMER_BACKEND", "ETS"),
    ];
    let server = Server::start_in(&variables).await;
    assert_eq!(publish(&server, &token(&json!("a")), &one("a")).await.status(), 201);
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("ER_HAMMER_BACKEND")).collect();
    assert!(lines.len() == 1 && lines[0].contains("ER_DATABASE_URL"), "{log}");
    assert!(!log.contains("hush"), "{log}");
}

#[tokio::test]
async fn its_port_and_its_tls_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let files = [file("web.pem", cert.pem()), file("web.key", signing_key.serialize_pem())];
    let (program, port) = (Program::new(), peers::port::free());
    let mut command = program.command(dir.path(), &["serve"]);
    command.envs([("ER_JWT_SECRET", SECRET), ("ER_WEB_PORT", &port.to_string()), ("ER_USE_WEB_TLS", "true")]);
    command.envs([("ER_WEB_TLS_CRT_PATH", &files[0]), ("ER_WEB_TLS_KEY_PATH", &files[1])]);
    command.envs([("ER_GRPC_SERVER_CRT", cert.pem()), ("ER_GRPC_SERVER_KEY", signing_key.serialize_pem())]);
    command.env("TIDINGS_GRPC_LISTEN", "127.0.0.1:0");
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    soon("the start", async {
        while said.last().is_none_or(|line: &String| !line.starts_with("listening on ")) {
            said.push(lines.next_line().await.unwrap().expect("it starts"));
        }
    })
    .await;
    assert_eq!(said.last().unwrap(), &format!("listening on https://127.0.0.1:{port}"));
    let trusted = reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let page = http.get(format!("https://localhost:{port}/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let key = dir.path().join("tidings-data/tls/grpc.key");
    assert_eq!(std::fs::read_to_string(key).unwrap().trim(), signing_key.serialize_pem().trim());
    child.kill().await.unwrap();
}
