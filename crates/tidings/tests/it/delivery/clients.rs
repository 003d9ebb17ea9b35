//! The official libraries of Standard Webhooks verify what a receiver got.

use super::receiver::{Receiver, Say};
use super::*;
use crate::harness::finish;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// What each library is told: a secret and the requests that it must verify.
async fn evidence() -> Vec<u8> {
    let (server, receiver) = (Hooks::start().await, Receiver::start(|_| Say::Status(200)).await);
    let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let path = server.hook("hook", "t", &receiver, json!({ "secrets": [old] })).await;
    server.publish("t", &[json!({ "text": "ä \"quoted\" 1.50" })]).await;
    receiver.got(1).await;
    // While secrets change over, the receiver verifies with the old or the new one.
    let rotated = server.call(Method::POST, &format!("{path}/secret"), json!({})).await;
    server.publish("t", &[json!([1, 2])]).await;
    let hits = receiver.got(2).await;
    let case = |secret: &str, i: usize| {
        let headers: Vec<(&String, &String)> =
            hits[i].headers.iter().filter(|(name, _)| name.starts_with("webhook-")).collect();
        let headers: std::collections::BTreeMap<_, _> = headers.into_iter().collect();
        json!({ "secret": secret, "headers": headers, "body": String::from_utf8(hits[i].body.clone()).unwrap() })
    };
    let new = rotated["secret"].as_str().unwrap();
    json!([case(old, 0), case(old, 1), case(new, 1)]).to_string().into_bytes()
}

async fn verifies(mut command: Command) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let done = finish(command.spawn().expect("the verifier starts"), &evidence().await).await;
    assert_eq!(done.ok().trim(), "3 verified, 3 refused");
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[tokio::test]
async fn the_official_library_for_javascript_verifies() {
    let dir = here("../../js/compat/standardwebhooks");
    assert!(
        dir.join("node_modules").exists(),
        "`cargo xtask test` installs it (npm ci in {})",
        dir.display()
    );
    let mut command = Command::new("node");
    command.arg(dir.join("verify.mjs"));
    verifies(command).await;
}

#[tokio::test]
async fn the_official_library_for_python_verifies() {
    let python = peers::find("python-standardwebhooks/bin/python");
    let mut command = Command::new(python.expect("`cargo xtask test` installs it"));
    command.arg(here("tests/it/delivery/verify.py"));
    verifies(command).await;
}
