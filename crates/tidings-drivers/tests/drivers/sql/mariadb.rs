//! MariaDB.

use super::*;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};

const WORDS: Words = Words {
    by_number: "select name, id from items where id = ? -- the item itself",
    by_text: "select * from texts where id = :id;",
    parts: "select name as part from parts where item = ? order by position",
    by_secret: "select id from items where id = :id and owner = :secret",
    flood: "select seq from seq_1_to_100000 where ? = '1'",
    slow: "select sleep(60)",
    delete: "delete from items where id = ?",
};

const TYPES: &str = "create table types (big bigint unsigned, small tinyint, exact decimal(40,10), f double, g float, \
    moment timestamp(6) null, local datetime, day date, span time, bytes varbinary(10), blobs blob, bits bit(10), \
    year year, kind enum('a','b'), word text, nothing int)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_keeps_the_promises() {
    let mut peer = peers::mariadb(&[]).started();
    let url = format!("mysql://root@127.0.0.1:{}/test", peer.port());
    let mut connection = Conn::new(Opts::from_url(&url).unwrap()).await.unwrap();
    connection.query_drop("alter database test collate utf8mb4_bin").await.unwrap();
    for text in tables() {
        connection.query_drop(text).await.unwrap();
    }
    let source = source(&url);
    keeps_the_promises(&source, &WORDS).await;
    tokens_count_as_they_are_written(&source).await;
    every_type_keeps_its_value(&source, &mut connection).await;
    odd_ids_cost_no_connection(&source).await;
    drop(connection);
    survives_a_restart(&source, &WORDS, &mut peer).await;
}

async fn odd_ids_cost_no_connection(source: &Source) {
    let thread = resolver(source, &["select connection_id()"]);
    let before = fetch(&*thread, "1").await.unwrap();
    for queries in [[WORDS.by_number].as_slice(), &[WORDS.by_number, WORDS.parts]] {
        assert_eq!(fetch(&*resolver(source, queries), "1; drop table items").await, Err(Error::Refused));
        assert_eq!(fetch(&*thread, "1").await.unwrap(), before);
    }
}

async fn every_type_keeps_its_value(source: &Source, connection: &mut Conn) {
    connection.query_drop(TYPES).await.unwrap();
    connection.query_drop("set time_zone = '+02:00'").await.unwrap();
    let values = "insert into types values (18446744073709551615, -1, 123456789012345678901234567890.1234567890, \
        0.1, 0.1, '2026-11-21 12:34:56.789012', '2026-11-21 12:34:56', '2026-11-21', '-25:00:01', x'00ff', x'ff', \
        b'1000000001', 2026, 'b', 'a\"é🙂', null)";
    connection.query_drop(values).await.unwrap();
    let expected = "{\"big\":18446744073709551615,\"small\":-1,\
        \"exact\":123456789012345678901234567890.1234567890,\"f\":0.1,\"g\":0.1,\
        \"moment\":\"2026-11-21T10:34:56.789012Z\",\"local\":\"2026-11-21T12:34:56\",\"day\":\"2026-11-21\",\
        \"span\":\"-25:00:01\",\"bytes\":\"AP8=\",\"blobs\":\"/w==\",\"bits\":513,\"year\":2026,\"kind\":\"b\",\
        \"word\":\"a\\\"é🙂\",\"nothing\":null}";
    assert_eq!(fetch(&*resolver(source, &["select * from types"]), "1").await.unwrap(), [expected]);
}
