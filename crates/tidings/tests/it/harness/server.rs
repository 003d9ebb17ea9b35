//! A server of one test: a temporary data directory, a port, tokens.

use super::program::{Done, Program};
use super::soon;
use super::sse::Sse;
use super::ws::Ws;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::oneshot;

pub struct Server {
    // Fields drop in this order: the process ends before its directory goes and leftovers are looked for.
    child: Option<Child>,
    pub program: Program,
    root: TempDir,
    args: Vec<String>,
    /// Variables of its environment.
    variables: Vec<(String, String)>,
    port: u16,
    scheme: String,
    log: Arc<Mutex<Vec<String>>>,
    pub http: reqwest::Client,
    /// May do everything.
    pub admin: String,
}

impl Server {
    /// A server on a free port.
    pub async fn start() -> Self {
        Self::start_with::<&str>(&[]).await
    }

    /// The same with further flags.
    pub async fn start_with<S: AsRef<str>>(args: &[S]) -> Self {
        Self::new(0, args).await
    }

    /// A server that will be started again on the same port. The port lies outside the range from which
    /// clients get theirs, so that nobody takes it while the server is down.
    pub async fn start_to_restart<S: AsRef<str>>(args: &[S]) -> Self {
        Self::new(peers::port::free(), args).await
    }

    /// The same in an environment.
    pub async fn start_in(variables: &[(&str, &str)]) -> Self {
        let mut server = Self::made::<&str>(0, &[]);
        server.variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        server.launch().await;
        server.admin = server.token(&["--admin"]).await;
        server
    }

    async fn new<S: AsRef<str>>(port: u16, args: &[S]) -> Self {
        let mut server = Self::made(port, args);
        server.launch().await;
        server.admin = server.token(&["--admin"]).await;
        server
    }

    /// A server that is not ready once it listens, because something that it needs is not there.
    pub async fn start_unready<S: AsRef<str>>(args: &[S]) -> Self {
        let mut server = Self::made(0, args);
        server.listen().await;
        server.admin = server.token(&["--admin"]).await;
        server
    }

    /// The same in an environment.
    pub async fn start_unready_in(variables: &[(&str, &str)]) -> Self {
        let mut server = Self::made::<&str>(0, &[]);
        server.variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        server.listen().await;
        server.admin = server.token(&["--admin"]).await;
        server
    }

    fn made<S: AsRef<str>>(port: u16, args: &[S]) -> Self {
        let _ = reqwest_provider();
        Self {
            child: None,
            program: Program::new(),
            root: tempfile::tempdir().expect("a temporary directory"),
            args: args.iter().map(|a| a.as_ref().to_owned()).collect(),
            variables: Vec::new(),
            port,
            scheme: "http".into(),
            log: Arc::default(),
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            admin: String::new(),
        }
    }

    /// Starts the process and waits until it says that it listens, and is ready.
    pub async fn launch(&mut self) {
        self.listen().await;
        if self.scheme == "http" {
            let ready = self.http.get(self.url("/readyz")).send().await.expect("an answer");
            assert_eq!(ready.status(), 200, "listening, but not ready");
        }
    }

    async fn listen(&mut self) {
        let listening = self.spawn();
        let Ok(url) = soon("the server's start", listening).await else {
            panic!("the server does not start:\n{}", self.log());
        };
        let (scheme, address) = url.split_once("://").expect("a URL");
        self.scheme = scheme.into();
        self.port = address.rsplit_once(':').expect("a port").1.parse().expect("a port");
    }

    /// Starts the process without waiting. The receiver gets the URL once it listens, or an error when it ends.
    pub fn spawn(&mut self) -> oneshot::Receiver<String> {
        assert!(self.child.is_none(), "one process at a time");
        let data = self.data();
        let mut args = vec!["serve".to_owned(), "--data".into(), data.display().to_string()];
        args.extend(["--port".into(), self.port.to_string()]);
        args.extend(self.args.iter().cloned());
        let mut command = self.program.command(self.root.path(), &args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("the server starts");
        let stderr = child.stderr.take().expect("piped");
        let (tx, rx) = oneshot::channel();
        let log = Arc::clone(&self.log);
        tokio::spawn(async move {
            let (mut lines, mut tx) = (BufReader::new(stderr).lines(), Some(tx));
            while let Ok(Some(line)) = lines.next_line().await {
                if let (Some(url), Some(tx)) = (line.strip_prefix("listening on "), &mut tx) {
                    let _ = std::mem::replace(tx, oneshot::channel().0).send(url.to_owned());
                }
                log.lock().unwrap().push(line);
            }
            drop(tx.take());
        });
        self.child = Some(child);
        rx
    }

    /// Kills the process at once (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) {
        self.end(libc::SIGKILL).await;
    }

