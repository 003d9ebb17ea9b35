//! MySQL's part of Esink's environment, against a real MariaDB and a user with no more rights than it needs.

use super::database::{Database, Kind};
use super::environment::{Esink, http};
use super::*;
use crate::harness::until;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use std::time::{Duration, Instant};

const TABLES: &str = "create table users (id int primary key, name varchar(50), password varchar(50)); \
    insert into users values (99, 'a', 'hush'), (100, 'b', 'hush'), (101, 'c', 'hush'); \
    create table orders (id int primary key, buyer varchar(50), seller varchar(50)); \
    create table news (id int primary key); create table secrets (id int primary key); \
    create table bankRecords (id int primary key, userId bigint, amount decimal(10,2)); \
    create table `push notifications` (`the id` int primary key, `für` varchar(50), payload json); \
    create table sessions (id int, token varchar(100)); \
    insert into sessions values (99, 't99'), (100, 't100'), (101, 't101'); \
    delete from mysql.db; flush privileges; create user esink@'%' identified by 'p@ss/w:rd'; grant select, trigger, create, alter, insert, delete on test.* to esink@'%'";
const ROUTING: &str = "{'users': 'id', orders: ['buyer', 'seller'], /* everybody */ news: '*', \
    bankRecords: 'userId', 'push notifications': 'für',}";
const NAMES: &str = "'users, orders,news,secrets, bankRecords,push notifications'";

/// A database with these tables.
struct Shop {
    database: Database,
    port: String,
}

impl Shop {
    fn open() -> Self {
        let database = Database::start(Kind::MariaDb);
        database.write(TABLES);
        let port = database.peer.port().to_string();
        Self { database, port }
    }

    /// Esink's variables, as a compose file has them.
    fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [
            ("MYSQL_DATABASE", "test"),
            ("MYSQL_HOST", "127.0.0.1"),
            ("MYSQL_PORT", &self.port),
            ("MYSQL_USERNAME", "esink"),
            ("MYSQL_PASSWORD", "p@ss/w:rd"),
            ("MYSQL_TABLE_TARGET", "'esink_pubsub'"),
            ("TABLE_NAMES", NAMES),
            ("TABLE_AUTH_COLUMN_ROUTING", ROUTING),
            ("FILTERS", "users.password,bankRecords.userId,"),
            ("AUTH_TABLE", "sessions"),
            ("AUTH_COLUMN", "token"),
            ("SECURITY_TOKEN", SECURITY),
        ];
        own.into_iter()
            .filter(|(name, _)| !more.iter().any(|(other, _)| other == name))
            .chain(more.iter().copied())
            .collect()
    }

    async fn connect(&self) -> Conn {
        let url = format!("mysql://root@127.0.0.1:{}/test", self.port);
        Conn::new(Opts::from_url(&url).unwrap()).await.unwrap()
    }

    /// Triggers on a table.
    async fn triggers(&self, table: &str) -> Vec<String> {
        let query = "select event_manipulation from information_schema.triggers where event_object_table = ? order by 1";
        self.connect().await.exec(query, (table,)).await.unwrap()
    }
}

