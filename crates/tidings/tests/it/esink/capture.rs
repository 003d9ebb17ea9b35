//! Rows of a real PostgreSQL at Esink's clients, with Esink's own environment: who is told what, in which order.

use super::*;
use crate::postgres::{Database, capture, source};

const USERS: [&str; 3] = ["99", "100", "101"];

const TABLES: &str = r#"
create table sessions (id int, token text);
insert into sessions values (99, 't99'), (100, 't100'), (101, 't101'), (7, 't7');
create table users (id int primary key, password text, name text);
create table transactions (id int primary key, buyer text, seller text, amount numeric);
insert into transactions values (0, '99', null, 1);
create table news (id int primary key, text text);
create table hidden (id int primary key);
create table "bankRecords" (id int primary key, owner text);
create schema sales; create table sales.orders (id int primary key, customer int)"#;

/// A database with these tables; replication is possible or not.
async fn database(wal_level: &str) -> Database {
    let db = Database::start_with(&[&format!("wal_level={wal_level}")]).await;
    db.run(TABLES).await;
    db
}

/// Esink's variables for it, letting in pages of `origin`.
async fn esink_of(db: &Database, origin: &str) -> Server {
    Server::start_in(&[
        ("POSTGRES_DATABASE_URL", &db.url()),
        ("TABLE_NAMES", "users, transactions, news, hidden, bankRecords, sales.orders"),
        ("AUTH_TABLE", "sessions"),
        ("AUTH_COLUMN", "token"),
        ("FILTERS", "users.password,transactions.seller,"),
        (
            "TABLE_AUTH_COLUMN_ROUTING",
            "{'users': 'id', transactions: ['buyer', 'seller'], news: '*', // everybody
              bankRecords: 'owner', 'sales.orders': 'customer',}",
        ),
        ("SECURITY_TOKEN", SECURITY),
        ("TIDINGS_HTTP_ORIGINS", origin),
    ])
    .await
}

/// The next change at a client: told under its table's name, then again among all changes.
async fn next(clients: &mut Clients, name: &str) -> Value {
    let (table, all) = (clients.any(name).await, clients.any(name).await);
    assert_eq!(table["args"], all["args"], "{name}");
    let change = all["args"][0].clone();
    assert_eq!((&table["event"], &all["event"]), (&change["table"], &json!("changes")), "{name}");
    assert_eq!((&change["source_type"], &change["version"]), (&json!("database"), &json!(1)));
    assert!(change["id"].as_str().unwrap().len() == 36 && change["timestamp"].is_u64(), "{change}");
    change
}

/// What one user is told; of each table in order.
#[derive(Default)]
struct Told(Vec<(&'static str, &'static str, Value)>);

impl Told {
    fn add(&mut self, table: &'static str, kind: &'static str, data: Value) {
        self.0.push((table, kind, data));
    }

    async fn is_at(&self, clients: &mut Clients, name: &str) {
        let mut all = Vec::new();
        for _ in &self.0 {
            all.push(next(clients, name).await);
        }
        for (table, kind, data) in &self.0 {
            let at = all.iter().position(|change| change["table"] == *table);
            let change = all.remove(at.unwrap_or_else(|| panic!("{name}: {table} {kind} {data} is missing")));
            assert_eq!((&change["type"], &change["data"]), (&json!(kind), data), "{name}: {change}");
            assert_eq!(change["source"], "postgres", "{name}");
        }
    }
}

