//! Row rules at every door: who sees which event, live, replayed, in pages and in State.

use crate::harness::{Random, Server, Sse, code};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const USERS: [&str; 4] = ["ann", "bob", "7", "*"];

/// One row of a table as it is worked out by hand.
struct Table {
    rows: BTreeMap<u64, Value>,
    /// What each user must be told, in order.
    told: BTreeMap<&'static str, Vec<Value>>,
    offset: u64,
}

impl Table {
    fn new() -> Self {
        let told = USERS.map(|user| (user, Vec::new())).into();
        Self { rows: BTreeMap::new(), told, offset: 0 }
    }

    fn is_of(row: &Value, user: &str) -> bool {
        ["buyer", "seller"].iter().any(|column| match &row[*column] {
            Value::String(text) => text == user,
            Value::Number(number) => number.to_string() == user,
            _ => false,
        })
    }

    /// Changes a row and answers the event that says so.
    fn change(&mut self, id: u64, row: Option<Value>) -> Value {
        self.offset += 1;
        let old = match &row {
            Some(row) => self.rows.insert(id, row.clone()),
            None => self.rows.remove(&id),
        };
        let (name, shown) = match (&old, &row) {
            (None, Some(row)) => ("insert", row.clone()),
            (Some(_), Some(row)) => ("update", row.clone()),
            (Some(old), None) => ("delete", old.clone()),
            (None, None) => ("delete", json!({})),
        };
        let before = old.filter(|_| name == "update");
        for user in USERS {
            let saw = before.as_ref().is_some_and(|old| Self::is_of(old, user));
            let event = match Self::is_of(&shown, user) {
                true => Some((name, &shown, before.as_ref().filter(|_| saw), Value::Null)),
                false => before.as_ref().filter(|_| saw).map(|old| ("delete", old, None, json!("moved"))),
            };
            if let Some((name, data, before, reason)) = event {
                let mut told = json!({"offset": self.offset, "key": id.to_string(), "name": name});
                told["data"] = without_pin(data);
                told["before"] = before.map_or(Value::Null, without_pin);
                told["reason"] = reason;
                self.told.get_mut(user).unwrap().push(told);
            }
        }
        let mut event = json!({"key": id.to_string(), "name": name, "data": shown});
        event["deleted"] = (name == "delete").into();
        if let Some(before) = before {
            event["context"] = json!({"before": before, "changed": ["pin", "seller"]});
        }
        event
    }

    /// What is left of each row that a user sees.
    fn state(&self, user: &str) -> Vec<&Value> {
        let mut newest: BTreeMap<&str, &Value> = BTreeMap::new();
        for told in &self.told[user] {
            newest.insert(told["key"].as_str().unwrap(), told);
        }
        let mut left: Vec<&Value> = newest.into_values().filter(|told| told["name"] != "delete").collect();
        left.sort_by_key(|told| told["offset"].as_u64());
        left
    }
}

fn without_pin(row: &Value) -> Value {
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove("pin");
    row
}

/// The part of an event that was worked out.
fn brief(event: &Value) -> Value {
    assert!(!event.to_string().contains("pin"), "{event}");
    json!({
        "offset": event["offset"], "key": event["key"], "name": event["name"], "data": event["data"],
        "before": event["context"]["before"], "reason": event["context"]["reason"],
    })
}

async fn settings(server: &Server, topic: &str, settings: Value) {
    let path = format!("/v1/topics/{topic}");
    let request = server.request(Method::PUT, &path, &server.admin).json(&settings);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn reader(server: &Server, user: &str) -> String {
    server.token(&["--sub", user, "--subscribe", "*"]).await
}

/// A page after another, as `token` reads them.
async fn pages(server: &Server, token: &str, path: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}limit=7{after}");
        let answer = server.request(Method::GET, &path, token).send().await.unwrap();
        let page: Value = answer.json().await.unwrap();
        all.extend(page["events"].as_array().unwrap_or_else(|| panic!("{page}")).iter().map(brief));
        if page["more"] != true {
            return all;
        }
        after = format!("&after={}", page["cursor"].as_str().unwrap());
    }
}

