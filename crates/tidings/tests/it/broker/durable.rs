//! What was answered with 200 is there, whatever happens to the process.

use super::*;

#[tokio::test]
async fn an_insert_survives_a_kill_and_what_fell_due_meanwhile_comes_once() {
    let mut server = Server::start_to_restart(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    insert(&server, &ann.token, "user", A, 5, json!({"n": 1})).await;
    let due = now() + 1;
    insert(&server, &ann.token, "user", B, due, json!({"n": 2})).await;
    server.kill().await;
    soon("its time to pass", async {
        while now() <= due {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    server.launch().await;
    let mut live = Events::open(&server, &ann.token).await;
    let frame = live.state("user", |state| state["rows"].as_array().unwrap().len() == 2).await;
    assert_eq!(frame.data(), [json!({"n": 2}), json!({"n": 1})]);
    server.crash_and_restart().await;
    let all = server.read_all("user").await;
    let data: Vec<&Value> = all.iter().map(|event| &event["data"]).collect();
    assert_eq!(data, [&json!({"n": 1}), &json!({"n": 2})]);
    assert_eq!(collection(&server, &ann.token, B).await.len(), 1);
}

#[tokio::test]
async fn the_latest_of_each_collection_is_found_again_without_reading_everything() {
    let mut server = Server::start_to_restart(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let topics = server.token(&["--topics", "user"]).await;
    insert(&server, &ann.token, "user", A, 1_577_836_800, json!({"n": "far"})).await;
    // Enough that what is the latest is put down when the views go.
    let event = |n: usize| json!({"key": format!("k{}", n % 7), "occurred_at": format!("2020-01-01T00:00:{:02}Z", n % 60), "data": {"n": n}});
    let events: Vec<Value> = (0..6000).map(event).collect();
    assert_eq!(server.post("user", &topics, Value::from(events).to_string()).await.status(), 201);
    let before = Events::open(&server, &ann.token).await.next().await.state;
    assert_eq!(before["rows"].as_array().unwrap().len(), 8);
    assert_eq!(server.end(libc::SIGTERM).await.code(), Some(0));
    server.launch().await;
    assert_eq!(Events::open(&server, &ann.token).await.next().await.state, before);
}
