//! Broker's interface: the state on connect, what an insert costs, and what users who only listen cost.

use super::figures::GROWTH_MAX;
use super::row::{Row, Target};
use super::stage::{Server, Stage};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
/// Flags with which users may sign up.
const OPEN: &[&str] = &["--expiry", "36000", "--listen", "127.0.0.1"];

/// 100 names of 1,000 collections each, to somebody who comes first and to somebody who comes then.
pub fn connect(stage: &Stage) -> Result<Vec<Row>> {
    let (names, collections) = if stage.is_quick { (10, 100) } else { (100, 1000) };
    let server = stage.server_with(OPEN)?;
    let token = login(&server, "reader")?;
    let mut client = Client::open(&server)?;
    for name in 0..names {
        fill(&mut client, &server, &token, &format!("name{name}"), collections)?;
    }
    settle(&server)?;
    let mut first = Stream::open(&server, &token)?;
    let cold = first.frames(names)?;
    let mut second = Stream::open(&server, &token)?;
    let warm = second.frames(names)?;
    Ok(vec![
        row(
            "broker-connect",
            "ms",
            millis(warm),
            Target::AtMost(200.0),
            &format!("{} MB", second.bytes >> 20),
        ),
        row("broker-connect, the first", "ms", millis(cold), Target::AtMost(200.0), ""),
    ])
}

/// Waits until the server has taken its index as far as its log: that is no part of a connect.
pub fn settle(server: &Server) -> Result<()> {
    for _ in 0..100 {
        let before = cpu(server)?;
        std::thread::sleep(Duration::from_millis(200));
        if cpu(server)? == before {
            return Ok(());
        }
    }
    bail!("the server does not come to rest")
}

/// An insert into a name of 10 collections against one of 100,000, while a native subscriber follows.
pub fn insert(stage: &Stage) -> Result<Vec<Row>> {
    let (many, count) = if stage.is_quick { (10_000, 200) } else { (100_000, 5000) };
    let server = stage.server_with(OPEN)?;
    let token = login(&server, "writer")?;
    let mut client = Client::open(&server)?;
    let mut costs = Vec::new();
    for (name, collections) in [("few", 10), ("many", many)] {
        fill(&mut client, &server, &token, name, collections)?;
        let path = format!("/v1/topics/{name}/events?from=latest");
        let mut live = Stream::open_at(&server, &server.token, &path)?;
        live.frames(1)?;
        let before = cpu(&server)?;
        for n in 0..count {
            client.insert(&token, name, n % collections, n)?;
        }
        live.frames(count)?;
        costs.push((cpu(&server)? - before).as_secs_f64() * 1e6 / f64::from(count));
    }
    let growth = costs[1] / costs[0];
    let note = format!("{:.0} and {:.0} us", costs[0], costs[1]);
    Ok(vec![row("broker-insert, 10 to many collections", "times", growth, Target::AtMost(GROWTH_MAX), &note)])
}

