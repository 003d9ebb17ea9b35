//! Rows by SQL from real databases, through the real program and its settings.

use crate::harness::entities::changed;
use crate::harness::{Server, Sse};
use peers::Peer;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const TABLES: &str = "create table items (id int primary key, name varchar(50)); insert into items values (1, 'é'); \
    create table parts (item int, text varchar(50)); insert into parts values (1, 'a')";

/// Runs a program that writes to a database.
fn write(program: &str, args: &[&str]) {
    let program = peers::find(program).expect("installed with the peers");
    let done = Command::new(&program).args(args).output().expect("it starts");
    assert!(done.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&done.stderr));
}

fn write_postgres(peer: &Peer, text: &str) {
    let port = peer.port().to_string();
    write("psql", &["-q", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-c", text]);
}

fn write_mariadb(peer: &Peer, text: &str) {
    let port = peer.port().to_string();
    let args = ["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", "root"];
    write("mariadb", &[&args[..], &["--default-character-set=utf8mb4", "test", "-e", text]].concat());
}

fn write_sqlite(file: &Path, text: &str) {
    let program =
        "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.executescript(sys.argv[2]); d.commit()";
    write("python3", &["-c", program, file.to_str().expect("text"), text]);
}

/// The rows; `None` where the id is refused.
async fn rows(server: &Server, path: &str) -> Option<Value> {
    let answer = server.request(Method::GET, path, &server.admin).send().await.expect("an answer");
    match answer.status().as_u16() {
        200 => Some(answer.json::<Value>().await.expect("JSON")["rows"].take()),
        403 => None,
        other => panic!("{path}: {other}"),
    }
}

/// The state, a change, and an id that means something else to whoever pastes it into a text.
async fn follows(url: &str, place: &str, write: impl Fn(&str)) {
    write(TABLES);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tidings.toml");
    let settings = format!(
        "[databases.main]\nurl = \"{url}\"\n[entities.items]\ndatabase = \"main\"\nqueries = [\
         \"select id, name from items where id = {place}\", \"select text from parts where item = {place}\"]\n"
    );
    std::fs::write(&path, settings).expect("a file");
    let server = Server::start_with(&["--config", path.to_str().expect("text")]).await;
    let mut stream = Sse::open(&server, "/v1/entities/items/1", &server.admin, None).await;
    let first = json!([{"id": 1, "name": "é"}, {"text": "a"}]);
    assert_eq!(stream.own("rows").await["rows"], first);
    for id in ["1;%20drop%20table%20items", "1'%20or%20'1'='1"] {
        let found = rows(&server, &format!("/v1/entities/items/{id}")).await;
        assert_eq!(found.unwrap_or_else(|| json!([])), json!([]), "{id}");
    }
    assert_eq!(rows(&server, "/v1/entities/items/1").await, Some(first));
    write("update items set name = 'new'; delete from parts");
    changed(&server, "items", "1").await;
    assert_eq!(stream.own("rows").await["rows"], json!([{"id": 1, "name": "new"}]));
}

#[tokio::test]
async fn postgresql_rows_reach_clients() {
    let peer = peers::postgres(&[]).started();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", peer.port());
    follows(&url, "$1", |text| write_postgres(&peer, text)).await;
}

#[tokio::test]
async fn mariadb_rows_reach_clients() {
    let peer = peers::mariadb(&[]).started();
    let url = format!("mysql://root@127.0.0.1:{}/test", peer.port());
    follows(&url, "?", |text| write_mariadb(&peer, text)).await;
}

#[tokio::test]
async fn sqlite_rows_reach_clients() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("shop.db");
    follows(&format!("sqlite:{}", file.display()), "?1", |text| write_sqlite(&file, text)).await;
}
