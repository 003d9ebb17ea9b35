//! Every command, as a user runs it.

use crate::harness::{Program, Server, finish, soon};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[tokio::test]
async fn the_first_start_makes_a_secret_and_says_how_to_get_a_token() {
    let server = Server::start().await;
    let secret = server.data().join("secret");
    assert_eq!((mode(&server.data()), mode(&secret)), (0o700, 0o600));
    let log = server.log();
    assert!(log.contains("tidings token --data"), "{log}");
    assert!(!log.contains(std::fs::read_to_string(&secret).unwrap().trim()), "the secret is in the log");
}

#[tokio::test]
async fn a_token_can_be_made_before_the_first_start_and_grants_what_it_says() {
    let (program, dir) = (Program::new(), tempfile::tempdir().unwrap());
    let token =
        ["token", "--data", "data", "--publish", "a", "--subscribe", "b:1", "--sub", "me", "--ttl", "5m"];
    let done = program.run(dir.path(), &token, b"").await;
    assert!(done.stderr.contains("made a new secret"), "{done:?}");
    let token = done.ok();
    let payload = token.trim().split('.').nth(1).expect("a JWT");
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&claims["publish"], &claims["subscribe"]), (&json!(["a"]), &json!(["b:1"])));
    assert_eq!(
        (&claims["sub"], claims["exp"].as_u64()),
        (&json!("me"), claims["iat"].as_u64().map(|t| t + 300))
    );
    for bad in [&["--ttl", "soon"][..], &["--publish", "a\nb"], &["--topics", "a,,b"]] {
        program.run(dir.path(), &[&["token", "--data", "data"], bad].concat(), b"").await.fails(2);
    }
}

#[tokio::test]
async fn settings_are_refused_with_the_place_and_the_nearest_name() {
    let (program, dir) = (Program::new(), tempfile::tempdir().unwrap());
    let mut command = program.command(dir.path(), &["topics"]);
    let error = finish(command.env("TIDINGS_HTTP_ORIGIN", "x").spawn().unwrap(), b"").await.fails(2);
    assert!(error.contains("did you mean TIDINGS_HTTP_ORIGINS"), "{error}");
    for (variable, value) in [("ER_JWT_SECRET", "short"), ("TIDINGS_PORT", "x")] {
        let mut command = program.command(dir.path(), &["serve", "--data", "data"]);
        let error = finish(command.env(variable, value).spawn().unwrap(), b"").await.fails(2);
        assert!(error.contains(variable) && error.lines().count() == 1, "{error}");
    }
    std::fs::write(dir.path().join("tidings.toml"), "[http]\nlisten = \"127.0.0.1:0\"\nprot = 1\n").unwrap();
    let error = program.run(dir.path(), &["serve"], b"").await.fails(2);
    assert!(error.contains("tidings.toml, line 3") && error.contains("unknown field `prot`"), "{error}");
    program.run(dir.path(), &["serve", "--prot", "1"], b"").await.fails(2);
}

#[tokio::test]
async fn an_address_or_directory_in_use_is_one_clear_line() {
    let server = Server::start().await;
    let port = server.port().to_string();
    let data = server.data().display().to_string();
    let taken = server.program.run(server.root(), &["serve", "--data", "other", "--port", &port], b"").await;
    let error = taken.fails(1);
    assert!(error.contains(&port) && error.contains("in use"), "{error}");
    let locked = server.program.run(server.root(), &["serve", "--data", &data, "--port", "0"], b"").await;
    let error = locked.fails(1);
    assert!(error.contains("used by another process"), "{error}");
    let checked = server.program.run(server.root(), &["check", &data], b"").await;
    assert!(checked.fails(1).contains("used by another process"));
}

