//! Broker's own clients from npm, unmodified: in Node and in Chromium.

use super::*;
use crate::harness::finish;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

fn script(name: &str) -> Command {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../js/compat/broker");
    assert!(
        dir.join("node_modules").exists(),
        "`cargo xtask test` installs the clients (npm ci in {})",
        dir.display()
    );
    let mut command = Command::new("node");
    command.arg(dir.join(name)).kill_on_drop(true);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    command
}

#[tokio::test]
async fn broker_client_in_node_gets_everything_as_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "[http]\nping_ms = 20\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap(), "--expiry", "600"]).await;
    let done = finish(script("client.mjs").arg(server.url("")).spawn().unwrap(), b"").await;
    assert_eq!(done.ok().trim(), "done");
}

#[tokio::test]
async fn pages_with_broker_client_hook_and_grid_work() {
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("broker-grid.png");
    let mut child = script("browser.mjs").arg(&screenshot).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    soon("the browser", said.read_line(&mut line)).await.unwrap();
    let origin = line.trim().strip_prefix("origin ").expect("the script's first words").to_owned();
    let server = Server::start_with(&["--origin", &origin, "--expiry", "600"]).await;
    // Under another name than the page's, as in real life.
    let url = format!("http://localhost:{}\n", server.port());
    child.stdin.as_mut().unwrap().write_all(url.as_bytes()).await.unwrap();
    let mut rest = String::new();
    let patience = 4 * crate::harness::PATIENCE;
    let read = tokio::time::timeout(patience, said.read_to_string(&mut rest)).await;
    let mut complaints = String::new();
    if read.is_err() || rest.trim() != "done" {
        child.stderr.take().unwrap().read_to_string(&mut complaints).await.unwrap();
    }
    assert_eq!(rest.trim(), "done", "{complaints}");
    assert!(soon("the script's end", child.wait()).await.unwrap().success());
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 10_000);
}
