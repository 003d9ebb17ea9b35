//! MySQL 8's binary log, byte by byte as its documentation describes it: checksums, numbers of transactions with and
//! without tags, full and minimal metadata, binary JSON, and what it may send that is not read here.

use super::super::captured::Captured;
use super::super::connect::Place;
use super::super::delivery::Delivery;
use super::super::position::{Mark, Position};
use super::super::row::charset::Charset;
use super::super::row::image::{Rows, Verb};
use super::super::row::input::Input;
use super::super::row::map::TableMap;
use super::super::schema::{Collations, Described, Error, Field, Layout};
use super::stream::{Arrived, From};
use super::{Reader, Tables};
use crate::source::Fault;
use mysql_async::binlog::BinlogVersion;
use mysql_async::binlog::events::{Event, FormatDescriptionEvent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidings_model::{NewEvent, TopicName};
use tokio::sync::mpsc;

const UUID: &str = "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e";
/// 2026-11-21T12:00:00Z.
const SECONDS: u32 = 1_795_262_400;

/// Lengths of what events begin with, as version 8.0 lists them.
const HEADERS: [u8; 41] = [
    0, 13, 0, 8, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 98, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0, 0, 10, 10, 10, 42,
    42, 0, 18, 52, 0, 10, 40, 0,
];

/// Events as a server with checksums sends them.
#[derive(Default)]
struct Log {
    events: Vec<Vec<u8>>,
    end: u32,
}

impl Log {
    /// The first two events of every stream. Whether the very first has a checksum depends on the server.
    fn new(is_first_summed: bool) -> Self {
        let mut log = Self { end: 4, ..Self::default() };
        let mut first = b"\x04\0\0\0\0\0\0\0bin.000007".to_vec();
        first.splice(..0, head(4, first.len() + if is_first_summed { 4 } else { 0 }, 0));
        if is_first_summed {
            first.extend(crc32(&first).to_le_bytes());
        }
        log.events.push(first);
        let mut description = vec![4, 0];
        description.extend(b"8.0.36");
        description.resize(52, 0);
        description.extend(SECONDS.to_le_bytes());
        description.push(19);
        description.extend(HEADERS);
        // CRC32.
        description.push(1);
        log.push(15, &description);
        log.push(35, &[0; 8]);
        log
    }

    fn push(&mut self, kind: u8, body: &[u8]) {
        self.end += 19 + body.len() as u32 + 4;
        let mut event = head(kind, body.len() + 4, self.end);
        event.extend(body);
        event.extend(crc32(&event).to_le_bytes());
        self.events.push(event);
    }

    fn gtid(&mut self, number: u64) {
        let mut body = vec![1];
        body.extend([0x3e; 16]);
        body.extend(number.to_le_bytes());
        // Logical clocks.
        body.push(2);
        body.extend([0; 16]);
        body.extend(&1_795_262_400_123_456_u64.to_le_bytes()[..7]);
        body.extend([252, 0x10, 0x03]);
        body.extend(80_036_u32.to_le_bytes());
        self.push(33, &body);
    }

    fn query(&mut self, text: &str) {
        let mut body = vec![9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 5, 0];
        // Flags, of which none is set; then the schema and the statement.
        body.extend([0, 0, 0, 0, 0]);
        body.extend(b"shop\0");
        body.extend(text.as_bytes());
        self.push(2, &body);
    }

    fn map(&mut self) {
        let mut body = vec![90, 0, 0, 0, 0, 0, 1, 0];
        body.extend(names());
        body.extend(FULL);
        self.push(19, &body);
    }

    fn rows(&mut self, kind: u8, rows: &[u8]) {
        // Three bytes of a partition's number, which mean nothing here.
        let mut body = vec![90, 0, 0, 0, 0, 0, 1, 0, 5, 0, 1, 7, 0];
        body.extend(rows);
        self.push(kind, &body);
    }

    fn commit(&mut self) {
        self.push(16, &[1, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// What a reader delivers of it, and why it ended if it did.
    async fn read(&self, position: Position) -> (Vec<Delivery>, Option<Fault>) {
        let place = Place::new("mysql://u@127.0.0.1/shop").unwrap();
        let topic = TopicName::captured(None, "items", "").unwrap();
        let captured = vec![Arc::new(Captured { schema: "shop".into(), table: "items".into(), topic })];
        let tables = Tables::new(captured.clone(), collations(), place.clone(), false);
        let from = From { position: position.clone(), server_id: 7, heartbeat: Duration::from_secs(60) };
        let mark = Mark { position, piece: None, prepared: BTreeMap::new() };
        let (tx, mut rx) = mpsc::channel(64);
        let mut reader = Reader::new("shop", place, from, captured, tables, mark, tx);
        let (mut description, mut is_described) =
            (FormatDescriptionEvent::new(BinlogVersion::Version4), false);
        let mut ended = None;
        for event in &self.events {
            // As the client's library goes about it.
            let raw = Event::read(&description, &event[..]).unwrap();
            if event[4] == 15 {
                let read: FormatDescriptionEvent<'_> = raw.read_event().unwrap();
                description = read.into_owned().with_footer(raw.footer());
            }
            if let Err(fault) = reader.take(&Arrived::new(raw, &mut is_described)).await {
                ended = Some(fault);
                break;
            }
        }
        drop(reader);
        let mut deliveries = Vec::new();
        while let Some(delivery) = rx.recv().await {
            deliveries.push(delivery);
        }
        (deliveries, ended)
    }
}

/// What every event begins with; `len` is that of what follows.
fn head(kind: u8, len: usize, end: u32) -> Vec<u8> {
    let mut head = SECONDS.to_le_bytes().to_vec();
    head.push(kind);
    head.extend(1_u32.to_le_bytes());
    head.extend((19 + len as u32).to_le_bytes());
    head.extend(end.to_le_bytes());
    head.extend([0, 0]);
    head
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

/// The table's names and the types of its columns.
fn names() -> Vec<u8> {
    let mut bytes = b"\x04shop\0\x05items\0\x0a".to_vec();
    bytes.extend([3, 15, 245, 18, 17, 246, 254, 254, 16, 15]);
    // A length for the text, bytes of a JSON's length, digits of a second twice, the decimal's digits, an enum and a
    // set of a byte each, ten bits, ten bytes.
    bytes.extend([15, 200, 0, 4, 6, 3, 10, 2, 247, 1, 248, 1, 2, 1, 10, 0]);
    bytes.extend([0xfe, 0x03]);
    bytes
}

/// What `binlog_row_metadata=MINIMAL`, which is usual, says besides: signs, and the collations of texts.
const MINIMAL: &[u8] = b"\x01\x01\x80\x02\x05\xfc\xff\0\x01\x3f\x0a\x03\xfc\xff\0";
/// With `FULL`: names, members of sets and enums, the primary key, and which columns are visible.
const FULL: &[u8] = b"\x01\x01\x80\x02\x05\xfc\xff\0\x01\x3f\
    \x04\x32\x02id\x04name\x03doc\x04born\x04seen\x05price\x04kind\x05picks\x04bits\x05small\
    \x05\x06\x02\x02xx\x01y\x06\x06\x02\x01a\x02\xc3\xa9\x08\x01\0\x0a\x03\xfc\xff\0\x0c\x02\xff\xc0";

/// Collation 255 is utf8mb4_0900_ai_ci, 63 that of bytes.
fn collations() -> Collations {
    Collations::from([(255, Charset::Utf8), (63, Charset::Binary)])
}

/// A row's bytes, with a name or without.
fn row(name: Option<&str>) -> Vec<u8> {
    let mut row = vec![if name.is_none() { 2 } else { 0 }, 0];
    row.extend(u32::MAX.to_le_bytes());
    if let Some(name) = name {
        row.push(name.len() as u8);
        row.extend(name.as_bytes());
    }
    // {"a": 1, "bc": [true, "x"]}: places of keys, types and places of values, the keys, and the array in its turn.
    let mut doc = vec![0, 2, 0, 33, 0, 18, 0, 1, 0, 19, 0, 2, 0, 5, 1, 0, 2, 21, 0];
    doc.extend(b"abc");
    doc.extend([2, 0, 12, 0, 4, 1, 0, 12, 10, 0, 1, b'x']);
    row.extend((doc.len() as u32).to_le_bytes());
    row.extend(doc);
    let day = (2026_u64 * 13 + 11) << 5 | 21;
    let born = 0x80_0000_0000 + (day << 17 | 12 << 12 | 34 << 6 | 56);
    row.extend(&born.to_be_bytes()[3..]);
    row.extend(&789_012_u32.to_be_bytes()[1..]);
    row.extend(SECONDS.to_be_bytes());
    row.extend(7890_u16.to_be_bytes());
    row.extend([0x7f, 0xff, 0xff, 0xfe, 0xf5]);
    row.extend([2, 0b11, 2, 1, 2, 0, 0xff]);
    row
}

/// The same as JSON.
fn expected(name: &str) -> String {
    format!(
        "{{\"id\":4294967295,\"name\":{name},\"doc\":{{\"a\":1,\"bc\":[true,\"x\"]}},\
         \"born\":\"2026-11-21T12:34:56.789012\",\"seen\":\"2026-11-21T12:00:00.789Z\",\"price\":-1.10,\
         \"kind\":\"é\",\"picks\":\"xx,y\",\"bits\":513,\"small\":\"AP8=\"}}"
    )
}

fn text(bytes: &Option<bytes::Bytes>) -> &str {
    std::str::from_utf8(bytes.as_deref().unwrap_or_default()).unwrap()
}

fn context(event: &NewEvent) -> serde_json::Value {
    serde_json::from_str(text(&event.context)).unwrap()
}

#[tokio::test]
async fn a_transaction_becomes_events_whether_the_first_event_has_a_checksum_or_not() {
    for is_first_summed in [false, true] {
        let mut log = Log::new(is_first_summed);
        log.gtid(9);
        log.query("BEGIN");
        // The statement as it was written, for readers.
        log.push(29, b"\x06insert");
        log.map();
        let (old, new) = (row(Some("é!")), row(None));
        log.rows(30, &[&[10, 0xff, 0x03][..], &old].concat());
        log.rows(31, &[&[10, 0xff, 0x03, 0xff, 0x03][..], &old, &new].concat());
        log.rows(32, &[&[10, 0xff, 0x03][..], &new].concat());
        log.commit();
        let (deliveries, ended) = log.read(Position::mysql(&format!("{UUID}:1-8")).unwrap()).await;
        assert_eq!(ended, None);
        let [delivery] = &deliveries[..] else { panic!("{deliveries:?}") };
        assert_eq!(delivery.mark.position.to_string(), format!("{UUID}:1-9"));
        let events = &delivery.events;
        let names: Vec<_> = events.iter().map(|event| event.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["insert", "update", "delete"]);
        assert_eq!(text(&events[0].data), expected("\"é!\""));
        assert_eq!(text(&events[1].data), expected("null"));
        assert_eq!(text(&events[2].data), expected("null"));
        assert!(events.iter().all(|event| event.topic.to_string() == "items:4294967295"));
        let said = context(&events[1]);
        assert_eq!((&said["before"]["name"], &said["changed"]), (&"é!".into(), &serde_json::json!(["name"])));
        assert_eq!(said["transaction"], format!("{UUID}:9"));
        assert_eq!(said["committed_at"], "2026-11-21T12:00:00.123Z");
        assert!(said["position"].as_str().unwrap().starts_with("bin.000007:"));
        // A row that ends too early is refused, and nothing of its transaction is delivered.
        let mut cut = Log::new(is_first_summed);
        cut.gtid(9);
        cut.query("BEGIN");
        cut.map();
        cut.rows(30, &[&[10, 0xff, 0x03][..], &old[..old.len() - 1]].concat());
        let (deliveries, ended) = cut.read(Position::mysql("").unwrap()).await;
        assert!(deliveries.is_empty() && matches!(ended, Some(Fault::Setting(why)) if why.contains("items")));
    }
}

#[tokio::test]
async fn numbers_with_a_tag_and_transactions_without_numbers_are_understood() {
    // Version 8.4: fields by number, integers of as many bytes as the ones at the end of their first.
    let mut fields = vec![0, 2];
    fields.push(2);
    fields.extend([0x3e << 1; 16]);
    // The number 5, which has a sign; the tag "shop_1"; when it was committed.
    fields.extend([4, 5 << 2, 6, 6 << 1]);
    fields.extend(b"shop_1");
    fields.extend([12, 0x7f]);
    fields.extend(&1_795_262_400_123_456_u64.to_le_bytes()[..7]);
    let mut body = vec![2, ((fields.len() + 3) << 1) as u8, 0];
    body.extend(fields);
    let mut log = Log::new(true);
    log.push(42, &body);
    log.query("BEGIN");
    log.map();
    log.rows(30, &[&[10, 0xff, 0x03][..], &row(None)].concat());
    log.commit();
    let (deliveries, ended) = log.read(Position::mysql(&format!("{UUID}:1-8")).unwrap()).await;
    assert_eq!(ended, None);
    assert_eq!(deliveries[0].mark.position.to_string(), format!("{UUID}:1-8,{UUID}:shop_1:5"));
    assert_eq!(context(&deliveries[0].events[0])["transaction"], format!("{UUID}:shop_1:5"));

    // With gtid_mode=OFF the place in the file counts.
    let mut log = Log::new(true);
    log.push(34, &[0; 42]);
    log.query("truncate table `items`");
    let end = log.end;
    log.push(34, &[0; 42]);
    log.query("BEGIN");
    log.map();
    log.rows(30, &[&[10, 0xff, 0x03][..], &row(None)].concat());
    let (deliveries, ended) = log.read(Position::File { name: "bin.000006".into(), place: 4 }).await;
    assert_eq!(ended, None);
    let [delivery] = &deliveries[..] else { panic!("what is not committed stays: {deliveries:?}") };
    assert_eq!(delivery.events[0].name.as_deref(), Some("truncate"));
    assert_eq!(delivery.mark.position.to_string(), format!("bin.000007:{end}"));
}

#[tokio::test]
async fn what_is_not_read_here_ends_with_what_to_set() {
    for (kind, body, setting) in [
        // Changes within a JSON document, a whole transaction as one event, and what the server itself has lost.
        (39, &[90, 0, 0, 0, 0, 0, 1, 0, 2, 0][..], "binlog_row_value_options=''"),
        (40, &[2, 1, 0, 3, 1, 9, 1, 1, 9, 0][..], "binlog_transaction_compression=OFF"),
        (26, &[1, 0, 0][..], "incident"),
    ] {
        let mut log = Log::new(true);
        log.gtid(9);
        log.query("BEGIN");
        log.map();
        log.push(kind, body);
        let (deliveries, ended) = log.read(Position::mysql("").unwrap()).await;
        assert!(deliveries.is_empty());
        assert!(matches!(&ended, Some(Fault::Setting(why)) if why.contains(setting)), "{kind}: {ended:?}");
    }
}

#[test]
fn minimal_metadata_take_names_from_the_schema_if_it_fits() {
    let bytes = [&[1, 0][..], &names(), MINIMAL].concat();
    let map = TableMap::read(Input(&bytes)).unwrap();
    let field = |name: &str, full: &str, charset: Option<&str>| Field {
        name: name.into(),
        kind: full.split(['(', ' ']).next().unwrap().into(),
        full: full.into(),
        charset: charset.map(Into::into),
        is_json: full == "json",
    };
    let utf8 = Some("utf8mb4");
    let mut described = Described {
        columns: vec![
            field("id", "int unsigned", None),
            field("name", "varchar(50)", utf8),
            field("doc", "json", None),
            field("born", "datetime(6)", None),
            field("seen", "timestamp(3)", None),
            field("price", "decimal(10,2)", None),
            field("kind", "enum('a','é')", utf8),
            field("picks", "set('xx','y')", utf8),
            field("bits", "bit(10)", None),
            field("small", "varbinary(10)", None),
        ],
        primary_key: vec!["id".into()],
    };
    let layout = Layout::new(&map, &described, &collations()).unwrap();
    let bytes = [&[10, 0xff, 0x03][..], &row(Some("é!"))].concat();
    let change = Rows::new(Verb::Insert, &layout.columns, Input(&bytes)).unwrap().next().unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&change.after.unwrap().json).unwrap(), expected("\"é!\""));
    assert_eq!(layout.key, [0]);
    described.columns.swap(0, 1);
    let refused = Layout::new(&map, &described, &collations());
    assert!(matches!(refused, Err(Error::Changed(table)) if table == "items"));
}