#[tokio::test]
async fn publish_takes_lines_objects_and_whole_events() {
    let server = Server::start().await;
    server
        .cli(&["publish", "mixed", "--name", "line"], b"plain \"text\"\r\n{\"a\": 1}\n17\n\nlast")
        .await
        .ok();
    let data: Vec<Value> = server.read_all("mixed").await.iter().map(|e| e["data"].clone()).collect();
    assert_eq!(data, [json!("plain \"text\""), json!({"a": 1}), json!("17"), json!(""), json!("last")]);
    assert_eq!(server.read_all("mixed").await[0]["name"], "line");

    server.cli(&["publish", "keyed", "--key-field", "id"], b"{\"id\":7}\n{\"id\":\"x:y\"}\n").await.ok();
    let keys: Vec<Value> = server.read_all("keyed").await.iter().map(|e| e["key"].clone()).collect();
    assert_eq!(keys, ["7", "x:y"]);
    let done =
        server.cli(&["publish", "keyed", "--key-field", "id"], b"{\"id\":8}\nno object\n{\"id\":9}\n").await;
    let error = done.fails(1);
    assert!(error.contains("line 2") && error.contains("event_invalid"), "{error}");
    assert!(error.contains("published 1 event") && !error.contains("1 events"), "what came before: {error}");

    let whole = b"{\"name\":\"n\",\"key\":\"k\",\"data\":[1]}\n\n{\"data\":2,\"context\":{\"c\":1}}\n";
    server.cli(&["publish", "whole", "--events"], whole).await.ok();
    let events = server.read_all("whole").await;
    assert_eq!((&events[0]["topic"], &events[0]["data"]), (&json!("whole:k"), &json!([1])));
    assert_eq!((events.len(), &events[1]["context"]), (2, &json!({"c": 1})));
    let error = server.cli(&["publish", "whole", "--events"], b"{\"nonsense\":1}\n").await.fails(1);
    assert!(error.contains("line 1") && error.contains("field_unknown"), "{error}");
    let error = server.cli(&["publish", "whole"], b"good\n\xff\xff\n").await.fails(1);
    assert!(error.contains("line 2") && error.contains("utf8_invalid"), "{error}");
    server.cli(&["publish", "*"], b"").await.fails(2);
}

