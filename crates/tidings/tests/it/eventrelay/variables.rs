//! An environment written for EventRelay.

use super::{SECRET, one, publish, relay, token};
use crate::harness::{Program, Server};
use serde_json::json;

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
