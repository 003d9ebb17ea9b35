//! Esink's variables, as a compose file written for it sets them.

use super::*;
use crate::harness::{Done, Program, soon};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

/// The program started with nothing but these variables.
pub struct Esink {
    child: Child,
    pub url: String,
    log: tokio::task::JoinHandle<String>,
    program: Program,
    root: tempfile::TempDir,
}

impl Esink {
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        // A port that is free, whatever PORT would say.
        Self::start_in(tempfile::tempdir().unwrap(), "0", variables).await
    }

    /// Kills it, and starts it with these variables where it was.
    pub async fn restart(mut self, variables: &[(&str, &str)]) -> Self {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
        self.log.await.unwrap();
        let port = self.url.rsplit(':').next().unwrap();
        Self::start_in(self.root, port, variables).await
    }

    async fn start_in(root: tempfile::TempDir, port: &str, variables: &[(&str, &str)]) -> Self {
        let program = Program::new();
        let mut command = program.command(root.path(), &["serve"]);
        command.envs(variables.iter().copied()).env("TIDINGS_PORT", port).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let url = soon("the start", async {
            loop {
                let line =
                    lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it does not start: {said}"));
                said.push_str(&line);
                said.push('\n');
                if let Some(url) = line.strip_prefix("listening on ") {
                    return url.to_owned();
                }
            }
        })
        .await;
        let log = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                said.push_str(&line);
            }
            said
        });
        Self { child, url, log, program, root }
    }

    async fn token(&self, user: &str) -> String {
        let args = ["token", "--data", "tidings-data", "--sub", user, "--subscribe", "esink"];
        self.program.run(self.root.path(), &args, b"").await.ok().trim().to_owned()
    }

    /// Everything it has said.
    pub async fn end(mut self) -> String {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
        self.log.await.unwrap()
    }
}

pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap()
}

#[tokio::test]
async fn the_variables_work_as_they_are() {
    let esink = Esink::start(&[
        ("NODE_ENV", "production"),
        ("USE_SSL", "false"),
        ("PORT", "80"),
        ("ALLOW_REPUBLISHING", "false"),
        ("DEFAULT_SOURCE", "'api'"),
        ("SECURITY_TOKEN", SECURITY),
        ("FILTERS", "users.password,"),
        ("TABLE_AUTH_COLUMN_ROUTING", "{'users': 'id', /* everybody */ news: '*',}"),
    ])
    .await;
    assert!(esink.url.starts_with("http://"));
    let http = http();
    let missing = http.get(format!("{}/nowhere", esink.url)).send().await.unwrap();
    assert_eq!(json_of(missing).await, (404, json!({"code": 404, "message": "Route not found"})));
    let mut clients = Clients::node();
    clients.enter("ann", &esink.url, Way::Both, &esink.token("ann").await).await;
    let body = change("ann", json!({"data": {"id": 1, "password": "hush"}}));
    let sent = http.post(format!("{}/publish", esink.url)).header("content-type", "application/json");
    assert_eq!(json_of(sent.body(body.to_string()).send().await.unwrap()).await.0, 200);
    let got = clients.event("ann", "changes").await["args"][0].clone();
    assert_eq!((&got["source"], &got["data"]), (&json!("api"), &json!({"id": 1})));
    clients.end().await;
    assert!(!esink.end().await.contains(SECURITY));
}

#[tokio::test]
async fn use_ssl_serves_https_alone_with_a_certificate_of_its_own_and_a_warning() {
    let esink = Esink::start(&[("USE_SSL", "true"), ("SECURITY_TOKEN", SECURITY)]).await;
    assert!(esink.url.starts_with("https://"), "{}", esink.url);
    let pong = http().get(format!("{}/ping", esink.url)).send().await.unwrap();
    assert_eq!(pong.text().await.unwrap(), "pong");
    assert!(http().get(format!("{}/ping", esink.url.replace("https", "http"))).send().await.is_err());
    let mut clients = Clients::node();
    let token = esink.token("ann").await;
    for way in WAYS {
        let name = format!("{way:?}");
        clients.enter(&name, &esink.url.replace("127.0.0.1", "localhost"), way, &token).await;
    }
    clients.end().await;
    let said = esink.end().await;
    assert!(said.contains("USE_SSL without a certificate"), "{said}");
}

#[tokio::test]
async fn use_ssl_serves_the_certificate_that_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let esink = Esink::start(&[
        ("USE_SSL", "true"),
        ("SECURITY_TOKEN", SECURITY),
        ("TIDINGS_HTTP_TLS_CERT", cert.to_str().unwrap()),
        ("TIDINGS_HTTP_TLS_KEY", key.to_str().unwrap()),
    ])
    .await;
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    // Esink listens on all addresses; its certificate names one.
    let url = esink.url.replace("0.0.0.0", "127.0.0.1");
    let pong = http.get(format!("{url}/ping")).send().await.unwrap();
    assert_eq!(pong.text().await.unwrap(), "pong");
    assert!(http.get(format!("{}/ping", url.replace("https", "http"))).send().await.is_err());
    assert!(!esink.end().await.contains("USE_SSL without a certificate"));
}

#[tokio::test]
async fn each_value_that_cannot_be_taken_is_named_in_a_sentence() {
    let (program, root) = (Program::new(), tempfile::tempdir().unwrap());
    for (name, value, what) in [
        ("FILTERS", "password", "is not `table.column`"),
        ("TABLE_AUTH_COLUMN_ROUTING", "{", "neither JSON nor JSON5"),
        ("ALLOW_REPUBLISHING", "perhaps", "neither true nor false"),
        ("POSTGRES_DATABASE_URL", "mysql://hush@h/d", "not postgres://"),
        ("PORT", "eighty", "a port is a number"),
    ] {
        let mut command = program.command(root.path(), &["serve"]);
        let child =
            command.env("SECURITY_TOKEN", SECURITY).env(name, value).stdin(Stdio::null()).spawn().unwrap();
        let done: Done = crate::harness::finish(child, b"").await;
        let complaint = done.fails(2);
        assert!(complaint.contains(name) && complaint.contains(what), "{name}: {complaint}");
        assert!(!complaint.contains("hush"));
    }
}
