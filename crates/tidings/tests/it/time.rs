//! The clock: what time servers say, what happens when they say nothing, and that it never runs backwards.

use crate::harness::{Server, Sse, code, soon, until};
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidings::Timestamp;

/// What a time server does with a question.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Answers with the time so many seconds from now.
    Off(i64),
    Silent,
    /// Kiss of death: go away.
    Kiss,
    /// Stratum 16: it does not know the time itself.
    Lost,
    /// The leap indicator says that its clock was never set.
    Alarm,
    /// Repeats another question's time of sending.
    OtherQuestion,
    /// Says that it answered before it was asked.
    Contradiction,
    /// Not a packet of NTP.
    Noise,
}

/// A time server of the test's own.
struct TimeServer {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    questions: Arc<AtomicUsize>,
}

impl TimeServer {
    fn start(manner: Manner) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (address, manner) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(manner)));
        let current = Arc::clone(&manner);
        let questions = Arc::<AtomicUsize>::default();
        let asked = Arc::clone(&questions);
        // Ends with the test's process; it holds nothing but its port.
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut question) {
                asked.fetch_add(1, Ordering::Relaxed);
                let manner = *current.lock().unwrap();
                if let Some(answer) = answer(manner, &question[..len]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, manner, questions }
    }

    fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    fn flag(&self) -> [String; 2] {
        ["--ntp-server".into(), self.address.to_string()]
    }
}

fn answer(manner: Manner, question: &[u8]) -> Option<Vec<u8>> {
    let off = match manner {
        Manner::Silent => return None,
        Manner::Noise => return Some(b"what?".to_vec()),
        Manner::Off(seconds) => seconds,
        _ => 1_000,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = (since.as_secs() as i64 + 2_208_988_800 + off) as u32;
    let stamp = |seconds: u32| {
        let fraction = ((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000) as u32;
        [seconds.to_be_bytes(), fraction.to_be_bytes()].concat()
    };
    let leap = if manner == Manner::Alarm { 3 } else { 0 };
    let stratum = match manner {
        Manner::Kiss => 0,
        Manner::Lost => 16,
        _ => 1,
    };
    let mut packet = vec![leap << 6 | 4 << 3 | 4, stratum, 6, 0xec];
    packet.extend([0; 8]);
    packet.extend(if manner == Manner::Kiss { b"RATE" } else { b"TEST" });
    packet.extend(stamp(seconds)); // reference
    let mut originate = question.get(40..48)?.to_vec();
    if manner == Manner::OtherQuestion {
        originate[3] ^= 1;
    }
    packet.extend(originate);
    packet.extend(stamp(if manner == Manner::Contradiction { seconds + 60 } else { seconds })); // receive
    packet.extend(stamp(seconds)); // transmit
    Some(packet)
}

fn local_ms() -> i64 {
    tidings::Clock::now(&tidings::SystemClock).as_millis()
}

fn from_now(seconds: i64) -> String {
    Timestamp::from_millis(local_ms() + seconds * 1_000).unwrap().to_string()
}

async fn metric(server: &Server, name: &str) -> Option<f64> {
    let text = server.get("/metrics").await.text().await.unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix(&format!("tidings_{name} ")).map(str::to_owned));
    line.map(|value| value.parse().unwrap())
}

async fn publish(server: &Server, event: Value) -> Value {
    let response = server.post("t", &server.admin, event.to_string()).await;
    assert_eq!(response.status(), 201);
    response.json::<Value>().await.unwrap()["events"][0].take()
}

/// When an event published now is said to have been.
async fn server_ms(server: &Server) -> i64 {
    let receipt = publish(server, json!({"data": 1})).await;
    let offset = receipt["offset"].as_u64().expect("an offset");
    let page = server.json(&format!("/v1/topics/t/events?after={}", offset - 1)).await;
    Timestamp::parse(page["events"][0]["published_at"].as_str().unwrap()).unwrap().as_millis()
}

/// A server with settings that make a test short.
async fn start(time_servers: &[&TimeServer], timeout_ms: u64) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    let text = format!("[http]\nheartbeat_ms = 200\n[time]\nevery_ms = 1000\ntimeout_ms = {timeout_ms}\n");
    std::fs::write(&path, text).unwrap();
    let mut args = vec!["--config".to_owned(), path.display().to_string()];
    args.extend(time_servers.iter().flat_map(|server| server.flag()));
    (Server::start_with(&args).await, dir)
}

#[tokio::test]
async fn a_time_server_says_when_tokens_end_and_events_are_due() {
    let ntp = TimeServer::start(Manner::Off(1_000));
    let (server, _dir) = start(&[&ntp], 500).await;
    until("the clock follows", async || metric(&server, "clock_follows_servers").await == Some(1.0)).await;
    let offset = metric(&server, "clock_offset_seconds").await.unwrap();
    assert!((offset - 1_000.0).abs() < 1.0, "{offset}");
    assert!(metric(&server, "clock_answer_age_seconds").await.unwrap() < 30.0);
    assert!((server_ms(&server).await - local_ms() - 1_000_000).abs() < 5_000);

    let short = server.token(&["--topics", "*", "--ttl", "500s"]).await;
    assert_eq!(code(server.post("t", &short, "{}").await).await, (401, "token_expired".into()));
    let long = server.token(&["--topics", "*", "--ttl", "2000s"]).await;
    assert_eq!(server.post("t", &long, "{}").await.status(), 201);

    let due = publish(&server, json!({"data": 1, "available_at": from_now(900)})).await;
    assert!(due["offset"].is_u64(), "due already: {due}");
    let mut live = server.sse("t", "from=latest").await;
    let later = publish(&server, json!({"data": "later", "available_at": from_now(1_002)})).await;
    assert_eq!(later["scheduled"], true);
    let event = live.event().await;
    assert_eq!(event["data"], "later");
    let at = |field: &str| Timestamp::parse(event[field].as_str().unwrap()).unwrap();
    assert!(at("published_at") >= at("available_at"), "{event}");
}

