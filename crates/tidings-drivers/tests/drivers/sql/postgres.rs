//! PostgreSQL.

use super::*;
use tokio_postgres::NoTls;

const WORDS: Words = Words {
    by_number: "select name, id from items where id = $1 -- the item itself",
    by_text: "select * from texts where id = $1;",
    parts: "select name as part from parts where item = $1 order by position",
    by_secret: "select id from items where id = $1 and owner = $2",
    flood: "select n from generate_series(1, 100000) n where $1 = '1'",
    slow: "select pg_sleep(60)",
    delete: "select forget($1)",
};

const FORGET: &str = "create function forget(id int) returns void language sql as \
    'delete from items where items.id = forget.id'";

const TYPES: &str = "select true as yes, 9223372036854775807 as big, \
    123456789012345678901234567890.1234567890 as exact, 0.1::float8 as f, 'NaN'::float8 as nan, \
    timestamptz '2026-11-21 12:34:56.789012+02' as moment, timestamp '2026-11-21 12:34:56' as local, \
    date '2026-11-21' as day, decode('00ff', 'hex') as bytes, repeat('x', 100)::bytea as long, \
    '{\"b\": 1.00, \"a\": [1]}'::json as doc, array[1, 2] as list, null as nothing, \
    '0188a0c0-0000-7000-8000-000000000000'::uuid as u, 'a\"\u{e9}' as \"odd \"\"name\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_keeps_the_promises() {
    let mut peer = peers::postgres(&[]).started();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", peer.port());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for text in tables() {
        // Backslashes are plain in PostgreSQL.
        client.batch_execute(&text.replace("\\\\", "\\")).await.unwrap();
    }
    client.batch_execute(FORGET).await.unwrap();
    let source = source(&url);
    keeps_the_promises(&source, &WORDS).await;
    tokens_count_as_they_are_written(&source).await;
    every_type_keeps_its_value(&source).await;
    ids_are_read_as_the_type_that_is_asked_for(&source).await;
    a_changed_table_needs_no_restart(&source, &client).await;
    survives_a_restart(&source, &WORDS, &mut peer).await;
    let _ = connection.await;
}

async fn every_type_keeps_its_value(source: &Source) {
    let long = "eHh4".repeat(33) + "eA==";
    let expected = format!(
        "{{\"yes\":true,\"big\":9223372036854775807,\"exact\":123456789012345678901234567890.1234567890,\
         \"f\":0.1,\"nan\":\"NaN\",\"moment\":\"2026-11-21T10:34:56.789012+00:00\",\
         \"local\":\"2026-11-21T12:34:56\",\"day\":\"2026-11-21\",\"bytes\":\"AP8=\",\"long\":\"{long}\",\
         \"doc\":{{\"b\": 1.00, \"a\": [1]}},\"list\":[1,2],\"nothing\":null,\
         \"u\":\"0188a0c0-0000-7000-8000-000000000000\",\"odd \\\"name\":\"a\\\"é\"}}"
    );
    assert_eq!(fetch(&*resolver(source, &[TYPES]), "1").await.unwrap(), [expected]);
}

async fn ids_are_read_as_the_type_that_is_asked_for(source: &Source) {
    let backend = resolver(source, &["select pg_backend_pid()"]);
    let before = fetch(&*backend, "1").await.unwrap();
    let day = resolver(source, &["select 1 as one where date '2026-11-21' = $1"]);
    assert_eq!(fetch(&*day, "2026-11-21").await.unwrap().len(), 1);
    assert_eq!(fetch(&*day, "no day").await, Err(Error::Refused));
    assert_eq!(fetch(&*day, "2026-13-41").await, Err(Error::Refused));
    let exact = resolver(source, &["select 1 as one where 1.50::numeric = $1"]);
    assert_eq!(fetch(&*exact, "1.5").await.unwrap().len(), 1);
    assert_eq!(fetch(&*exact, "1,5").await, Err(Error::Refused));
    // A failure of the query itself is told as one.
    let broken = resolver(source, &["select name::int from items where id = $1"]);
    assert!(matches!(fetch(&*broken, "1").await, Err(Error::Failed(_))));
    let both = resolver(source, &["select 1 as one", "select 1 as one where date '2026-11-21' = $1"]);
    assert_eq!(fetch(&*both, "no day").await, Err(Error::Refused));
    assert_eq!(fetch(&*both, "2026-11-21").await.unwrap().len(), 2);
    // Whoever sends odd ids does not make the server open connections.
    assert_eq!(fetch(&*backend, "1").await.unwrap(), before);
}

async fn a_changed_table_needs_no_restart(source: &Source, client: &tokio_postgres::Client) {
    client.batch_execute("create table grows (id int); insert into grows values (1)").await.unwrap();
    let all = resolver(source, &["select * from grows where id = $1"]);
    assert_eq!(fetch(&*all, "1").await.unwrap(), [r#"{"id":1}"#]);
    client.batch_execute("alter table grows add column more text default 'm'").await.unwrap();
    assert_eq!(fetch(&*all, "1").await.unwrap(), [r#"{"id":1,"more":"m"}"#]);
}
