//! Rows by SQL from real databases: one set of promises for all, then what is particular to each.

mod mariadb;
mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::{Duration, Instant};
use tidings_drivers::resolver::sql::{Settings, Source};
use tidings_engine::auth::TokenLookup as _;
use tidings_engine::entities::{Error, Resolver, Rows, Secret};
use tidings_model::EntityKey;

const PATIENCE: Duration = Duration::from_secs(20);

/// Ids that mean something else to whoever pastes them into a text.
const HOSTILE: &[&str] = &[
    "1; drop table items",
    "1' or '1'='1",
    "1\" or 1=1 --",
    "' union select 1, 'x' --",
    "\\' or 1=1 #",
    "é漢字🙂",
    "%",
    "_",
    "null",
    "$1",
    "?",
    "-1",
    "2147483648",
    "99999999999999999999999999",
    "1e400",
    "NaN",
];

/// What differs between the databases: how queries are written.
struct Words {
    /// Items by number, and by text.
    by_number: &'static str,
    by_text: &'static str,
    /// What belongs to an item, in order.
    parts: &'static str,
    by_secret: &'static str,
    /// 100,000 rows.
    flood: &'static str,
    /// Goes on for a minute.
    slow: &'static str,
    /// Removes an item.
    delete: &'static str,
}

/// The tables that the promises speak of; every database takes these words.
fn tables() -> Vec<String> {
    let mut words = vec![
        "create table items (id int primary key, name varchar(50), owner varchar(50))".to_owned(),
        "create table texts (id varchar(300) primary key, name varchar(50))".to_owned(),
        "create table parts (item int, position int, name varchar(50))".to_owned(),
        "insert into items values (1, 'one', 'me'), (2, 'two', 'you')".to_owned(),
        "insert into parts values (1, 2, 'b'), (1, 1, 'a'), (2, 1, 'c')".to_owned(),
        "create table auth (id int, token varchar(100))".to_owned(),
        "insert into auth values (101, 'good'), (102, 'twice'), (103, 'twice'), (104, 'a\"b')".to_owned(),
    ];
    for id in ids() {
        let quoted = id.replace('\\', "\\\\").replace('\'', "''");
        words.push(format!("insert into texts values ('{quoted}', 'hostile')"));
    }
    words
}

fn ids() -> Vec<String> {
    HOSTILE.iter().map(|id| (*id).to_owned()).chain(["x".repeat(255)]).collect()
}

fn source(url: &str) -> Source {
    // One connection, so that one that is stuck or spoilt shows.
    Source::open(&Settings { url: url.to_owned(), connections_max: 1 }).expect("a good URL")
}

fn resolver(source: &Source, queries: &[&str]) -> Arc<dyn Resolver> {
    let queries: Vec<String> = queries.iter().map(|text| (*text).to_owned()).collect();
    source.resolver(&queries).expect("good queries")
}

async fn fetch_within(
    resolver: &dyn Resolver,
    id: &str,
    secret: &str,
    out: Rows,
) -> Result<Vec<String>, Error> {
    let key = EntityKey::parse("items", id).expect("a valid key");
    let secret = Secret::new(secret);
    tokio::time::timeout(PATIENCE, resolver.fetch(&key, &secret, out.clone())).await.expect("in time")?;
    Ok(out.finish()?.iter().map(|row| String::from_utf8(row.to_vec()).expect("text")).collect())
}

async fn fetch(resolver: &dyn Resolver, id: &str) -> Result<Vec<String>, Error> {
    fetch_within(resolver, id, "", Rows::new(1000, 1 << 20)).await
}

/// What every database keeps. The tables are there.
async fn keeps_the_promises(source: &Source, words: &Words) {
    ids_are_bound_and_never_spliced(source, words).await;
    several_queries_follow_each_other(source, words).await;
    a_query_that_asks_for_the_secret_gets_it(source, words).await;
    no_more_rows_are_read_than_asked_for(source, words).await;
    a_dropped_fetch_is_stopped(source, words).await;
    nothing_is_ever_written(source, words).await;
}

