//! Streams, with a client that Python generates.

use super::python;
use crate::harness::Server;

#[tokio::test]
async fn a_subscription_begins_where_it_is_told_resumes_and_says_what_is_gone() {
    let server = Server::start().await;
    python(&server, "subscribe", &[]).await;
}

#[tokio::test]
async fn a_stream_of_publishes_is_acknowledged_in_order_and_ends_at_the_first_fault() {
    let server = Server::start().await;
    python(&server, "publish_stream", &[]).await;
}

#[tokio::test]
async fn event_relays_stream_brings_what_is_new_and_nothing_twice() {
    let server = Server::start().await;
    python(&server, "stream_events", &[]).await;
}

#[tokio::test]
async fn streams_end_with_the_token_and_with_the_user() {
    let server = Server::start().await;
    let short = server.token(&["--topics", "a", "--ttl", "2s"]).await;
    python(&server, "ends", &[("SHORT", &short)]).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_resumes_without_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidings.toml");
    std::fs::write(&config, "[limits]\nwrite_timeout_ms = 1000\nread_timeout_ms = 1000\n").unwrap();
    let server = Server::start_with(&["--config", &config.display().to_string()]).await;
    python(&server, "does_not_read", &[]).await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_with_a_reason() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let pid = server.pid().to_string();
    python(&server, "shutdown", &[("PID", &pid)]).await;
    assert!(server.ended().await.success());
}
