//! The state of every name, live.

use super::*;
use crate::harness::until;
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn first_comes_one_state_of_each_name_then_each_change() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    for version in 1..=2 {
        for name in ["one", "two", "three"] {
            for key in [A, B] {
                insert(&server, &ann.token, name, key, version, json!({"version": version, "name": name}))
                    .await;
            }
        }
    }
    // An older timestamp changes nothing, however late it comes.
    insert(&server, &ann.token, "one", A, 0, json!({"version": 0})).await;
    let mut live = Events::open(&server, &ann.token).await;
    let kind = live.response.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(
        (kind.as_str(), &live.response.headers()["cache-control"]),
        ("text/event-stream", &"no-cache".parse().unwrap())
    );
    let mut frames = [live.next().await, live.next().await, live.next().await];
    frames.sort_by(|a, b| a.name.cmp(&b.name));
    for (frame, name) in frames.iter().zip(["one", "three", "two"]) {
        assert_eq!(frame.name, name);
        let state = &frame.state;
        let fields: Vec<&str> =
            state["columns"].as_array().unwrap().iter().map(|c| c["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["timestamp", "collection_id", "name", "version"]);
        assert_eq!(state["columns"][2]["title"], "Name");
        // Of one second, the later insert first.
        let row = |key| json!({"version": 2, "name": name, "timestamp": "2", "collection_id": key});
        assert_eq!(state["rows"], json!([row(B), row(A)]));
        let events = state["events"].as_array().unwrap();
        assert_eq!(events.len(), 2);
        for event in events {
            assert_eq!((&event["published"], &event["cancelled"]), (&json!(true), &json!(false)));
            assert_eq!((&event["event"], &event["timestamp"]), (&json!(name), &json!(2)));
        }
    }
    let mut ids: Vec<_> = frames.iter().map(|frame| frame.id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert!(live.is_silent(Duration::from_millis(300)).await, "nothing more until something changes");
    for name in ["two", "one"] {
        let sent = Instant::now();
        insert(&server, &ann.token, name, A, 3, json!({"version": 3})).await;
        let frame = live.next().await;
        assert_eq!((frame.name.as_str(), &frame.data()[0]), (name, &json!({"version": 3})));
        assert!(frame.came_at - sent < Duration::from_secs(1));
    }
    // What is no object is kept, and is no row; its collection's earlier state is past.
    insert(&server, &ann.token, "one", A, 4, json!("{}")).await;
    assert_eq!(live.next().await.state["rows"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn of_many_inserts_in_one_second_the_last_stays() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let mut live = Events::open(&server, &ann.token).await;
    let at = now();
    for n in 0..100 {
        insert(&server, &ann.token, "user", A, at, json!({"n": n})).await;
    }
    let last = |state: &Value| state["rows"][0]["n"] == 99;
    let frame = live.state("user", last).await;
    assert_eq!(frame.data(), [json!({"n": 99})]);
    assert!(live.is_silent(Duration::from_millis(300)).await);
    let fresh = Events::open(&server, &ann.token).await.next().await;
    assert_eq!(fresh.data(), [json!({"n": 99})]);
}

#[tokio::test]
async fn under_load_a_name_is_shown_now_and_then_and_in_the_end_as_it_is() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let topics = server.token(&["--topics", "user"]).await;
    insert(&server, &ann.token, "user", A, 0, json!({"n": -1})).await;
    let mut live = Events::open(&server, &ann.token).await;
    live.next().await;
    let (count, began) = (2000, Instant::now());
    let events: Vec<Value> = (0..count).map(|n| json!({"key": A, "data": {"n": n}})).collect();
    for some in events.chunks(20) {
        assert_eq!(server.post("user", &topics, Value::from(some).to_string()).await.status(), 201);
    }
    let mut frames = 0;
    loop {
        frames += 1;
        if live.next().await.data() == [json!({"n": count - 1})] {
            break;
        }
    }
    let bound = began.elapsed().as_millis() / 50 + 2;
    assert!(frames <= bound, "{frames} frames in {:?}", began.elapsed());
}

#[tokio::test]
async fn a_reader_that_never_reads_delays_nobody() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let pad = "x".repeat(2000);
    insert(&server, &ann.token, "user", A, 0, json!({"n": -1, "pad": pad})).await;
    let mut stuck = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let head = format!("GET /events HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\r\n", ann.token);
    stuck.write_all(head.as_bytes()).await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut live = Events::open(&server, &ann.token).await;
        live.next().await;
        readers.push(live);
    }
    let before = server.rss_kib();
    for n in 0..2000 {
        let key = format!("aaaaaaaa-0000-4000-8000-{:012}", n % 50);
        insert(&server, &ann.token, "user", &key, n, json!({"n": n, "pad": pad})).await;
    }
    let done = Instant::now();
    for live in &mut readers {
        live.state("user", |state| state["rows"][0]["n"] == 1999).await;
    }
    assert!(done.elapsed() < Duration::from_secs(2), "{:?}", done.elapsed());
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "memory grew by {grown} KiB");
    let fresh = Events::open(&server, &ann.token).await.next().await;
    assert_eq!(fresh.data().len(), 50);
    assert_eq!(collection(&server, &ann.token, "aaaaaaaa-0000-4000-8000-000000000000").await.len(), 40);
    drop(stuck);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_made_when_it_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "[limits]\nbroker_view_bytes = 6000\nbroker_frame_bytes = 3000\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap(), "--expiry", "600"]).await;
    let ann = user(&server, "ann", A).await;
    for n in 0..10 {
        insert(&server, &ann.token, &format!("name{n}"), A, n, json!({"n": n})).await;
    }
    let mut first = Events::open(&server, &ann.token).await;
    let mut second = Events::open(&server, &ann.token).await;
    for live in [&mut first, &mut second] {
        let mut names = Vec::new();
        for _ in 0..10 {
            let frame = live.next().await;
            let n = frame.data()[0]["n"].as_i64().unwrap();
            assert_eq!(frame.name, format!("name{n}"));
            names.push(n);
        }
        names.sort_unstable();
        assert_eq!(names, (0..10).collect::<Vec<_>>());
    }
    for n in 0..10 {
        insert(&server, &ann.token, &format!("name{n}"), A, 100, json!({"n": 100 + n})).await;
        first.state(&format!("name{n}"), |state| state["rows"][0]["n"] == 100 + n).await;
    }
    // Of a name that is too large the oldest collections are left out.
    for n in 0..30 {
        let key = format!("aaaaaaaa-0000-4000-8000-{n:012}");
        insert(&server, &ann.token, "large", &key, n, json!({"n": n})).await;
    }
    let frame = first.state("large", |state| state["rows"][0]["n"] == 29).await;
    assert!((2..30).contains(&frame.data().len()), "{}", frame.data().len());
}

#[tokio::test]
async fn a_topic_that_is_dropped_leaves_the_stream() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    insert(&server, &ann.token, "user", A, 1, json!({"n": 1})).await;
    let mut live = Events::open(&server, &ann.token).await;
    live.next().await;
    let gone = server.request(Method::DELETE, "/v1/topics/user", &server.admin).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(live.next().await.state["rows"], json!([]));
    insert(&server, &ann.token, "user", B, 1, json!({"n": 2})).await;
    assert_eq!(live.next().await.data(), [json!({"n": 2})]);
    until("the list to be that of the new topic", || async {
        collection(&server, &ann.token, A).await.is_empty()
    })
    .await;
}
