//! Tokens in a table of the application's.

use super::database::{Database, Kind};
use super::*;

/// A server that looks tokens up in `sessionTokens.authToken` of this database.
async fn server(database: &Database) -> Server {
    let table = database.quoted("sessionTokens");
    let column = database.quoted("authToken");
    database.write(&format!(
        "create table {table} (id int, {column} varchar(200)); insert into {table} values \
         (101, 'good'), (102, 'twice'), (103, 'twice'), (104, 'gone'), (105, 'Straße \"x\" 1')"
    ));
    let settings = format!(
        "[databases.app]\nurl = \"{}\"\n[socketio]\nrecheck_ms = 200\n[esink]\nsecurity_token = \"{SECURITY}\"\n\
         auth_database = \"app\"\nauth_table = \"sessionTokens\"\nauth_column = \"authToken\"\n",
        database.url()
    );
    super::server(&settings).await
}

async fn exactly_one_row_is_a_user(kind: Kind) {
    let database = Database::start(kind);
    let server = server(&database).await;
    let mut clients = Clients::node();
    for way in WAYS {
        for (token, user) in [("good", "101"), ("Straße \"x\" 1", "105")] {
            let verdict = clients.enter("in", &server.url(""), way, token).await;
            assert_eq!(verdict["args"][0]["userId"], user, "{way:?}");
            clients.disconnect("in").await;
        }
        let more = ["twice", "GOOD", "good ", "", "' or '1'='1", "\" or 1=1 --", "{good}", "100%", "\\"];
        for (n, token) in more.into_iter().enumerate() {
            let name = format!("{way:?}-{n}");
            clients.connect(&name, &server.url(""), way, json!({"token": token})).await;
            assert_eq!(clients.event(&name, "error").await["args"][0]["code"], 401, "{token}");
            assert_eq!(clients.event(&name, "disconnect").await["args"][0], "io server disconnect");
        }
    }
    // A user of the application's reads what is for it, and nothing else.
    clients.enter("ann", &server.url(""), Way::Both, "good").await;
    let answer = clients.ask("ann", "subscribe", json!([{"topic": "orders"}])).await;
    assert_eq!(answer["code"], "forbidden");
    let answer = clients.ask("ann", "publish", json!([{"topic": "esink", "event": {"data": 1}}])).await;
    assert_eq!(answer["code"], "forbidden");
    publish(&server, &change("104", json!({"table": "others"}))).await;
    publish(&server, &change("101", json!({"table": "mine"}))).await;
    assert_eq!(clients.any("ann").await["event"], "mine");

    // Revoked tokens end their connections, also where the row has gone to somebody else.
    clients.enter("gone", &server.url(""), Way::Polling, "gone").await;
    clients.enter("stays", &server.url(""), Way::WebSocket, "Straße \"x\" 1").await;
    let (table, column) = (database.quoted("sessionTokens"), database.quoted("authToken"));
    database.write(&format!(
        "delete from {table} where {column} = 'gone'; update {table} set id = 7 where id = 101"
    ));
    for name in ["gone", "ann"] {
        assert_eq!(clients.event(name, "error").await["args"][0]["code"], 401, "{name}");
        assert_eq!(clients.event(name, "disconnect").await["args"][0], "io server disconnect", "{name}");
    }
    // A database that is away puts nobody out, and lets nobody in.
    let mut database = database;
    database.peer.kill();
    clients.connect("late", &server.url(""), Way::WebSocket, json!({"token": "good"})).await;
    assert_eq!(clients.event("late", "error").await["args"][0]["code"], 503);
    assert_eq!(clients.event("late", "disconnect").await["args"][0], "transport close");
    publish(&server, &change("105", json!({"table": "still"}))).await;
    assert_eq!(clients.any("stays").await["event"], "still");
    database.peer.start();
    // It was not put out, and comes back by itself.
    assert_eq!(clients.event("late", "connected").await["args"][0]["userId"], "7");
    clients.enter("later", &server.url(""), Way::WebSocket, "good").await;
    assert!(!server.log().contains("good"), "no token is logged");
    clients.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_row_of_postgresql_is_a_user() {
    exactly_one_row_is_a_user(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_row_of_mariadb_is_a_user() {
    exactly_one_row_is_a_user(Kind::MariaDb).await;
}

#[tokio::test]
async fn a_table_of_tokens_that_is_not_there_is_said_at_the_start() {
    let database = Database::start(Kind::Postgres);
    let settings = format!(
        "[databases.app]\nurl = \"{}\"\n[socketio]\nrecheck_ms = 200\n[esink]\nsecurity_token = \"{SECURITY}\"\n\
         auth_database = \"app\"\nauth_table = \"tokens\"\nauth_column = \"token\"\n",
        database.url()
    );
    let server = super::server(&settings).await;
    let said = async |what: &str| {
        crate::harness::until(what, || std::future::ready(server.log().contains(what))).await;
    };
    said("clients' tokens cannot be looked up").await;
    assert!(server.log().contains("relation \"tokens\" does not exist"), "{}", server.log());
    database.write("create table tokens (id int, token text)");
    said("can be looked up again").await;
}
