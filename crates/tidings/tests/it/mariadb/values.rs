//! Every type keeps its value: through the binary log, with and without the names in it, a snapshot, and triggers.

use super::{Database, LOG, capture, events, source};

const TABLE: &str = "create table types (id int primary key, tiny tinyint, utiny tinyint unsigned, small smallint, \
    medium mediumint unsigned, big bigint, ubig bigint unsigned, zero int(6) zerofill, year year, exact decimal(40,10), \
    neg decimal(5,2), zdec decimal(6,2) zerofill, f double, flag boolean, moment timestamp(6) null, \
    moment0 timestamp null, local datetime(3), day date, zeroday date, zerotime datetime, zeromoment timestamp null, \
    span time(2), negative time, bits bit(10), fixed binary(4), bytes varbinary(10), blobs blob, \
    kind enum('a','it''s','é'), picks set('x','y','z'), word varchar(50), fixedword char(10), \
    latin varchar(20) character set latin1, wide varchar(20) character set ucs2, \
    sjis varchar(20) character set sjis, doc json, text longtext, spot point, nothing int, \
    uid uuid, newid uuid, ip4 inet4, ip6 inet6, stored int as (id * 2) stored, seen int as (id * 3) virtual) character set utf8mb4";

const VALUES: &str = "insert into types (id, tiny, utiny, small, medium, big, ubig, zero, year, exact, neg, zdec, f, flag, \
    moment, moment0, local, day, zeroday, zerotime, zeromoment, span, negative, bits, fixed, bytes, blobs, kind, picks, \
    word, fixedword, latin, wide, sjis, doc, text, spot, nothing, uid, newid, ip4, ip6) values \
    (1, -128, 255, -32768, 16777215, -9223372036854775808, 18446744073709551615, 42, 2026, \
    123456789012345678901234567890.0123456789, -0.05, 1.5, 0.1, true, '2026-11-21 12:34:56.789012', \
    '2026-07-21 12:34:56', '2026-11-21 12:34:56.789', '2026-11-21', '0000-00-00', '0000-00-00 00:00:00', \
    '0000-00-00 00:00:00', '838:59:58.25', '-25:00:01', b'1000000001', x'00ff0000', x'00ff', repeat(x'ff', 100), \
    'it''s', 'x,z', 'a\\\"é🙂\\n', 'ab', 'é€', '漢é', 'あ', '{\\\"a\\\": [1, 1.10, 12345678901234567890]}', \
    '{no json', point(1, 2), null, '56789abc-1234-11ee-8001-00163eaabbcc', '01900000-0000-7000-8000-000000000000', \
    '10.1.0.0', '2001:db8::ff00:0')";

/// What the row is as JSON.
fn expected() -> String {
    let blobs = format!("{}/w==", "/".repeat(132));
    format!(
        "{{\"id\":1,\"tiny\":-128,\"utiny\":255,\"small\":-32768,\"medium\":16777215,\"big\":-9223372036854775808,\
         \"ubig\":18446744073709551615,\"zero\":42,\"year\":2026,\"exact\":123456789012345678901234567890.0123456789,\
         \"neg\":-0.05,\"zdec\":1.50,\"f\":0.1,\"flag\":1,\"moment\":\"2026-11-21T10:34:56.789012Z\",\
         \"moment0\":\"2026-07-21T10:34:56Z\",\"local\":\"2026-11-21T12:34:56.789\",\"day\":\"2026-11-21\",\
         \"zeroday\":\"0000-00-00\",\"zerotime\":\"0000-00-00T00:00:00\",\"zeromoment\":\"0000-00-00T00:00:00Z\",\
         \"span\":\"838:59:58.25\",\"negative\":\"-25:00:01\",\"bits\":513,\"fixed\":\"AP8AAA==\",\"bytes\":\"AP8=\",\
         \"blobs\":\"{blobs}\",\"kind\":\"it's\",\"picks\":\"x,z\",\"word\":\"a\\\"é🙂\\n\",\"fixedword\":\"ab\",\
         \"latin\":\"é€\",\"wide\":\"漢é\",\"sjis\":\"あ\",\"doc\":{{\"a\": [1, 1.10, 12345678901234567890]}},\
         \"text\":\"{{no json\",\"spot\":\"AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA==\",\"nothing\":null,\
         \"uid\":\"56789abc-1234-11ee-8001-00163eaabbcc\",\"newid\":\"01900000-0000-7000-8000-000000000000\",\
         \"ip4\":\"10.1.0.0\",\"ip6\":\"2001:db8::ff00:0\",\"stored\":2,\"seen\":3}}"
    )
}

async fn keeps_every_value(settings: &[&str], more: &str, is_there_before: bool) {
    let db = Database::start_with(settings).await;
    db.run("set time_zone = '+02:00', sql_mode = ''").await;
    db.run(TABLE).await;
    if is_there_before {
        db.run(VALUES).await;
    }
    let (server, _dir) = capture(&source(&db.url(), &["types"], more)).await;
    if !is_there_before {
        db.run(VALUES).await;
    }
    events(&server, "types", 1).await;
    // As it was sent: a parser would lose digits.
    let page = server.get("/v1/topics/types/events").await.text().await.expect("a body");
    let data = page.split_once("\"data\":").expect("data").1;
    let expected = expected();
    let found: String = data.chars().take(expected.chars().count()).collect();
    assert_eq!(found, expected, "{more}");
}

#[tokio::test]
async fn values_from_the_binary_log() {
    keeps_every_value(&LOG, "", false).await;
}

#[tokio::test]
async fn values_from_a_binary_log_without_names() {
    keeps_every_value(&LOG[..3], "", false).await;
}

#[tokio::test]
async fn values_from_a_snapshot() {
    keeps_every_value(&LOG, "snapshot = true", true).await;
}

#[tokio::test]
async fn values_from_triggers() {
    keeps_every_value(&[], "mode = \"triggers\"", false).await;
}

#[tokio::test]
async fn values_from_a_snapshot_before_triggers() {
    keeps_every_value(&[], "mode = \"triggers\"\nsnapshot = true", true).await;
}