async fn ids_are_bound_and_never_spliced(source: &Source, words: &Words) {
    let (by_number, by_text) = (resolver(source, &[words.by_number]), resolver(source, &[words.by_text]));
    for id in ids() {
        match fetch(&*by_number, &id).await {
            Ok(rows) => assert!(rows.is_empty(), "{id}: {rows:?}"),
            Err(error) => assert_eq!(error, Error::Refused, "{id}"),
        }
        let name = serde_json::to_string(&id).unwrap();
        let expected = format!(r#"{{"id":{name},"name":"hostile"}}"#);
        assert_eq!(fetch(&*by_text, &id).await, Ok(vec![expected]), "{id}");
    }
    assert_eq!(fetch(&*by_number, "1").await.unwrap(), [r#"{"name":"one","id":1}"#]);
    assert!(fetch(&*by_number, "3").await.unwrap().is_empty());
}

async fn several_queries_follow_each_other(source: &Source, words: &Words) {
    let both = resolver(source, &[words.by_number, words.parts]);
    let expected = [r#"{"name":"one","id":1}"#, r#"{"part":"a"}"#, r#"{"part":"b"}"#];
    assert_eq!(fetch(&*both, "1").await.unwrap(), expected);
    for id in ["1e", "1; drop table items"] {
        assert!(fetch(&*both, id).await.unwrap_or_default().is_empty(), "{id}");
    }
    assert_eq!(fetch(&*both, "2").await.unwrap(), [r#"{"name":"two","id":2}"#, r#"{"part":"c"}"#]);
}

async fn a_query_that_asks_for_the_secret_gets_it(source: &Source, words: &Words) {
    let own = resolver(source, &[words.by_secret]);
    assert!(own.secret_matters() && !resolver(source, &[words.by_number]).secret_matters());
    for (secret, count) in [("me", 1), ("you", 0), ("' or '1'='1", 0), ("", 0)] {
        let rows = fetch_within(&*own, "1", secret, Rows::new(10, 1000)).await.unwrap();
        assert_eq!(rows.len(), count, "{secret}");
    }
}

async fn no_more_rows_are_read_than_asked_for(source: &Source, words: &Words) {
    let flood = resolver(source, &[words.flood]);
    let done = fetch_within(&*flood, "1", "", Rows::new(1000, 1 << 20)).await;
    assert!(matches!(done, Err(Error::TooLarge { rows_max: 1000, .. })), "{done:?}");
    assert_eq!(fetch_within(&*flood, "1", "", Rows::new(100_000, 8 << 20)).await.unwrap().len(), 100_000);
    assert_eq!(fetch(&*resolver(source, &[words.by_number]), "1").await.unwrap().len(), 1);
}

async fn a_dropped_fetch_is_stopped(source: &Source, words: &Words) {
    let slow = resolver(source, &[words.slow]);
    let (key, secret) = (EntityKey::parse("items", "1").unwrap(), Secret::new(""));
    let began = Instant::now();
    let fetch_slowly = slow.fetch(&key, &secret, Rows::new(10, 1000));
    tokio::time::timeout(Duration::from_millis(300), fetch_slowly).await.expect_err("it takes a minute");
    // The only connection is free again: waiting for the end of the query would take too long.
    let quick = resolver(source, &[words.by_number]);
    assert_eq!(fetch(&*quick, "1").await.unwrap().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10));
}

async fn nothing_is_ever_written(source: &Source, words: &Words) {
    let delete = resolver(source, &[words.delete]);
    let done = fetch(&*delete, "1").await;
    assert!(matches!(done, Err(Error::Failed(_))), "{done:?}");
    assert_eq!(fetch(&*resolver(source, &[words.by_number]), "1").await.unwrap().len(), 1);
}

/// Tokens are found by many at once, and only as they are written.
async fn tokens_count_as_they_are_written(source: &Source) {
    let lookup = source.tokens("auth", "token").expect("good names");
    let asked: Vec<&str> =
        ["good", "twice", "a\"b", "GOOD", "none"].into_iter().chain(HOSTILE.iter().copied()).collect();
    let found = lookup.find(&asked).await.expect("an answer");
    let expected = [("good", "101"), ("a\"b", "104")].map(|(token, id)| (token.to_owned(), id.to_owned()));
    assert_eq!(found, expected.into());
    assert!(source.tokens("no such table", "token").expect("a name").find(&["x"]).await.is_err());
    assert!(source.tokens("", "token").is_err());
}

/// A database that goes away is an error, and one that comes back is used again.
async fn survives_a_restart(source: &Source, words: &Words, peer: &mut peers::Peer) {
    let item = resolver(source, &[words.by_number]);
    assert_eq!(fetch(&*item, "1").await.unwrap().len(), 1);
    peer.kill();
    assert!(matches!(fetch(&*item, "1").await, Err(Error::Failed(_))));
    assert!(matches!(fetch(&*item, "1").await, Err(Error::Failed(_))));
    peer.start();
    assert_eq!(fetch(&*item, "1").await.unwrap().len(), 1);
}