/// 100 users, each logged in and listening, while nothing happens.
pub fn idle(stage: &Stage) -> Result<Vec<Row>> {
    let users = if stage.is_quick { 20 } else { 100 };
    let server = stage.server_with(OPEN)?;
    let mut streams = Vec::new();
    for user in 0..users {
        let token = login(&server, &format!("user{user}"))?;
        if user == 0 {
            let mut client = Client::open(&server)?;
            (0..10).try_for_each(|n| client.insert(&token, &format!("name{n}"), n, n))?;
        }
        let mut stream = Stream::open(&server, &token)?;
        stream.frames(10)?;
        streams.push(stream);
    }
    let (before, begun) = (cpu(&server)?, Instant::now());
    std::thread::sleep(Duration::from_secs(if stage.is_quick { 2 } else { 20 }));
    let used = (cpu(&server)? - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    Ok(vec![
        row("broker-idle memory", "MB", memory(&server)? as f64 / 1e6, Target::AtMost(25.0), ""),
        row("broker-idle cpu", "% of a core", used, Target::AtMost(0.5), ""),
    ])
}

pub fn row(figure: &str, unit: &'static str, tidings: f64, target: Target, note: &str) -> Row {
    Row {
        figure: figure.into(),
        unit,
        tidings,
        yardstick: None,
        ratio: None,
        target,
        faults: Vec::new(),
        note: note.into(),
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn key(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn login(server: &Server, name: &str) -> Result<String> {
    let mut client = Client::open(server)?;
    let user = json!({"username": name, "password": "correct horse", "collection_id": key(0)});
    client.post("/users", "", &user.to_string())?;
    let answer = client.post("/login", "", &user.to_string())?;
    answer["jwt"].as_str().map(str::to_owned).with_context(|| answer.to_string())
}

/// A name with so many collections: the first by Broker's interface, which makes it one of Broker's topics.
fn fill(client: &mut Client, server: &Server, token: &str, name: &str, collections: u32) -> Result<()> {
    client.insert(token, name, 0, 0)?;
    for begin in (1..collections).step_by(5000) {
        let events = (begin..(begin + 5000).min(collections))
            .map(|n| json!({"key": key(n), "data": {"n": n, "name": "somebody"}}))
            .collect::<Vec<Value>>();
        client.post(&format!("/v1/topics/{name}/events"), &server.token, &Value::from(events).to_string())?;
    }
    Ok(())
}

/// Asks and waits for the answer, over one connection.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn open(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(server.process.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn insert(&mut self, token: &str, name: &str, collection: u32, n: u32) -> Result<()> {
        let data = json!({"n": n, "name": "somebody"});
        let event =
            json!({"event": name, "collection_id": key(collection), "timestamp": 1000 + n, "data": data});
        self.post("/insert", token, &event.to_string()).map(drop)
    }

    pub fn post(&mut self, path: &str, token: &str, body: &str) -> Result<Value> {
        let bearer =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\n{bearer}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let (status, length) = head(&mut self.0)?;
        let mut answer = vec![0; length.context("an answer without a length")?];
        self.0.read_exact(&mut answer)?;
        if !(200..300).contains(&status) {
            bail!("{path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// An event stream, read only as far as to see where frames end.
struct Stream {
    reader: BufReader<TcpStream>,
    begun: Instant,
    bytes: usize,
}

impl Stream {
    fn open(server: &Server, token: &str) -> Result<Self> {
        Self::open_at(server, token, "/events")
    }

    fn open_at(server: &Server, token: &str, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(server.process.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let begun = Instant::now();
        // HTTP/1.0, so that no chunks stand between the frames.
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nhost: x\r\naccept: text/event-stream\r\nauthorization: Bearer {token}\r\n\r\n"
        )?;
        let mut reader = BufReader::with_capacity(256 << 10, stream);
        let (status, _) = head(&mut reader)?;
        if status != 200 {
            bail!("{path}: {status}");
        }
        Ok(Self { reader, begun, bytes: 0 })
    }

    /// Reads so many frames, and answers how long after the request the last was there.
    fn frames(&mut self, count: u32) -> Result<Duration> {
        let mut frame = Vec::new();
        for _ in 0..count {
            loop {
                frame.clear();
                let read = self.reader.read_until(b'\n', &mut frame)?;
                self.bytes += read;
                match frame.as_slice() {
                    [] => bail!("the stream ended"),
                    b"\n" => break,
                    _ => {}
                }
            }
        }
        Ok(self.begun.elapsed())
    }
}

/// The status and length of an answer.
fn head(reader: &mut impl BufRead) -> Result<(u16, Option<usize>)> {
    let (mut status, mut length) = (None, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("closed before an answer");
        }
        let line = line.trim_end().to_ascii_lowercase();
        match (line.is_empty(), status) {
            (true, Some(status)) => return Ok((status, length)),
            (true, None) => bail!("no status"),
            (false, None) => status = Some(line.split(' ').nth(1).context("no status")?.parse()?),
            (false, Some(_)) => {
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = Some(value.trim().parse()?);
                }
            }
        }
    }
}

/// Processor time the server has used.
pub fn cpu(server: &Server) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process.pid()))?;
    let (_, fields) = stat.rsplit_once(") ").context("a line of /proc")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap_or(0)).sum();
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second))
}

/// Bytes of memory the server holds.
pub fn memory(server: &Server) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line on memory")?;
    Ok(1024 * line.trim().trim_end_matches(" kB").parse::<u64>()?)
}
