//! Copies from topic to topic.

use super::*;

async fn topic_data(server: &Server, topic: &str) -> Vec<Value> {
    match server.get(&format!("/v1/topics/{topic}/events?limit=1000")).await {
        answer if answer.status() == 404 => Vec::new(),
        answer => answer.json::<Value>().await.unwrap()["events"].as_array().unwrap().clone(),
    }
}

#[tokio::test]
async fn a_copy_names_its_source_and_a_loop_of_two_topics_ends() {
    let server = Server::start().await;
    for (name, topic, target) in [("there", "a", "b"), ("back", "b", "a")] {
        server.destination(json!({ "name": name, "kind": "topic", "topic": topic, "target": target })).await;
    }
    let event =
        json!({ "key": "k", "name": "n", "data": { "x": 1 }, "context": { "c": 2 }, "group_key": "g" });
    let receipt = server.post("a", &server.admin, event.to_string()).await.json::<Value>().await.unwrap();
    until("the copy", async || topic_data(&server, "b").await.len() == 1).await;
    let copy = topic_data(&server, "b").await[0].clone();
    assert_eq!(copy["prev_id"], receipt["events"][0]["id"]);
    assert_eq!(
        (&copy["topic"], &copy["name"], &copy["data"], &copy["group_key"]),
        (&json!("b:k"), &json!("n"), &json!({ "x": 1 }), &json!("g"))
    );
    assert_eq!(copy["context"], json!({ "c": 2, "forwarded_from": ["a"] }));
    // What comes behind the copy has been copied: so the copy itself was passed over.
    server.publish("b", &[json!("own")]).await;
    until("the way back", async || topic_data(&server, "a").await.len() == 2).await;
    until("there again it is not", async || {
        let progress = server.json("/v1/destinations?name=there").await["destinations"][0]["id"].clone();
        server.json(&format!("/v1/destinations/{}", progress.as_str().unwrap())).await["behind"] == 0
    })
    .await;
    assert_eq!((topic_data(&server, "a").await.len(), topic_data(&server, "b").await.len()), (2, 2));
}

#[tokio::test]
async fn each_event_is_copied_once_whatever_is_killed_in_between() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    server
        .destination(
            json!({ "name": "copy", "kind": "topic", "topic": "a", "target": "b", "filter": "data.n != 3" }),
        )
        .await;
    let mut n = 0;
    for _ in 0..4 {
        for _ in 0..5 {
            let data: Vec<Value> = (0..40).map(|i| json!({ "n": n + i })).collect();
            server.publish("a", &data).await;
            n += 40;
        }
        server.crash_and_restart().await;
    }
    until("all copies", async || topic_data(&server, "b").await.len() >= n - 1).await;
    let copies: Vec<u64> =
        topic_data(&server, "b").await.iter().map(|e| e["data"]["n"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (0..n as u64).filter(|n| *n != 3).collect();
    assert_eq!(copies, expected);
}
