//! Events for later: over every door, managed by their owner, on time and once.

use crate::harness::{Random, Server, Sse, Ws, code, soon, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tidings::Timestamp;

fn now() -> Timestamp {
    tidings::Clock::now(&tidings::SystemClock)
}

fn in_ms(ms: i64) -> String {
    now().plus_millis(ms).to_string()
}

fn time(event: &Value, field: &str) -> Timestamp {
    Timestamp::parse(event[field].as_str().expect("a time")).expect("a time")
}

async fn user(server: &Server, name: &str) -> String {
    server.token(&["--topics", "*", "--sub", name]).await
}

/// Schedules one event, and answers its id.
async fn schedule(server: &Server, token: &str, topic: &str, data: Value, at: &str) -> String {
    let response = server.post(topic, token, json!({"data": data, "available_at": at}).to_string()).await;
    let (status, receipt) = (response.status(), response.json::<Value>().await.expect("JSON"));
    assert_eq!((status.as_u16(), &receipt["events"][0]["scheduled"]), (201, &json!(true)), "{receipt}");
    receipt["events"][0]["id"].as_str().expect("an id").to_owned()
}

async fn ask(server: &Server, method: Method, path: &str, token: &str, body: Value) -> (u16, Value) {
    let request = server.request(method, path, token).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
}

/// Moves an event, and answers with the status.
async fn move_to(server: &Server, token: &str, id: &str, at: &str) -> u16 {
    ask(server, Method::PATCH, &format!("/v1/scheduled/{id}"), token, json!({"available_at": at})).await.0
}

/// All pages of a list, and the first one's cursor.
async fn list(server: &Server, token: &str, query: &str, limit: usize) -> (Vec<Value>, String) {
    let (mut all, mut cursor, mut after) = (Vec::new(), None, String::new());
    loop {
        let path = format!("/v1/scheduled?limit={limit}{query}{after}");
        let (status, page) = ask(server, Method::GET, &path, token, Value::Null).await;
        assert_eq!(status, 200, "{page}");
        all.extend(page["events"].as_array().expect("events").iter().cloned());
        cursor = cursor.or(page["cursor"].as_str().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return (all, cursor.expect("a cursor")),
        }
    }
}

#[tokio::test]
async fn an_event_can_be_scheduled_over_every_door() {
    let server = Server::start().await;
    let at = in_ms(3_000);
    let mut live = server.sse("t", "from=earliest").await;
    let one = |data: &str| json!({"data": data, "available_at": at}).to_string();
    for (kind, body) in [
        ("application/json", one("json")),
        ("application/json", format!("[{}]", one("array"))),
        ("application/x-ndjson", one("lines") + "\n"),
        (
            "application/cloudevents+json",
            json!({"specversion":"1.0","id":"1","source":"s","type":"t","availableat":at,"data":"cloud"})
                .to_string(),
        ),
    ] {
        let request = server.request(Method::POST, "/v1/topics/t/events", &server.admin);
        let response = request.header("content-type", kind).body(body).send().await.unwrap();
        assert_eq!(response.status(), 201, "{kind}");
    }
    let binary = server.request(Method::POST, "/v1/topics/t/events", &server.admin);
    let binary = binary.header("ce-specversion", "1.0").header("ce-id", "2").header("ce-source", "s");
    let binary = binary.header("ce-type", "t").header("ce-availableat", &at).body("\"binary\"");
    assert_eq!(binary.send().await.unwrap().status(), 201);
    let mut ws = server.ws(&server.admin).await;
    let event = json!({"data": "ws", "available_at": at});
    ws.send(json!({"op": "publish", "ref": "1", "topic": "t", "event": event})).await;
    assert_eq!(ws.op("published").await["events"][0]["scheduled"], true);
    server.cli(&["publish", "t", "--at", &at], b"cli\n").await.ok();
    let (listed, _) = list(&server, &server.admin, "", 100).await;
    assert_eq!(listed.len(), 7, "{listed:?}");
    let mut seen = Vec::new();
    for _ in 0..7 {
        let event = live.event().await;
        assert!(time(&event, "published_at") >= time(&event, "available_at"), "{event}");
        seen.push(event["data"].as_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["array", "binary", "cli", "cloud", "json", "lines", "ws"]);
    assert!(list(&server, &server.admin, "", 100).await.0.is_empty());
}

#[tokio::test]
async fn a_time_that_is_none_or_too_far_is_refused_clearly() {
    let server = Server::start().await;
    for (at, expected, says) in [
        (json!(-5), "event_invalid", "an RFC 3339 time as text"),
        (json!(4_000_000_000u64), "event_invalid", "an RFC 3339 time as text"),
        (json!("tomorrow"), "event_invalid", "not an RFC 3339 time"),
        (json!("-000001-01-01T00:00:00Z"), "event_invalid", "not an RFC 3339 time"),
        (json!("9999-12-31T23:59:59Z"), "schedule_too_far", "at most 3660 days ahead"),
    ] {
        let response = server.post("t", &server.admin, json!({"available_at": at}).to_string()).await;
        assert_eq!(response.status(), 400, "{at}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], expected, "{at}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
        let mut ws = server.ws(&server.admin).await;
        ws.send(json!({"op": "publish", "ref": "1", "topic": "t", "event": {"available_at": at}})).await;
        assert_eq!(ws.op("error").await["code"], expected, "{at}");
    }
    let past = json!({"data": 1, "available_at": "1969-07-20T20:17:40Z"}).to_string();
    let receipt: Value = server.post("t", &server.admin, past).await.json().await.unwrap();
    assert_eq!(receipt["events"][0]["offset"], 1, "what was due long ago is published at once");
}

#[tokio::test]
async fn a_moved_event_keeps_its_id_and_appears_at_its_new_time() {
    let server = Server::start().await;
    let ann = user(&server, "ann").await;
    let mut live = server.sse("t", "from=earliest").await;
    let sooner = schedule(&server, &ann, "t", json!("sooner"), &in_ms(3_600_000)).await;
    let later = schedule(&server, &ann, "t", json!("later"), &in_ms(2_000)).await;
    assert_eq!(move_to(&server, &ann, &later, &in_ms(3_600_000)).await, 200);
    let at = in_ms(2_500);
    assert_eq!(move_to(&server, &ann, &sooner, &at).await, 200);
    let event = live.event().await;
    assert_eq!(
        (&event["id"], &event["data"], &event["available_at"]),
        (&json!(sooner), &json!("sooner"), &json!(at))
    );
    assert!(time(&event, "published_at") >= time(&event, "available_at"), "{event}");
    assert_eq!(move_to(&server, &ann, &sooner, &at).await, 404, "it has fired");
    assert_eq!(move_to(&server, &ann, &later, "1970-01-01T00:00:00Z").await, 200);
    assert_eq!(live.event().await["id"], json!(later), "moved into the past, it fires at once");
    assert_eq!(server.read_all("t").await.len(), 2);
}

#[tokio::test]
async fn an_event_that_is_moved_and_cancelled_around_its_time_fires_at_most_once() {
    let server = Server::start().await;
    let mut random = Random(7);
    let mut work = tokio::task::JoinSet::new();
    let server = std::sync::Arc::new(server);
    for n in 0..60 {
        let (server, first, times) = (server.clone(), random.below(300) as i64, random.below(6));
        let moves: Vec<i64> = (0..times).map(|_| random.below(120) as i64).collect();
        let is_cancelled = random.below(3) == 0;
        work.spawn(async move {
            let id = schedule(&server, &server.admin, "t", json!(n), &in_ms(1_000 + first)).await;
            tokio::time::sleep(Duration::from_millis(900)).await;
            for ms in moves {
                if move_to(&server, &server.admin, &id, &in_ms(ms)).await == 404 {
                    return (n, None);
                }
            }
            if is_cancelled {
                let path = format!("/v1/scheduled/{id}");
                let (status, _) = ask(&server, Method::DELETE, &path, &server.admin, Value::Null).await;
                return (n, Some(status == 204));
            }
            (n, None)
        });
    }
    let mut cancelled = HashMap::new();
    while let Some(done) = work.join_next().await {
        let (n, outcome) = done.unwrap();
        cancelled.insert(n, outcome == Some(true));
    }
    until("everything is over", async || list(&server, &server.admin, "", 100).await.0.is_empty()).await;
    let mut fired: BTreeMap<u64, usize> = BTreeMap::new();
    for event in server.read_all("t").await {
        *fired.entry(event["data"].as_u64().unwrap()).or_default() += 1;
    }
    for n in 0..60 {
        let expected = usize::from(!cancelled[&n]);
        assert_eq!(fired.get(&n).copied().unwrap_or_default(), expected, "event {n}");
    }
    // What was said agrees with what happened.
    let mut told: HashMap<Value, Vec<String>> = HashMap::new();
    for said in server.read_all("$schedule").await {
        told.entry(said["key"].clone()).or_default().push(said["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(told.len(), 60);
    let ends = |end: &str| told.values().filter(|names| names.last().unwrap() == end).count();
    assert_eq!((ends("fired"), ends("cancelled")), (fired.len(), 60 - fired.len()));
    assert!(told.values().all(|names| {
        names[0] == "scheduled" && names[1..names.len() - 1].iter().all(|name| name == "moved")
    }));
}

#[tokio::test]
async fn only_the_owner_or_an_admin_sees_moves_and_cancels() {
    let server = Server::start().await;
    let (ann, bob) = (user(&server, "ann").await, user(&server, "bob").await);
    let far = in_ms(3_600_000);
    let id = schedule(&server, &ann, "t:k", json!(1), &far).await;
    for topic in ["t:k", "t:k", "t:other", "t"] {
        schedule(&server, &bob, topic, json!(2), &far).await;
    }
    let path = format!("/v1/scheduled/{id}");
    for (method, body) in [
        (Method::GET, Value::Null),
        (Method::DELETE, Value::Null),
        (Method::PATCH, json!({"available_at": far})),
    ] {
        let request = server.request(method.clone(), &path, &bob).body(body.to_string()).send();
        assert_eq!(code(request.await.unwrap()).await, (403, "forbidden".into()), "{method}");
    }
    let cancel = async |token: &str, topic: &str| {
        ask(&server, Method::DELETE, &format!("/v1/scheduled?topic={topic}"), token, Value::Null).await
    };
    assert_eq!(cancel(&ann, "t:k").await, (200, json!({"cancelled": 1})));
    assert_eq!(cancel(&bob, "t:k").await, (200, json!({"cancelled": 2})));
    assert_eq!(list(&server, &bob, "", 1).await.0.len(), 2, "other addresses stay");
    assert_eq!(cancel(&server.admin, "t").await, (200, json!({"cancelled": 2})));
    assert!(list(&server, &server.admin, "", 1).await.0.is_empty());
}

#[tokio::test]
async fn what_is_coming_up_is_a_list_and_then_live_and_one_sees_only_ones_own() {
    let server = Server::start().await;
    let (ann, bob) = (user(&server, "ann").await, user(&server, "bob").await);
    let far = in_ms(3_600_000);
    let kept = schedule(&server, &ann, "t:k", json!("hush"), &far).await;
    let others = schedule(&server, &bob, "t:k", json!("hush"), &far).await;
    let (listed, cursor) = list(&server, &ann, "&topic=t", 1).await;
    assert_eq!(listed.iter().map(|e| &e["id"]).collect::<Vec<_>>(), [&json!(kept)]);
    // Between the list and the stream:
    let new = schedule(&server, &ann, "t:k", json!("hush"), &far).await;
    assert_eq!(move_to(&server, &bob, &others, &in_ms(1_800_000)).await, 200);
    let mut live = Sse::open(&server, "/v1/topics/$schedule/events", &ann, Some(&cursor)).await;
    let mut ws = Ws::open(&server, Some(&ann)).await;
    ws.subscribe("$schedule", &cursor).await;
    let mut all = server.sse("$schedule", "from=earliest").await;
    let moved = in_ms(1_000);
    assert_eq!(move_to(&server, &ann, &new, &moved).await, 200);
    let path = format!("/v1/scheduled/{kept}");
    assert_eq!(ask(&server, Method::DELETE, &path, &ann, Value::Null).await.0, 204);
    for (name, id, at) in [
        ("scheduled", &new, &far),
        ("moved", &new, &moved),
        ("cancelled", &kept, &far),
        ("fired", &new, &moved),
    ] {
        for event in [live.event().await, ws.event().await] {
            assert_eq!(
                (&event["name"], &event["key"], &event["user"]),
                (&json!(name), &json!(id), &json!("ann"))
            );
            assert_eq!(event["data"], json!({"id": id, "topic": "t:k", "key": "k", "available_at": at}));
            assert!(!event.to_string().contains("hush"));
        }
    }
    for (name, id) in [
        ("scheduled", &kept),
        ("scheduled", &others),
        ("scheduled", &new),
        ("moved", &others),
        ("moved", &new),
        ("cancelled", &kept),
        ("fired", &new),
    ] {
        let event = all.event().await;
        assert_eq!((&event["name"], &event["key"]), (&json!(name), &json!(id)), "an admin sees everything");
    }
    // State is what is coming up, to each the own.
    for (who, expected) in [(&ann, vec![]), (&bob, vec![json!(others)])] {
        let state = ask(&server, Method::GET, "/v1/topics/$schedule/state", who, Value::Null).await.1;
        let keys: Vec<Value> = state["events"].as_array().unwrap().iter().map(|e| e["key"].clone()).collect();
        assert_eq!(keys, expected);
    }
    let nameless = server.token(&["--topics", "*"]).await;
    let refused = Sse::try_open(&server, "/v1/topics/$schedule/events", &nameless, None).await.unwrap();
    assert_eq!(code(refused).await, (403, "forbidden".into()));
    for (method, path) in
        [(Method::POST, "/v1/topics/$schedule/events"), (Method::DELETE, "/v1/topics/$schedule")]
    {
        let request = server.request(method, path, &server.admin).body("{}").send().await.unwrap();
        assert_eq!(code(request).await, (403, "forbidden".into()), "{path}");
    }
    let settings = server.json("/v1/topics/$schedule").await["settings"].clone();
    assert_eq!(settings, json!({"retention": {"age_ms": 604_800_000, "events": 1_000_000}, "state": true}));
}

#[tokio::test]
async fn what_fell_due_while_the_server_was_down_fires_once() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let at = in_ms(1_500);
    let events: Vec<Value> = (0..50).map(|n| json!({"data": n, "available_at": at})).collect();
    let body = Value::from(events).to_string();
    assert_eq!(server.post("t", &server.admin, body).await.status(), 201);
    server.kill().await;
    until("the time has come", async || now().to_string() > at).await;
    server.launch().await;
    until("all have fired", async || list(&server, &server.admin, "", 100).await.0.is_empty()).await;
    server.crash_and_restart().await;
    let fired: Vec<u64> = server.read_all("t").await.iter().map(|e| e["data"].as_u64().unwrap()).collect();
    assert_eq!(fired, (0..50).collect::<Vec<_>>());
}

/// Publishes `count` events as lines, `at` for each from `at`.
async fn schedule_many(
    server: &Server,
    topic: &str,
    token: &str,
    count: usize,
    at: impl Fn(usize) -> Timestamp,
) {
    let line = |n: usize| format!("{{\"data\":{n},\"key\":\"{n}\",\"available_at\":\"{}\"}}\n", at(n));
    for chunk in (0..count).collect::<Vec<_>>().chunks(20_000) {
        let body: String = chunk.iter().map(|n| line(*n)).collect();
        let request = server.request(Method::POST, &format!("/v1/topics/{topic}/events"), token);
        let response =
            request.header("content-type", "application/x-ndjson").body(body).send().await.unwrap();
        assert_eq!(response.status(), 201);
    }
}

/// How many are scheduled; with `IT_MANY=1000000` in the environment this measures instead of only testing.
fn many() -> usize {
    std::env::var("IT_MANY").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

#[tokio::test]
async fn among_very_many_scheduled_events_memory_lists_and_firing_stay_as_they_were() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let empty_kib = server.rss_kib();
    let (ann, bob) = (user(&server, "ann").await, user(&server, "bob").await);
    let far = now().plus_millis(3_600_000);
    schedule_many(&server, "gone", &bob, 20_000, |n| far.plus_millis(n as i64)).await;
    let began = Instant::now();
    schedule_many(&server, "t", &bob, many(), |n| far.plus_millis(n as i64)).await;
    println!("{} events scheduled in {:.1?}, then {} KiB", many(), began.elapsed(), server.rss_kib());
    // What was buffered on the way to the disk is bounded by settings of its own; a restart leaves what is kept.
    assert!(server.end(libc::SIGTERM).await.success());
    server.launch().await;
    list(&server, &ann, "", 2).await;
    let grown_kib = server.rss_kib().saturating_sub(empty_kib);
    println!("{empty_kib} KiB empty, {grown_kib} KiB more after a restart");
    assert!(grown_kib < 48 << 10, "{grown_kib} KiB more");

    let mut own = Vec::new();
    for n in 0..3 {
        own.push(
            schedule(&server, &ann, "t:own", json!(n), &far.plus_millis(7_200_000 + n).to_string()).await,
        );
    }
    for query in ["", "&topic=t", "&topic=t:own"] {
        let began = Instant::now();
        let listed: Vec<Value> =
            list(&server, &ann, query, 2).await.0.iter().map(|e| e["id"].clone()).collect();
        println!("ann's own with {query:?}: {:.1?}", began.elapsed());
        assert_eq!(listed, own, "{query}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    // A thousand within one second, some at the very same moment.
    let mut live = server.sse("now", "from=earliest").await;
    let start = now().plus_millis(4_000);
    schedule_many(&server, "now", &bob, 1_000, |n| start.plus_millis(n as i64 / 10 * 10)).await;
    let mut late: Vec<i64> = Vec::new();
    soon("a thousand events", async {
        for _ in 0..1_000 {
            let event = live.event().await;
            let (due, arrived) = (time(&event, "available_at"), now());
            assert!(time(&event, "published_at") >= due, "never early: {event}");
            late.push(arrived.as_millis() - due.as_millis());
        }
    })
    .await;
    late.sort_unstable();
    println!(
        "1000 events in a second: p50 {} ms, p99 {} ms, all within {} ms",
        late[500], late[990], late[999]
    );
    // 50 ms where nothing else runs; here other tests do.
    assert!(late[990] < 1_000, "p99 {} ms", late[990]);

    let (mut cancelled, mut calls, mut after) = (0, 0, String::new());
    loop {
        let path = format!("/v1/scheduled?topic=gone{after}");
        let (status, answer) = ask(&server, Method::DELETE, &path, &bob, Value::Null).await;
        assert_eq!(status, 200);
        (cancelled, calls) = (cancelled + answer["cancelled"].as_u64().unwrap(), calls + 1);
        match answer["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!((cancelled, calls > 1), (20_000, true), "one call has its bound");
}
