//! Broken gRPC bodies and channel frames, thousands of them, sent to the real server. Each is answered or ends its own
//! connection; memory has a bound; afterwards everybody is served as before.

use crate::harness::{Random, Server, Ws, soon};
use serde_json::{Value, json};

const CALLS: usize = 3000;
const FRAMES: usize = 3000;
/// What the server may have grown by after all of them.
const GROWTH_KIB_MAX: u64 = 64 << 10;

const ODD: &[u8] = b"\x00\x01\x08\x0a\x12\x1a \"$*,.:[\\]{}~\x7f\x80\xc0\xe9\xf0\xff";

/// A changed copy of `base`: flipped bits, odd bytes, cuts, and parts repeated often.
fn changed(random: &mut Random, base: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..random.below(4) {
        let len = bytes.len();
        if len == 0 {
            break;
        }
        let at = random.below(len as u64) as usize;
        let end = (at + 1 + random.below(24) as usize).min(len);
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = ODD[random.below(ODD.len() as u64) as usize],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].repeat(1 << random.below(9));
                bytes.splice(at..at, part);
            }
            _ => drop(bytes.splice(at..at, (random.next() as u32).to_le_bytes())),
        }
    }
    bytes
}

/// A field of a message that is a text or a message itself.
fn field(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut out = vec![number << 3 | 2];
    let mut left = content.len();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.extend_from_slice(content);
    out
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// Methods, and messages that mean something to them.
fn calls() -> Vec<(&'static str, Vec<u8>)> {
    let relay = [
        field(1, "n"),
        field(2, r#"{"n":1}"#),
        field(9, "2020-01-01T00:00:00Z"),
        field(11, r#"{"type":"object"}"#),
    ];
    let native = [field(2, "k"), field(4, "n"), field(9, r#"{"n":[1,2]}"#), field(8, [8, 1, 16, 1])];
    let (query, id) = (field(4, "data.n > 1 AND name == 'n'"), "00000000-0000-4000-8000-000000000001");
    let config = field(4, [field(1, "endpoint_url"), field(2, "https://example.com/")].concat());
    vec![
        (
            "eventrelay.Events/PublishEvents",
            [field(1, "users:1"), field(2, relay.concat()), vec![24, 1]].concat(),
        ),
        ("eventrelay.Events/PublishEvents", [field(1, "users:1"), field(2, relay.concat())].concat()),
        ("eventrelay.Events/PullEvents", [field(1, "users"), vec![16, 5, 24, 1], query].concat()),
        ("eventrelay.Events/PullQueuedEvents", [field(1, id), vec![16, 5]].concat()),
        ("eventrelay.Events/UnLockQueuedEvents", [field(1, id), field(2, id)].concat()),
        ("eventrelay.Topics/CreateTopic", [field(1, "t"), field(2, "g")].concat()),
        (
            "eventrelay.Destinations/CreateDestination",
            [field(1, "hook"), field(2, "users"), config, field(6, "webhook")].concat(),
        ),
        ("eventrelay.Destinations/ListDestinations", vec![8, 1, 16, 5]),
        ("eventrelay.ApiKeys/CreateApiKey", [vec![8, 2], field(2, "key")].concat()),
        ("eventrelay.ApiKeys/AddTopicsToApiKey", [field(1, id), field(2, "users")].concat()),
        ("eventrelay.JWT/CreateJWT", vec![8, 0]),
        ("tidings.v1.Events/Publish", [field(1, "users"), field(2, native.concat())].concat()),
        (
            "tidings.v1.Events/PublishStream",
            [field(1, "users"), field(2, native.concat()), vec![24, 1]].concat(),
        ),
        ("tidings.v1.Events/Pull", [field(1, "users"), field(4, "data.n > 1"), vec![24, 9]].concat()),
        ("tidings.v1.Events/Subscribe", [field(1, "users"), field(2, "earliest"), field(4, "n*")].concat()),
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", field(4, "eventrelay.Events")),
    ]
}

#[tokio::test]
async fn calls_that_make_no_sense_are_answered_and_everybody_else_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidings.toml");
    std::fs::write(&config, "[rates]\nrelay_create_topic = \"off\"\n").unwrap();
    let server = Server::start_with(&["--config", &config.display().to_string()]).await;
    let http = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let (calls, mut random) = (calls(), Random(5));
    let before = server.rss_kib();
    let mut refused = 0;
    for n in 0..CALLS {
        let (method, message) = &calls[random.below(calls.len() as u64) as usize];
        let body = match random.below(3) {
            0 => changed(&mut random, &framed(message)),
            _ => framed(&changed(&mut random, message)),
        };
        let request = http
            .post(server.url(&format!("/{method}")))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", server.admin))
            .body(body);
        let mut response =
            soon("an answer", request.send()).await.unwrap_or_else(|e| panic!("{n} {method}: {e}"));
        assert_eq!(response.status(), 200, "{n} {method}");
        let status = response.headers().get("grpc-status").map(|v| v.to_str().unwrap().to_owned());
        let code = response.headers().get("tidings-code").map(|v| v.to_str().unwrap().to_owned());
        assert_ne!(code.as_deref(), Some("internal"), "{n} {method}");
        refused += usize::from(status.is_some_and(|status| status != "0"));
        // A subscription goes on; whoever has seen enough goes away.
        if !method.ends_with("Subscribe") {
            while let Ok(Some(_)) = soon("the rest", response.chunk()).await {}
        }
    }
    assert!((CALLS / 4..CALLS).contains(&refused), "{refused} of {CALLS} were refused");
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let good = json!({ "topic": "good", "durable": true, "events": [{ "name": "n", "data": "{}" }] });
    let answer = crate::grpc::admin(&server).call("eventrelay.Events/PublishEvents", &good).await.unwrap();
    assert_eq!(answer["events"][0]["offset"], 1);
    server.assert_unaffected("afterwards").await;
}

/// Sends a frame, and then asks whether the conversation goes on; `None` where it does not.
async fn converse(ws: &mut Ws, frame: &str, version: usize, mark: usize) -> Option<()> {
    ws.send_text(frame).await;
    let beat = format!("beat-{mark}");
    ws.send(match version {
        2 => json!([null, beat, "phoenix", "heartbeat", {}]),
        _ => json!({ "topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": beat }),
    })
    .await;
    loop {
        let said = soon("an answer", ws.next()).await?;
        if said[1] == json!(beat) || said["ref"] == json!(beat) {
            return Some(());
        }
    }
}

#[tokio::test]
async fn frames_that_make_no_sense_end_their_own_connection_at_most() {
    let server = Server::start().await;
    let token = &server.admin;
    let events = json!([{ "name": "n", "data": "{\"n\":1}" }, { "eventId": "x", "name": "", "data": {} }]);
    let publish = json!({ "topic": "users:1", "durable": true, "events": events });
    let joins =
        [json!({ "token": token }), json!({ "token": token, "from": "earliest", "filter": "data.n > 0" })];
    let mut seeds: [Vec<String>; 2] = Default::default();
    for (name, event, payload) in [
        ("events:users:1", "phx_join", &joins[0]),
        ("topic:users", "phx_join", &joins[1]),
        ("events:users:1", "publish_events", &publish),
        ("events:users:1", "phx_leave", &Value::Null),
        ("phoenix", "heartbeat", &Value::Null),
    ] {
        seeds[0].push(json!({ "topic": name, "event": event, "payload": payload, "ref": "1" }).to_string());
        seeds[1].push(json!(["1", "1", name, event, payload]).to_string());
    }
    let mut random = Random(6);
    let before = server.rss_kib();
    let (mut ended, mut open) = (0, [None, None]);
    for n in 0..FRAMES {
        let version = 1 + random.below(2) as usize;
        let frames = &seeds[version - 1];
        let ws = match &mut open[version - 1] {
            Some(ws) => ws,
            none => {
                let url = server.url(&format!("/socket/websocket?vsn={version}.0.0"));
                let mut ws = Ws::try_open_at(&url, None).await.expect("an upgrade");
                converse(&mut ws, &frames[0], version, n).await.expect("a join");
                none.insert(ws)
            }
        };
        let seed = &frames[random.below(frames.len() as u64) as usize];
        let frame = changed(&mut random, seed.as_bytes());
        if converse(ws, &String::from_utf8_lossy(&frame), version, n).await.is_none() {
            // Where it ended before it had read everything, the reason may be lost on the way.
            if let Some((code, reason)) = &ws.closed {
                assert!([1007, 1009].contains(code), "{n}: {code} {reason}");
            }
            open[version - 1] = None;
            ended += 1;
        }
    }
    assert!((100..FRAMES - 100).contains(&ended), "{ended} of {FRAMES} ended");
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let url = server.url("/socket/websocket?vsn=2.0.0");
    let mut ws = Ws::try_open_at(&url, None).await.expect("an upgrade");
    ws.send(json!(["1", "1", "events:good", "phx_join", { "token": token }])).await;
    assert_eq!(ws.next().await.expect("an answer")[4]["status"], "ok");
    server.publish("good", &[json!("fine")]).await;
    assert_eq!(soon("an event", ws.next()).await.expect("an event")[4]["data"], "fine");
    server.assert_unaffected("afterwards").await;
}
