//! SQLite.

use super::*;
use rusqlite::Connection;

const WORDS: Words = Words {
    by_number: "select name, id from items where id = ?1 -- the item itself",
    by_text: "select * from texts where id = :id;",
    parts: "select name as part from parts where item = ? order by position",
    by_secret: "select id from items where id = :id and owner = :secret",
    flood: "with recursive n(n) as (select 1 union all select n + 1 from n where n < 100000) \
        select n from n where ?1 = '1'",
    slow: "with recursive n(n) as (select 1 union all select n + 1 from n where n < 3000000000) \
        select max(n) from n",
    delete: "delete from items where id = ?1 returning id",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_promises() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a b?.db");
    let url = format!("sqlite://{}", file.display());
    let source = source(&url);
    let missing = fetch(&*resolver(&source, &[WORDS.by_number]), "1").await;
    assert!(matches!(missing, Err(Error::Failed(_))), "{missing:?}");
    let connection = Connection::open(&file).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    for text in tables() {
        // Backslashes are plain in SQLite.
        connection.execute_batch(&text.replace("\\\\", "\\")).unwrap();
    }
    keeps_the_promises(&source, &WORDS).await;
    every_type_keeps_its_value(&source, &connection).await;
}

async fn every_type_keeps_its_value(source: &Source, connection: &Connection) {
    let table = "create table types (big integer, f real, word text, bytes blob, doc json, odd json, absent); \
        insert into types values (9223372036854775807, 0.1, 'a\"é', x'00ff', '{\"b\": 1.00}', 'no json', null)";
    connection.execute_batch(table).unwrap();
    let expected = "{\"big\":9223372036854775807,\"f\":0.1,\"word\":\"a\\\"é\",\"bytes\":\"AP8=\",\
        \"doc\":{\"b\": 1.00},\"odd\":\"no json\",\"absent\":null}";
    assert_eq!(fetch(&*resolver(source, &["select * from types"]), "1").await.unwrap(), [expected]);
    let unknown = fetch(&*resolver(source, &["select :what"]), "1").await;
    assert!(matches!(unknown, Err(Error::Failed(_))), "{unknown:?}");
}