#[tokio::test]
async fn no_door_shows_a_row_to_another() {
    let server = Server::start().await;
    settings(&server, "orders", json!({"row_rule": ["buyer", "seller"], "filter_columns": ["pin"]})).await;
    let mut tokens = BTreeMap::new();
    for user in USERS {
        tokens.insert(user, reader(&server, user).await);
    }
    let nobody = server.token(&["--subscribe", "*"]).await;
    // Live from before the first event on.
    let mut live = Vec::new();
    for user in USERS {
        let token = &tokens[user];
        let whole = Sse::open(&server, "/v1/topics/orders/events", token, None).await;
        let several = Sse::open(&server, "/v1/stream?topic=orders&topic=other", token, None).await;
        let mut socket = server.ws(token).await;
        socket.subscribe("orders", "latest").await;
        live.push((user, whole, several, socket));
    }
    let mut key_of_ann = Sse::open(&server, "/v1/topics/orders:3/events", &tokens["ann"], None).await;
    let mut unseen = Sse::open(&server, "/v1/stream?topic=orders&topic=end", &nobody, None).await;

    let mut table = Table::new();
    let mut random = Random(7);
    let mut someone = || match random.below(6) {
        0 => json!("carl"),
        1 => json!(7),
        n => json!(USERS[n as usize - 2]),
    };
    let mut choices = Random(8);
    for n in 0..60 {
        let id = 1 + choices.below(6);
        let row = json!({"buyer": someone(), "seller": someone(), "n": n, "pin": "1234"});
        let is_gone = table.rows.contains_key(&id) && choices.below(4) == 0;
        let event = table.change(id, (!is_gone).then_some(row));
        assert_eq!(server.post("orders", &server.admin, event.to_string()).await.status(), 201);
    }
    server.publish("end", &[json!("end")]).await;

    for (user, mut whole, mut several, mut socket) in live {
        let expected = &table.told[user];
        assert!(expected.len() > 10, "{user} is hardly told anything");
        for told in expected {
            assert_eq!(&brief(&whole.event().await), told, "{user} by SSE");
            assert_eq!(&brief(&several.event().await), told, "{user} by a stream of several topics");
            assert_eq!(&brief(&socket.event().await), told, "{user} by WebSocket");
        }
        let token = &tokens[user];
        let mut replayed = Sse::open(&server, "/v1/topics/orders/events?from=earliest", token, None).await;
        let mut again = server.ws(token).await;
        again.subscribe("orders", "earliest").await;
        for told in expected {
            assert_eq!(&brief(&replayed.event().await), told, "{user} by SSE from the log");
            assert_eq!(&brief(&again.event().await), told, "{user} by WebSocket from the log");
        }
        assert_eq!(&pages(&server, token, "/v1/topics/orders/events").await, expected, "{user} in pages");
        let left = table.state(user);
        let state = pages(&server, token, "/v1/topics/orders/state").await;
        assert_eq!(state.iter().collect::<Vec<_>>(), left, "State of {user}");
        let mut from_state = Sse::open(&server, "/v1/topics/orders/events?from=state", token, None).await;
        for told in left {
            assert_eq!(&brief(&from_state.event().await), told, "{user} from State");
        }
        from_state.own("$live").await;
        for id in (1..=6).map(|id| id.to_string()) {
            let found = pages(&server, token, &format!("/v1/topics/orders:{id}/events")).await;
            let of_key: Vec<_> = expected.iter().filter(|t| t["key"] == id).cloned().collect();
            assert_eq!(found, of_key, "{user} in pages of one key");
        }
        // What is not shown cannot be asked for either.
        let path = "/v1/topics/orders/events?filter=context.before.n%20%3E%3D%200";
        let with_before: Vec<_> = expected.iter().filter(|t| !t["before"].is_null()).cloned().collect();
        assert_eq!(pages(&server, token, path).await, with_before, "{user} by a filter");
    }
    for told in table.told["ann"].iter().filter(|t| t["key"] == "3") {
        assert_eq!(&brief(&key_of_ann.event().await), told, "ann by SSE of one key");
    }
    assert_eq!(unseen.event().await["topic"], "end", "without an id nothing of it is seen");
    assert!(pages(&server, &nobody, "/v1/topics/orders/state").await.is_empty());
    let all: Value = server.json("/v1/topics/orders/events?limit=1000").await;
    assert_eq!(all["events"].as_array().unwrap().len(), 60, "an admin sees everything");
    assert!(!all.to_string().contains("1234"), "a column that stays behind is shown to nobody");
}

#[tokio::test]
async fn a_rule_of_the_file_holds_after_a_crash_and_settings_come_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    let text = "[topics.invoices]\nrow_rule = \"customer\"\nfilter_columns = [\"pin\"]\n[topics.\"shop.all\"]\nrow_rule = \"*\"\n";
    std::fs::write(&file, text).unwrap();
    let mut server = Server::start_to_restart(&["--config", file.to_str().unwrap()]).await;
    let token = reader(&server, "ann").await;
    let offsets = |found: Vec<Value>| found.iter().map(|e| e["offset"].as_u64().unwrap()).collect::<Vec<_>>();
    server.publish("invoices", &[json!({"customer": "ann", "pin": 1}), json!({"customer": "bob"})]).await;
    server.publish("shop.all", &[json!({"customer": "bob"})]).await;
    // How long events are kept is another matter.
    settings(&server, "invoices", json!({"retention": {"events": 1000}})).await;
    server.crash_and_restart().await;
    server.publish("invoices", &[json!({"customer": "bob"}), json!({"customer": "ann"})]).await;
    assert_eq!(offsets(pages(&server, &token, "/v1/topics/invoices/events").await), [1, 4]);
    assert_eq!(offsets(pages(&server, &token, "/v1/topics/shop.all/events").await), [1]);
    settings(&server, "invoices", json!({"row_rule": "clerk", "filter_columns": ["note"]})).await;
    settings(&server, "invoices", json!({"state": true})).await;
    server.crash_and_restart().await;
    let row = json!({"customer": "bob", "clerk": "ann", "note": "x", "pin": 1});
    server.publish("invoices", &[json!({"customer": "ann"}), row]).await;
    let found = pages(&server, &token, "/v1/topics/invoices/events").await;
    assert_eq!(found.last().unwrap()["data"], json!({"customer": "bob", "clerk": "ann"}));
    assert_eq!(offsets(found), [1, 4, 6]);
    for bad in [json!({"row_rule": 7}), json!({"row_rule": [""]}), json!({"filter_columns": [""]})] {
        let request = server.request(Method::PUT, "/v1/topics/invoices", &server.admin).json(&bad);
        assert_eq!(code(request.send().await.unwrap()).await, (400, "parameter_invalid".into()), "{bad}");
    }
}