#[tokio::test]
async fn lines_typed_slowly_are_published_at_once() {
    let server = Server::start().await;
    let mut live = server.sse("typed", "from=earliest").await;
    let args = server.client_args(&["publish", "typed"]);
    let mut child = server.program.command(server.root(), &args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in ["one", "two"] {
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        assert_eq!(live.event().await["data"], line);
    }
    drop(stdin);
    finish(child, b"").await.ok();
}

#[tokio::test]
async fn tail_prints_data_or_whole_events_from_anywhere() {
    let server = Server::start().await;
    let receipt = server.publish("t", &[json!("one"), json!({"two": 2}), json!(3)]).await;
    let tail = async |args: &[&str]| server.cli(&[&["tail", "t"], args].concat(), b"").await.ok();
    assert_eq!(tail(&["--from", "earliest", "--count", "3"]).await, "one\n{\"two\":2}\n3\n");
    let events = lines(&tail(&["--from", "earliest", "--count", "2", "--json"]).await);
    assert_eq!((&events[1]["offset"], &events[1]["data"]), (&json!(2), &json!({"two": 2})));

    let cursor = receipt["cursor"].as_str().unwrap();
    let args = server.client_args(&["tail", "t", "--from", cursor, "--count", "1"]);
    let waiting = server.program.command(server.root(), &args).spawn().unwrap();
    server.publish("t", &[json!("later")]).await;
    assert_eq!(finish(waiting, b"").await.ok(), "later\n");

    server.cli(&["publish", "t", "--name", "special"], b"chosen\n").await.ok();
    assert_eq!(tail(&["--from", "earliest", "--name", "special", "--count", "1"]).await, "chosen\n");
    server.cli(&["publish", "s", "--key-field", "k"], b"{\"k\":1,\"v\":1}\n{\"k\":1,\"v\":2}\n").await.ok();
    let state = server.cli(&["tail", "s", "--from", "state", "--count", "1"], b"").await.ok();
    assert_eq!(state, "{\"k\":1,\"v\":2}\n");
    server.cli(&["tail", "t", "--from", "somewhere"], b"").await.fails(2);
}

#[tokio::test]
async fn tail_starts_live_and_ends_quietly_when_nobody_reads_on() {
    let server = Server::start().await;
    let args = server.client_args(&["tail", "live"]);
    let mut child = server.program.command(server.root(), &args).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    // The subscription begins when it begins: what it shows is whatever came after that.
    let mut n = 0;
    let first = loop {
        n += 1;
        server.publish("live", &[json!(n)]).await;
        let wait = std::time::Duration::from_millis(50);
        if let Ok(line) = tokio::time::timeout(wait, out.next_line()).await {
            break line.unwrap().unwrap();
        }
    };
    assert!((1..=n).any(|i| first == i.to_string()), "{first}");
    drop(out);
    let ended = async {
        while child.try_wait().unwrap().is_none() {
            server.publish("live", &[json!("more")]).await;
        }
    };
    soon("the end after the pipe has broken", ended).await;
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn topics_are_listed_as_a_table_and_as_json() {
    let server = Server::start().await;
    server.publish("a", &[json!(1), json!(2)]).await;
    server.publish("bb", &[json!(1)]).await;
    let table = server.cli(&["topics"], b"").await.ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [vec!["TOPIC", "EVENTS", "OLDEST", "TAIL"], vec!["a", "2", "1", "2"], vec!["bb", "1", "1", "1"]]
    );
    let listed = lines(&server.cli(&["topics", "--json"], b"").await.ok());
    assert_eq!((&listed[1]["name"], &listed[1]["tail"]), (&json!("bb"), &json!(1)));
}

#[tokio::test]
async fn what_is_exported_can_be_imported_elsewhere_and_twice() {
    let server = Server::start().await;
    let whole =
        "{\"name\":\"n\",\"key\":\"k\",\"data\":{\"x\":  1.50},\"context\":{\"c\":1},\"trace_key\":\"t\"}\n";
    server.cli(&["publish", "one", "--events"], whole.as_bytes()).await.ok();
    let many: String = (0..2500).map(|n| format!("line {n}\n")).collect();
    server.cli(&["publish", "two"], many.as_bytes()).await.ok();
    // What the system tells, it tells itself where this is imported.
    let later = json!({"data": 1, "available_at": "2030-01-01T00:00:00Z"}).to_string();
    assert!(server.post("one", &server.admin, later).await.status().is_success());
    assert!(!server.read_all("$schedule").await.is_empty());
    let exported = server.cli(&["export", "--all"], b"").await.ok();
    assert_eq!(exported.lines().count(), 2501);
    assert!(exported.contains("{\"x\":  1.50}"), "data is byte-exact");
    assert_eq!(server.cli(&["export", "one"], b"").await.ok().lines().count(), 1);
    let error = server.cli(&["export", "none"], b"").await.fails(1);
    assert!(error.contains("topic_unknown"), "{error}");

    let other = Server::start().await;
    for _ in 0..2 {
        let done = other.cli(&["import"], exported.as_bytes()).await;
        assert!(done.stderr.contains("published 2501 events"), "{done:?}");
    }
    let again = other.cli(&["export", "--all"], b"").await.ok();
    let without_time = |text: &str| -> Vec<Value> {
        lines(text)
            .into_iter()
            .map(|mut event| {
                event.as_object_mut().unwrap().remove("published_at");
                event
            })
            .collect()
    };
    assert_eq!(without_time(&again), without_time(&exported), "ids, order and data are the same, once");
}

#[tokio::test]
async fn export_stays_at_one_position_while_writing_goes_on() {
    let server = Server::start().await;
    let many: String = (0..3000).map(|n| format!("{n}\n")).collect();
    server.cli(&["publish", "t"], many.as_bytes()).await.ok();
    let writing = async {
        for _ in 0..50 {
            server.publish("t", &[json!("meanwhile")]).await;
        }
    };
    let (done, ()) = tokio::join!(server.cli(&["export", "t"], b""), writing);
    let offsets: Vec<u64> = lines(&done.ok()).iter().map(|e| e["offset"].as_u64().unwrap()).collect();
    let last = *offsets.last().unwrap();
    assert!((3000..=3050).contains(&last) && offsets == (1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn check_verifies_and_repairs_a_directory() {
    let mut server = Server::start().await;
    server.publish("t", &[json!(1), json!(2)]).await;
    let data = server.data().display().to_string();
    let busy = server.program.run(server.root(), &["check", &data], b"").await.fails(1);
    assert!(busy.contains("stop that server first"), "{busy}");
    assert!(server.end(libc::SIGTERM).await.success());
    let report = server.program.run(server.root(), &["check", &data], b"").await.ok();
    assert!(!report.trim().is_empty());
    server.program.run(server.root(), &["check", &data, "--repair"], b"").await.ok();
    server.program.run(server.root(), &["check", "nowhere"], b"").await.fails(1);
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    let error = server.program.run(server.root(), &["check", path], b"").await.fails(1);
    assert!(error.contains("no data directory"), "{error}");
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "and none is made of it");
    server.launch().await;
    assert_eq!(server.read_all("t").await.len(), 2);
}

/// Changes one byte in the middle of `needle`, wherever in the data directory the log keeps it.
fn damage(dir: &std::path::Path, needle: &[u8]) -> bool {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if damage(&path, needle) {
                return true;
            }
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|w| w == needle) {
            bytes[at + needle.len() / 2] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return true;
        }
    }
    false
}

#[tokio::test]
async fn damage_is_named_then_set_aside_and_readers_are_told_a_gap() {
    let mut server = Server::start().await;
    for word in ["first", "the-needle-in-the-middle", "last"] {
        server.publish("t", &[json!(word)]).await;
    }
    server.end(libc::SIGTERM).await;
    assert!(damage(&server.data(), b"the-needle-in-the-middle"), "the log keeps data as it was sent");
    let data = server.data().display().to_string();
    let error =
        server.program.run(server.root(), &["serve", "--data", &data, "--port", "0"], b"").await.fails(1);
    assert!(error.contains("log_corrupt"), "{error}");
    let check = async |flags: &[&str]| {
        server.program.run(server.root(), &[&["check", &data], flags].concat(), b"").await
    };
    let found = check(&[]).await;
    assert!(found.stdout.contains("topic t") && found.stdout.contains('2'), "{found:?}");
    assert!(found.fails(1).contains("log_corrupt"));
    check(&["--repair"]).await.ok();
    let after = check(&[]).await.ok();
    assert!(after.contains("set aside by a repair before: topic t, offsets 2 to 2"), "{after}");
    server.launch().await;
    let mut live = server.sse("t", "from=earliest").await;
    assert_eq!(live.event().await["data"], "first");
    let gap = live.own("$gap").await;
    assert_eq!((&gap["topic"], &gap["asked"], &gap["oldest"]), (&json!("t"), &json!(1), &json!(3)), "{gap}");
    assert_eq!(live.event().await["data"], "last");
    assert_eq!(server.publish("t", &[json!("goes on")]).await["events"][0]["offset"], 4);
    let exported = server.cli(&["export", "t"], b"").await;
    assert!(exported.stderr.contains("gap"), "{exported:?}");
    assert_eq!(lines(&exported.ok()).len(), 3);
}

#[tokio::test]
async fn clients_say_in_one_line_what_is_wrong() {
    let server = Server::start().await;
    let error = server.cli(&["topics", "--token", "nonsense"], b"").await.fails(1);
    assert!(error.contains("token_invalid") && error.lines().count() == 1, "{error}");
    let reader = server.token(&["--subscribe", "a"]).await;
    let error = server.cli(&["publish", "a", "--token", &reader], b"x\n").await.fails(1);
    assert!(error.contains("(forbidden)"), "{error}");
    let nobody = ["topics", "--url", &server.url(""), "--data", "nothing-here"];
    let error = server.program.run(server.root(), &nobody, b"").await.fails(1);
    assert!(error.contains("token_missing"), "{error}");
    let away = ["publish", "a", "--url", "http://127.0.0.1:1", "--token", "x", "--retry", "1s"];
    let error = server.program.run(server.root(), &away, b"x\n").await.fails(1);
    assert!(error.contains("cannot reach http://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn the_environment_says_where_and_who() {
    let server = Server::start().await;
    server.publish("t", &[json!(1)]).await;
    let mut command = server.program.command(server.root(), &["topics"]);
    command.env("TIDINGS_URL", server.url("")).env("TIDINGS_TOKEN", &server.admin);
    assert!(finish(command.spawn().unwrap(), b"").await.ok().contains('t'));
    let mut command = server.program.command(server.root(), &["topics"]);
    command.env("TIDINGS_PORT", server.port().to_string()).env("TIDINGS_DATA", server.data());
    assert!(finish(command.spawn().unwrap(), b"").await.ok().contains('t'));
}