async fn everybody_is_told_of_the_own_rows(wal_level: &str) {
    let db = database(wal_level).await;
    let (mut page, origin) = Clients::page().await;
    let server = esink_of(&db, &origin).await;
    let mode = if wal_level == "logical" { "logical" } else { "triggers" };
    assert_eq!(server.json("/v1/sources").await["sources"][0]["mode"], mode);
    let mut node = Clients::node();
    let localhost = format!("http://localhost:{}", server.port());
    for user in USERS {
        for way in WAYS {
            node.enter(&format!("{user} {way:?}"), &server.url(""), way, &format!("t{user}")).await;
        }
        for way in [Way::Polling, Way::WebSocket] {
            page.enter(&format!("{user} {way:?}"), &localhost, way, &format!("t{user}")).await;
        }
    }
    let mut told = USERS.map(|_| Told::default());
    db.run("insert into users select id, 'hush', 'n' from generate_series(99, 101) id").await;
    db.run("begin; update users set name = 'never'; rollback").await;
    db.run("begin; update users set name = 'N'; savepoint s; delete from users; rollback to s; commit").await;
    for (told, id) in told.iter_mut().zip(99..) {
        told.add("users", "insert", json!({"id": id, "name": "n"}));
        told.add("users", "update", json!({"id": id, "name": "N"}));
    }
    // Named in two columns; in both; passed on; deleted. The seller decides, and is told nobody.
    db.run("insert into transactions values (1, '99', '100', 5.50), (2, '101', '101', 6)").await;
    db.run("update transactions set buyer = '100' where id = 1").await;
    db.run("delete from transactions where id = 1").await;
    let transaction = |id: u64, buyer: &str, amount: f64| json!({"id": id, "buyer": buyer, "amount": amount});
    told[0].add("transactions", "insert", transaction(1, "99", 5.5));
    told[1].add("transactions", "insert", transaction(1, "99", 5.5));
    told[2].add("transactions", "insert", json!({"id": 2, "buyer": "101", "amount": 6}));
    told[0].add("transactions", "delete", transaction(1, "99", 5.5));
    told[1].add("transactions", "update", transaction(1, "100", 5.5));
    told[1].add("transactions", "delete", transaction(1, "100", 5.5));
    // What was there before anybody captured it.
    db.run("update transactions set buyer = '100' where id = 0; delete from transactions where id = 0").await;
    told[0].add("transactions", "delete", json!({"id": 0, "buyer": "99", "amount": 1}));
    for kind in ["update", "delete"] {
        told[1].add("transactions", kind, json!({"id": 0, "buyer": "100", "amount": 1}));
    }
    // A value is a value; a table without a rule is for nobody.
    db.run(r#"insert into "bankRecords" values (1, '*'), (2, 'constructor'), (3, '__proto__'), (4, '99')"#)
        .await;
    db.run("insert into hidden values (1); insert into sales.orders values (1, 101)").await;
    told[0].add("bankRecords", "insert", json!({"id": 4, "owner": "99"}));
    told[2].add("sales.orders", "insert", json!({"id": 1, "customer": 101}));
    // For everybody; a deleted row is told as it was.
    db.run("insert into news values (1, 'x')").await;
    db.run("delete from news").await;
    // The connections to the database break, and the application goes on.
    db.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidings'").await;
    db.run("insert into news values (2, 'still there')").await;
    for told in &mut told {
        told.add("news", "insert", json!({"id": 1, "text": "x"}));
        told.add("news", "delete", json!({"id": 1, "text": "x"}));
        told.add("news", "insert", json!({"id": 2, "text": "still there"}));
    }
    for (user, told) in USERS.iter().zip(&told) {
        for way in WAYS {
            told.is_at(&mut node, &format!("{user} {way:?}")).await;
        }
        for way in [Way::Polling, Way::WebSocket] {
            told.is_at(&mut page, &format!("{user} {way:?}")).await;
        }
    }
    // A row of five megabytes does not trouble the application, and arrives.
    db.run(r#"insert into "bankRecords" values (5, '101')"#).await;
    db.run("alter table users alter name set storage external; insert into users values (7, '', repeat('x', 5000000))")
        .await;
    for way in WAYS {
        let name = format!("7 {way:?}");
        // Whoever comes later has missed it, and is told of what follows.
        node.enter(&name, &server.url(""), way, "t7").await;
    }
    db.run("update users set name = repeat('y', 5000000) where id = 7").await;
    for way in WAYS {
        let change = next(&mut node, &format!("7 {way:?}")).await;
        assert_eq!(change["data"]["name"].as_str().unwrap().len(), 5_000_000, "{way:?}");
        assert_eq!(next(&mut node, &format!("101 {way:?}")).await["data"]["id"], 5);
    }
    assert!(!server.log().contains("hush") && !server.log().contains("t99"), "{}", server.log());
    node.end().await;
    page.end().await;
}

#[tokio::test]
async fn every_user_is_told_of_its_own_rows_and_of_no_others() {
    everybody_is_told_of_the_own_rows("logical").await;
}

#[tokio::test]
async fn where_the_database_cannot_replicate_triggers_tell_the_same() {
    everybody_is_told_of_the_own_rows("replica").await;
}

#[tokio::test]
async fn a_client_that_comes_back_after_a_crash_has_missed_no_change() {
    let db = database("logical").await;
    let mut server = esink_of(&db, "http://localhost").await;
    let mut clients = Clients::node();
    for way in WAYS {
        let name = format!("{way:?}");
        clients.enter(&name, &server.url(""), way, "t99").await;
    }
    db.run("insert into news values (0)").await;
    for way in WAYS {
        let name = format!("{way:?}");
        let told = clients.event(&name, "changes").await;
        let auth = json!({"token": "t99", "cursor": told["args"][1]});
        clients.renew(&name, auth).await;
    }
    server.kill().await;
    db.run("insert into news select generate_series(1, 20)").await;
    server.launch().await;
    db.run("insert into news values (21)").await;
    for way in WAYS {
        for id in 1..=21 {
            let told = clients.event(&format!("{way:?}"), "changes").await;
            assert_eq!(told["args"][0]["data"]["id"], id, "{way:?}");
        }
    }
    clients.end().await;
}

fn told(id: u64, name: &str) -> Value {
    json!({"id": id, "name": name})
}

#[tokio::test]
async fn each_of_two_instances_tells_every_change_once() {
    let db = database("logical").await;
    let one = esink_of(&db, "http://localhost").await;
    // The second one has its own name, and with it its own slot and publication.
    let tables = "tables = [{name = \"users\", rows = \"id\"}, {name = \"news\", rows = \"*\"}]";
    let settings = source(&db.url(), &[], "").replace("tables = []", tables)
        + "[esink]\nauth_database = \"shop\"\nauth_table = \"sessions\"\nauth_column = \"token\"\n";
    let (two, _dir) = capture(&settings).await;
    let mut clients = Clients::node();
    for (name, server) in [("one", &one), ("two", &two)] {
        clients.enter(name, &server.url(""), Way::Both, "t101").await;
    }
    db.run("insert into users select id, '', 'n' from generate_series(99, 101) id").await;
    for n in 0..50 {
        db.run(&format!("update users set name = '{n}'")).await;
    }
    db.run("insert into news values (1)").await;
    for name in ["one", "two"] {
        let mut all = Vec::new();
        for _ in 0..52 {
            all.push(next(&mut clients, name).await);
        }
        let users: Vec<Value> =
            all.iter().filter(|c| c["table"] == "users").map(|c| c["data"].clone()).collect();
        let expected = ["n".to_owned()].into_iter().chain((0..50).map(|n| n.to_string()));
        let expected: Vec<Value> = expected.map(|name| told(101, &name)).collect();
        // The second one has no column that stays behind.
        let shown = |row: &Value| told(row["id"].as_u64().unwrap(), row["name"].as_str().unwrap());
        assert_eq!(users.iter().map(shown).collect::<Vec<_>>(), expected, "{name}");
        assert_eq!(all.len(), users.len() + 1, "{name}");
    }
    assert_eq!(db.number("select count(*) from pg_replication_slots").await, 2);
    clients.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_reading_hold_up_nobody_while_ten_thousand_rows_change() {
    let db = database("logical").await;
    let server = esink_of(&db, "http://localhost").await;
    let rows =
        format!("insert into news select n, repeat('x', 1000) from generate_series(1, {}) n", stuck::ROWS);
    stuck::hold_up_nobody(&server, db.run(&rows)).await;
}

#[tokio::test]
async fn a_column_that_is_misspelled_is_said_and_nothing_is_captured() {
    let db = database("logical").await;
    for (variable, value, name) in [
        ("FILTERS", "users.pasword", "pasword"),
        ("TABLE_AUTH_COLUMN_ROUTING", "{users: 'userid'}", "userid"),
    ] {
        let variables = [("POSTGRES_DATABASE_URL", &*db.url()), ("TABLE_NAMES", "users"), (variable, value)];
        let server = Server::start_unready_in(&variables).await;
        let status = crate::sources::until_state(&server, "failed").await;
        let sentence = status["error"]["text"].as_str().unwrap();
        let expected = format!("table users has no column {name}");
        assert!(sentence.contains(&expected) && sentence.contains("id, password, name"), "{sentence}");
        db.run("insert into users values (1, 'secret', 'ann'); delete from users").await;
        assert_eq!(server.get("/v1/topics/users/events").await.status(), 404);
    }
}