#[tokio::test]
async fn when_the_clock_is_set_what_is_due_fires_and_streams_end_and_it_never_runs_backwards() {
    let ntp = TimeServer::start(Manner::Silent);
    let (server, _dir) = start(&[&ntp], 200).await;
    assert!((server_ms(&server).await - local_ms()).abs() < 5_000);
    let scheduled = publish(&server, json!({"data": "due", "available_at": from_now(900)})).await;
    assert_eq!(scheduled["scheduled"], true);
    let short = server.token(&["--topics", "*", "--ttl", "500s"]).await;
    let mut ending = Sse::open(&server, "/v1/topics/other/events", &short, None).await;
    let mut ws = server.ws(&short).await;
    let mut live = server.sse("t", "from=latest").await;

    ntp.set(Manner::Off(1_000));
    assert_eq!(live.event().await["data"], "due");
    assert_eq!(ending.own("$close").await["code"], "token_expired");
    assert!(ending.is_over().await);
    assert_eq!(ws.op("close").await["code"], "token_expired");

    ntp.set(Manner::Off(0));
    // It goes down at half speed: time is never set back, and never stands still for long.
    soon("a smaller offset", async {
        let (began, first) = (Instant::now(), server_ms(&server).await);
        let mut last = first;
        while metric(&server, "clock_offset_seconds").await.unwrap() > 999.0 {
            let now = server_ms(&server).await;
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        let (passed, real) = (last - first, began.elapsed().as_millis() as i64);
        assert!(passed > real / 4 && passed < real + 1_000, "{passed} ms in {real} ms");
    })
    .await;
}

#[tokio::test]
async fn a_silent_time_server_delays_nothing() {
    let ntp = TimeServer::start(Manner::Silent);
    let began = Instant::now();
    let (server, _dir) = start(&[&ntp], 20_000).await;
    assert!((server_ms(&server).await - local_ms()).abs() < 5_000);
    assert!(began.elapsed() < Duration::from_secs(15), "the start waited for a time server");
    assert_eq!(metric(&server, "clock_fallback").await, Some(1.0));
    assert_eq!(metric(&server, "clock_follows_servers").await, Some(0.0));
    assert_eq!(metric(&server, "clock_answer_age_seconds").await, None);
    assert_eq!(server.get("/readyz").await.status(), 200);
    let at = from_now(1);
    let mut live = server.sse("t", "from=latest").await;
    publish(&server, json!({"data": "due", "available_at": at})).await;
    assert_eq!(live.event().await["available_at"], at);
}

#[tokio::test]
async fn that_no_time_server_answers_is_said_once() {
    let ntp = TimeServer::start(Manner::Noise);
    let (server, _dir) = start(&[&ntp], 200).await;
    until("further tries", async || ntp.questions() >= 4).await;
    assert_eq!(server.log().matches("the machine's clock counts").count(), 1, "{}", server.log());
    // Once one has answered, it is news again.
    ntp.set(Manner::Off(0));
    until("the clock follows", async || metric(&server, "clock_follows_servers").await == Some(1.0)).await;
    ntp.set(Manner::Noise);
    until("it is said", async || server.log().contains("no time server answers any more")).await;
}

#[tokio::test]
async fn nonsense_from_time_servers_is_ignored_with_a_warning() {
    let ten_years = 10 * 366 * 86_400;
    let manners = [
        Manner::Kiss,
        Manner::Lost,
        Manner::Alarm,
        Manner::OtherQuestion,
        Manner::Contradiction,
        Manner::Noise,
        Manner::Off(ten_years),
        Manner::Off(-ten_years),
    ];
    let liars: Vec<TimeServer> = manners.iter().map(|manner| TimeServer::start(*manner)).collect();
    let (server, _dir) = start(&liars.iter().collect::<Vec<_>>(), 500).await;
    until("the warning", async || server.log().contains("no time server can be believed")).await;
    let log = server.log();
    let warning = log.lines().find(|line| line.contains("no time server can be believed")).unwrap();
    for (liar, manner) in liars.iter().zip(manners) {
        assert!(warning.contains(&liar.address.to_string()), "{manner:?} is not named: {warning}");
    }
    assert!((server_ms(&server).await - local_ms()).abs() < 5_000);
    assert_eq!(metric(&server, "clock_fallback").await, Some(1.0));
    // One that says something sensible beside them is believed.
    liars[0].set(Manner::Off(100));
    until("the clock follows", async || metric(&server, "clock_follows_servers").await == Some(1.0)).await;
    assert!((server_ms(&server).await - local_ms() - 100_000).abs() < 5_000);
}

#[tokio::test]
async fn settings_of_time_are_checked() {
    let server = Server::start().await;
    assert_eq!(metric(&server, "clock_fallback").await, Some(0.0), "no server is wanted");
    for (args, says) in [
        (&["--ntp-server", "ntp://a"][..], "not a time server"),
        (&["--ntp-server", "a", "--no-ntp"], "cannot be used with"),
        (&["--ntp-server", "a:0"], "not a time server"),
    ] {
        let args = [&["serve", "--data", "x", "--port", "0"], args].concat();
        let error = server.program.run(server.root(), &args, b"").await.fails(2);
        assert!(error.contains(says), "{error}");
    }
}
