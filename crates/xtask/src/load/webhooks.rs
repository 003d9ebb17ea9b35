//! Webhooks: how many a second, how near to the receiver's own round trip, and what idle destinations cost.
//!
//! Owns: a receiver that does nothing but answer, one thread a connection.

use super::broker::{Client, cpu, memory, row, settle};
use super::row::{Row, Target};
use super::stage::{Server, Stage};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const KEYS: u64 = 1000;
/// What a receiver does with a request.
const WORK: Duration = Duration::from_millis(1);

/// Many keys, each in its own order.
pub fn by_key(stage: &Stage) -> Result<Vec<Row>> {
    let count = if stage.is_quick { 10_000 } else { 200_000 };
    let server = stage.server()?;
    let (per_s, cpu_us) = deliver(&server, "key", count, Duration::ZERO)?;
    let note = format!("{cpu_us:.0} us of the server's processor each");
    Ok(vec![row("webhooks-key", "deliveries/s", per_s, Target::AtLeast(10_000.0), &note)])
}

/// One after the other, to a receiver that takes a millisecond, as one in the same data centre does: what lies between two
/// deliveries beside its round trip.
pub fn by_topic(stage: &Stage) -> Result<Vec<Row>> {
    let count = if stage.is_quick { 1_000 } else { 10_000 };
    let server = stage.server()?;
    let (at_once, _) = deliver(&server, "topic", 2 * count, Duration::ZERO)?;
    let server = stage.server()?;
    let (per_s, _) = deliver(&server, "topic", count, WORK)?;
    let alone = round_trips(count)?;
    let note = format!("{at_once:.0} deliveries/s where it takes no time");
    let figure = row("webhooks-topic", "deliveries/s", per_s, Target::RatioAtLeast(0.8), &note);
    Ok(vec![Row { yardstick: Some(alone), ratio: Some(per_s / alone), ..figure }])
}

/// 10,000 destinations, each with a topic of its own, of which none has news.
pub fn idle(stage: &Stage) -> Result<Vec<Row>> {
    let count = if stage.is_quick { 1000 } else { 10_000 };
    let server = stage.server()?;
    let mut client = Client::open(&server)?;
    // What the first one brings with it is not what each costs.
    create(&mut client, &server, "first", "t", "http://192.0.2.1/", "topic", false)?;
    settle(&server)?;
    let before = memory(&server)?;
    for n in 0..count {
        create(
            &mut client,
            &server,
            &format!("idle {n}"),
            &format!("t{n}"),
            "http://192.0.2.1/in",
            "topic",
            false,
        )?;
    }
    settle(&server)?;
    let each = memory(&server)?.saturating_sub(before) as f64 / 1000.0 / f64::from(count);
    let (used, begun) = (cpu(&server)?, Instant::now());
    std::thread::sleep(Duration::from_secs(if stage.is_quick { 2 } else { 20 }));
    let used = (cpu(&server)? - used).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    Ok(vec![
        row("webhooks-idle", "KB each", each, Target::AtMost(2.0), ""),
        row("webhooks-idle cpu", "% of a core", used, Target::AtMost(0.5), ""),
    ])
}

/// Publishes to a paused destination, lets it go, and answers deliveries a second and processor time for each.
fn deliver(server: &Server, order: &str, count: u64, work: Duration) -> Result<(f64, f64)> {
    let receiver = Receiver::start(work)?;
    let mut client = Client::open(server)?;
    let url = format!("http://{}/in", receiver.address);
    let id = create(&mut client, server, "measured", "t", &url, order, true)?;
    for begin in (0..count).step_by(5000) {
        let event = |n: u64| json!({ "key": (n % KEYS).to_string(), "name": "x", "data": { "n": n, "name": "somebody" } });
        let events: Vec<Value> = (begin..(begin + 5000).min(count)).map(event).collect();
        client.post("/v1/topics/t/events", &server.token, &Value::from(events).to_string())?;
    }
    settle(server)?;
    let (before, begun) = (cpu(server)?, Instant::now());
    client.post(&format!("/v1/destinations/{id}/resume"), &server.token, "")?;
    while receiver.taken.load(Ordering::Relaxed) < count {
        if begun.elapsed() > PATIENCE {
            bail!("{} of {count} webhooks came", receiver.taken.load(Ordering::Relaxed));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let elapsed = begun.elapsed();
    let used = cpu(server)? - before;
    Ok((count as f64 / elapsed.as_secs_f64(), used.as_secs_f64() * 1e6 / count as f64))
}

fn create(
    client: &mut Client,
    server: &Server,
    name: &str,
    topic: &str,
    url: &str,
    order: &str,
    paused: bool,
) -> Result<String> {
    let fields = json!({
        "name": name, "topic": topic, "url": url, "order": order, "paused": paused, "allow_private_addresses": true,
    });
    let made = client.post("/v1/destinations", &server.token, &fields.to_string())?;
    Ok(made["id"].as_str().unwrap_or_default().to_owned())
}

/// How many requests of a webhook's size the receiver answers one after the other to a client that does nothing else.
fn round_trips(count: u64) -> Result<f64> {
    let receiver = Receiver::start(WORK)?;
    let mut stream = TcpStream::connect(receiver.address)?;
    stream.set_nodelay(true)?;
    let body = "x".repeat(600);
    let request = format!(
        "POST /in HTTP/1.1\r\nhost: x\r\nx-fill: {}\r\ncontent-length: {}\r\n\r\n{body}",
        "y".repeat(400),
        body.len()
    );
    let mut answer = vec![0; ANSWER.len()];
    let begun = Instant::now();
    for _ in 0..count {
        stream.write_all(request.as_bytes())?;
        stream.read_exact(&mut answer)?;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Takes everything. Its threads end with their connections.
struct Receiver {
    address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl Receiver {
    /// Each request takes `work` before it is answered.
    fn start(work: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = Self { address: listener.local_addr()?, taken: Arc::default() };
        let taken = Arc::clone(&own.taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&taken);
                std::thread::spawn(move || answer(stream, work, &taken));
            }
        });
        Ok(own)
    }
}

fn answer(stream: TcpStream, work: Duration, taken: &AtomicU64) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::with_capacity(16 << 10, stream);
    let (mut line, mut body) = (Vec::new(), Vec::new());
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            if line.len() <= 2 {
                break;
            }
            if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
                length = std::str::from_utf8(&line[15..]).ok()?.trim().parse().ok()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        if !work.is_zero() {
            std::thread::sleep(work);
        }
        taken.fetch_add(1, Ordering::Relaxed);
        reader.get_mut().write_all(ANSWER).ok()?;
    }
}
