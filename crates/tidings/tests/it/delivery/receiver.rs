//! A receiver of webhooks that does as it is told: answers, fails, hangs, closes early.

use crate::harness::PATIENCE;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Hit {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
    /// How many came before it.
    pub number: usize,
}

/// What to do with it.
#[derive(Debug, Clone)]
pub enum Say {
    Status(u16),
    With(u16, Vec<(&'static str, String)>, &'static str),
    After(Duration, u16),
    /// Reads the request and never answers.
    Hang,
    /// Reads the request and closes.
    Close,
}

/// Numbers of events as they came, and as they were taken (`true`).
type Journal = Arc<Mutex<Vec<(u64, bool)>>>;
type Script = dyn Fn(&Hit) -> Say + Send + Sync;

pub struct Receiver {
    pub address: SocketAddr,
    hits: Arc<Mutex<Vec<Hit>>>,
    journal: Journal,
    news: Arc<Notify>,
}

impl Hit {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The `n` of the event's data.
    pub fn n(&self) -> u64 {
        self.json()["data"]["data"]["n"].as_u64().expect("a number")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Receiver {
    pub async fn start(script: impl Fn(&Hit) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = Self {
            address: listener.local_addr().unwrap(),
            hits: Arc::default(),
            journal: Journal::default(),
            news: Arc::default(),
        };
        let (hits, journal, news) = (Arc::clone(&own.hits), Arc::clone(&own.journal), Arc::clone(&own.news));
        let script = Arc::new(script) as Arc<Script>;
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (hits, journal, news) = (Arc::clone(&hits), Arc::clone(&journal), Arc::clone(&news));
                let script = Arc::clone(&script);
                tokio::spawn(async move {
                    let _ = serve(socket, &hits, &journal, &news, &*script).await;
                });
            }
        });
        own
    }

    /// Takes everything.
    pub async fn willing() -> Self {
        Self::start(|_| Say::Status(204)).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    pub fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    /// The numbers in the order in which they came.
    pub fn numbers(&self) -> Vec<u64> {
        self.hits().iter().map(Hit::n).collect()
    }

    /// Waits until there are so many requests, and answers them.
    pub async fn got(&self, count: usize) -> Vec<Hit> {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.hits.lock().unwrap().len() < count {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if self.hits.lock().unwrap().len() < count {
                    news.await;
                }
            }
        });
        if waited.await.is_err() {
            panic!("{} of {count} webhooks within {PATIENCE:?}", self.hits().len());
        }
        self.hits()
    }

    /// What came and what was taken, in order.
    pub fn journal(&self) -> Vec<(u64, bool)> {
        self.journal.lock().unwrap().clone()
    }
}

async fn serve(
    socket: TcpStream,
    hits: &Mutex<Vec<Hit>>,
    journal: &Mutex<Vec<(u64, bool)>>,
    news: &Notify,
    script: &Script,
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            socket.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        let (say, n) = {
            let mut all = hits.lock().unwrap();
            let hit = Hit { path, headers, body, at: Instant::now(), number: all.len() };
            let n = hit.json()["data"]["data"]["n"].as_u64().unwrap_or(0);
            let say = script(&hit);
            journal.lock().unwrap().push((n, false));
            all.push(hit);
            (say, n)
        };
        news.notify_waiters();
        let (status, headers, text) = match say {
            Say::Status(status) => (status, Vec::new(), ""),
            Say::With(status, headers, text) => (status, headers, text),
            Say::After(time, status) => {
                tokio::time::sleep(time).await;
                (status, Vec::new(), "")
            }
            Say::Hang => {
                // Until the other side gives up.
                let mut rest = [0; 64];
                while socket.read(&mut rest).await? > 0 {}
                return Ok(());
            }
            Say::Close => return Ok(()),
        };
        if (200..300).contains(&status) {
            journal.lock().unwrap().push((n, true));
        }
        let mut answer = format!("HTTP/1.1 {status} X\r\n");
        if status != 204 {
            answer.push_str(&format!("content-length: {}\r\n", text.len()));
        }
        headers.iter().for_each(|(name, value)| answer.push_str(&format!("{name}: {value}\r\n")));
        answer.push_str("\r\n");
        answer.push_str(text);
        socket.get_mut().write_all(answer.as_bytes()).await?;
    }
}