    /// Kills the process and starts it again on the same port.
    pub async fn crash_and_restart(&mut self) {
        self.kill().await;
        self.launch().await;
    }

    /// Sends a signal and waits for the end.
    pub async fn end(&mut self, signal: i32) -> ExitStatus {
        self.signal(signal);
        self.ended().await
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        soon("the server's end", child.wait()).await.expect("it ends")
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call on our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().and_then(Child::id).expect("a running server") as i32
    }

    /// Memory the process holds.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a line on memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Everything the process has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// A token as `tidings token` makes it.
    pub async fn token(&self, flags: &[&str]) -> String {
        let data = self.data().display().to_string();
        let args = [&["token", "--data", &data], flags].concat();
        self.program.run(self.root(), &args, b"").await.ok().trim().to_owned()
    }

    /// The arguments with which a client command reaches this server.
    pub fn client_args(&self, args: &[&str]) -> Vec<String> {
        let (url, data) = (self.url(""), self.data().display().to_string());
        let own = ["--url", &url, "--data", &data];
        args.iter().chain(&own).map(|a| (*a).to_owned()).collect()
    }

    /// Runs a client command against this server.
    pub async fn cli(&self, args: &[&str], input: &[u8]) -> Done {
        self.program.run(self.root(), &self.client_args(args), input).await
    }

    pub fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(token)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path, &self.admin).send().await.expect("an answer")
    }

    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let status = response.status();
        let body = response.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Publishes a body of JSON as it stands.
    pub async fn post(&self, topic: &str, token: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.request(Method::POST, &format!("/v1/topics/{topic}/events"), token);
        request.header("content-type", "application/json").body(body).send().await.expect("an answer")
    }

    /// Publishes data of events in one array, and expects success.
    pub async fn publish(&self, topic: &str, data: &[Value]) -> Value {
        let events: Vec<Value> = data.iter().map(|d| json!({ "data": d })).collect();
        let response = self.post(topic, &self.admin, Value::from(events).to_string()).await;
        let status = response.status();
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(status, 201, "{body}");
        body
    }

    /// Every event of a topic, read in pages.
    pub async fn read_all(&self, topic: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.json(&format!("/v1/topics/{topic}/events?after={after}&limit=1000")).await;
            let events = page["events"].as_array().expect("events").clone();
            let Some(last) = events.last() else { return all };
            after = last["offset"].as_u64().expect("an offset");
            all.extend(events);
        }
    }

    /// Follows a topic by SSE as an admin; `query` is like `from=earliest`.
    pub async fn sse(&self, topic: &str, query: &str) -> Sse {
        Sse::open(self, &format!("/v1/topics/{topic}/events?{query}"), &self.admin, None).await
    }

    /// A WebSocket with a token in its header.
    pub async fn ws(&self, token: &str) -> Ws {
        Ws::open(self, Some(token)).await
    }

    /// Fails if the server does not do its work as usual: `topic` must be new to each call.
    pub async fn assert_unaffected(&self, topic: &str) {
        let mut live = self.sse(topic, "from=earliest").await;
        self.publish(topic, &[json!("still here")]).await;
        assert_eq!(live.event().await["data"], "still here");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
            // Reaped here, so that the search for leftovers does not find it dying.
            while let Ok(None) = child.try_wait() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
    }
}

/// reqwest and rustls take the process's provider.
fn reqwest_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::aws_lc_rs::default_provider().install_default()
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    now().as_secs()
}

/// The status and stable code of a refusal.
pub async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned());
    let body = response.text().await.expect("a body");
    let problem: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status}: {body}"));
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{body}");
    assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()), "{body}");
    (status, problem["code"].as_str().expect("a code").to_owned())
}