/// Waits until it says that it captures.
async fn captures(esink: &Esink) {
    let http = http();
    until("the capture", async || {
        http.get(format!("{}/readyz", esink.url)).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

/// The next change that a client is told of, twice: as its table's and among all.
async fn next(clients: &mut Clients, name: &str) -> Value {
    let (table, all) = (clients.any(name).await, clients.any(name).await);
    assert_eq!(all["event"], "changes", "{name}: {table} {all}");
    let sent = &all["args"][0];
    assert_eq!((&table["event"], &table["args"][0]), (&sent["table"], sent), "{name}");
    assert_eq!((&sent["source"], &sent["source_type"]), (&json!("test"), &json!("database")));
    assert_eq!((&sent["version"], sent["id"].as_str().map(str::len)), (&json!(1), Some(36)), "{sent}");
    assert!(sent["timestamp"].as_u64().unwrap() > 1_700_000_000_000, "{sent}");
    sent.clone()
}

/// What a change says, in short.
fn short(sent: &Value) -> (&str, &str, &Value) {
    (sent["table"].as_str().unwrap(), sent["type"].as_str().unwrap(), &sent["data"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_reach_the_users_whom_they_concern_and_nobody_else() {
    let shop = Shop::open();
    let esink = Esink::start(&shop.variables(&[])).await;
    captures(&esink).await;
    for table in ["users", "orders", "news", "secrets", "bankRecords", "push notifications"] {
        assert_eq!(shop.triggers(table).await, ["DELETE", "INSERT", "UPDATE"], "{table}");
    }
    let mut clients = Clients::node();
    let mut names = Vec::new();
    for way in WAYS {
        for user in [99, 100, 101] {
            let name = format!("{user} {way:?}");
            let verdict = clients.enter(&name, &esink.url, way, &format!("t{user}")).await;
            assert_eq!(verdict["args"][0]["userId"], user.to_string());
            names.push((user, name));
        }
    }
    // Each only its own row, without the filtered column.
    shop.database.write("update users set name = 'x' where id in (99, 100, 101)");
    for (user, name) in &names {
        let sent = next(&mut clients, name).await;
        assert_eq!(short(&sent), ("users", "update", &json!({"id": user, "name": "x"})));
    }
    // Two columns: both users, and one who is in both only once. Words that mean something are values like others.
    shop.database.write(
        "insert into orders values (1, '99', '100'), (2, '99', '99'), (3, '*', 'constructor'), (4, '101', '*'), \
         (5, '__proto__', '100'), (6, '99', '101')",
    );
    for (user, ids) in [(99, [1, 2, 6].as_slice()), (100, &[1, 5]), (101, &[4, 6])] {
        for (_, name) in names.iter().filter(|(one, _)| *one == user) {
            for id in ids {
                assert_eq!(next(&mut clients, name).await["data"]["id"], *id, "{name}");
            }
        }
    }
    // What a transaction takes back is silent, the rest is in its order; a table without a rule is for nobody.
    shop.database
        .write("begin; insert into news values (1); insert into bankRecords values (1, 101, 0); rollback");
    shop.database.write("insert into secrets values (1); insert into users values (7, 'nobody', '')");
    shop.database.write(
        "begin; insert into bankRecords values (1, 101, 1.10); savepoint s; \
         update bankRecords set amount = 5; rollback to s; update bankRecords set amount = 2; delete from bankRecords; commit",
    );
    for (_, name) in names.iter().filter(|(user, _)| *user == 101) {
        for (kind, amount) in [("insert", json!(1.1)), ("update", json!(2)), ("delete", json!(2))] {
            let sent = next(&mut clients, name).await;
            assert_eq!(short(&sent), ("bankRecords", kind, &json!({"id": 1, "amount": amount})));
        }
    }
    shop.database.write("insert into `push notifications` values (1, '100', '{\"a\": [1, {}]}')");
    for (_, name) in names.iter().filter(|(user, _)| *user == 100) {
        let data = json!({"the id": 1, "für": "100", "payload": {"a": [1, {}]}});
        assert_eq!(short(&next(&mut clients, name).await), ("push notifications", "insert", &data));
    }
    // Everybody, soon: the pause between two looks is a quarter of a second.
    let mut times = Vec::new();
    for id in 2..7 {
        shop.database.write(&format!("insert into news values ({id})"));
        let begun = Instant::now();
        for (_, name) in &names {
            assert_eq!(
                short(&next(&mut clients, name).await),
                ("news", "insert", &json!({"id": id})),
                "{name}"
            );
        }
        times.push(begun.elapsed());
    }
    times.sort();
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
    // Published by hand to a captured table, with the same filter; the users of rows are not disturbed.
    let body = change("100", json!({"data": {"id": 9, "password": "hush"}, "source": "test"}));
    let sent = http().post(format!("{}/publish", esink.url)).header("content-type", "application/json");
    let (status, answer) = json_of(sent.body(body.to_string()).send().await.unwrap()).await;
    assert_eq!((status, answer["sentTo"].as_array().unwrap().len()), (200, 3));
    for (_, name) in names.iter().filter(|(user, _)| *user == 100) {
        clients.any(name).await;
        let sent = clients.any(name).await["args"][0].clone();
        assert_eq!((&sent["source_type"], &sent["data"]), (&json!("api"), &json!({"id": 9})));
    }
    clients.end().await;
    let said = esink.end().await;
    assert!(!said.contains("p@ss") && !said.contains("t101") && !said.contains("hush"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_fails_and_none_is_lost_while_the_service_restarts() {
    const ROWS: u64 = 1000;
    let shop = Shop::open();
    let mut esink = Esink::start(&shop.variables(&[])).await;
    captures(&esink).await;
    let mut clients = Clients::node();
    let start = clients.enter("before", &esink.url, Way::WebSocket, "t99").await["args"][1].clone();
    let mut writer = shop.connect().await;
    let writing = tokio::spawn(async move {
        for id in 1..=ROWS {
            writer.query_drop(format!("insert into news values ({id})")).await.expect("no write fails");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    for _ in 0..3 {
        clients.event("before", "news").await;
        esink = esink.restart(&shop.variables(&[])).await;
        clients.event("before", "connected").await;
    }
    writing.await.unwrap();
    captures(&esink).await;
    for way in WAYS {
        let name = format!("after {way:?}");
        clients.connect(&name, &esink.url, way, json!({"token": "t100", "cursor": start})).await;
        clients.event(&name, "connected").await;
        for id in 1..=ROWS {
            assert_eq!(next(&mut clients, &name).await["data"]["id"], id, "{name}");
        }
    }
    clients.end().await;
    esink.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_are_made_again_and_triggers_of_tables_left_out_are_removed() {
    let mut shop = Shop::open();
    let esink = Esink::start(&shop.variables(&[])).await;
    captures(&esink).await;
    let mut clients = Clients::node();
    clients.enter("ann", &esink.url, Way::Both, "t99").await;
    let mut root = shop.connect().await;
    let own: Vec<u64> =
        root.query("select id from information_schema.processlist where user = 'esink'").await.unwrap();
    assert!(!own.is_empty());
    for id in own {
        root.query_drop(format!("kill {id}")).await.unwrap();
    }
    shop.database.write("insert into news values (1)");
    assert_eq!(next(&mut clients, "ann").await["data"]["id"], 1);
    shop.database.peer.kill();
    until("it is noticed", async || {
        http().get(format!("{}/readyz", esink.url)).send().await.unwrap().status() == 503
    })
    .await;
    shop.database.peer.start();
    shop.database.write("insert into news values (2)");
    assert_eq!(next(&mut clients, "ann").await["data"]["id"], 2);

    let esink = esink.restart(&shop.variables(&[("TABLE_NAMES", "news")])).await;
    captures(&esink).await;
    assert_eq!(shop.triggers("news").await.len(), 3);
    assert!(shop.triggers("users").await.is_empty());
    clients.event("ann", "connected").await;
    shop.database.write("update users set name = 'y'; insert into news values (3)");
    assert_eq!(next(&mut clients, "ann").await["data"]["id"], 3);
    clients.end().await;
    esink.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_with_tables_of_their_own_tell_each_user_once() {
    let shop = Shop::open();
    let one = Esink::start(&shop.variables(&[])).await;
    let two = Esink::start(&shop.variables(&[("MYSQL_TABLE_TARGET", "other")])).await;
    captures(&one).await;
    captures(&two).await;
    assert_eq!(shop.triggers("users").await.len(), 6);
    let mut clients = Clients::node();
    clients.enter("one", &one.url, Way::WebSocket, "t99").await;
    clients.enter("two", &two.url, Way::Polling, "t99").await;
    for id in 1..=50 {
        shop.database.write(&format!("insert into orders values ({id}, '99', '100')"));
    }
    for name in ["one", "two"] {
        for id in 1..=50 {
            assert_eq!(next(&mut clients, name).await["data"]["id"], id, "{name}");
        }
    }
    clients.end().await;
    one.end().await;
    two.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_reading_hold_up_nobody_while_ten_thousand_rows_change() {
    let shop = Shop::open();
    shop.database.write("alter table news add body text");
    let server = Server::start_in(&shop.variables(&[])).await;
    until("the capture", async || server.get("/readyz").await.status() == 200).await;
    let rows = format!("insert into news select seq, repeat('x', 1000) from seq_1_to_{}", stuck::ROWS);
    stuck::hold_up_nobody(&server, async { shop.database.write(&rows) }).await;
}
