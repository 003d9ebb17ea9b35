//! The stored form of one event, without its topic and offset.
//!
//! All integers little endian. A fixed head of 30 bytes: id (16), published_at ms (8), flags (2), lengths of
//! key, name, user and source (1 each, 0 = absent). Then, each only where its flag is set: occurred_at (8),
//! available_at (8), and the lengths (4 each) of audience, context, attributes and before. Then the bytes of key,
//! name, user, source, audience, context, attributes, before, and data up to the end. Audience and before are
//! user ids, each with its length in one byte before it.

use crate::row_rule::Sight;
use crate::sight::{Routing, Users};
use crate::{NewEvent, Timestamp, Uuid};
use bytes::Bytes;
use std::ops::Range;

const HEAD: usize = 30;
const PUBLISHED_AT: Range<usize> = 16..24;

const OCCURRED: u16 = 1;
const AVAILABLE: u16 = 1 << 1;
const AUDIENCE: u16 = 1 << 2;
const CONTEXT: u16 = 1 << 3;
const ATTRIBUTES: u16 = 1 << 4;
const DATA: u16 = 1 << 5;
const DELETED: u16 = 1 << 6;
const ID_GIVEN: u16 = 1 << 7;
const BEFORE: u16 = 1 << 8;
const ROUTED: u16 = 1 << 9;
const TRUNCATES: u16 = 1 << 10;
const KNOWN: u16 = (1 << 11) - 1;
/// The parts whose lengths are there only where their flag is set.
const LONG_PARTS: [u16; 4] = [AUDIENCE, CONTEXT, ATTRIBUTES, BEFORE];

/// Bytes that are no record: the log is damaged or was written by something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an event record: {0}")]
pub struct RecordError(&'static str);

/// A stored event's bytes, checked once; reading a field costs a slice.
#[derive(Clone)]
pub struct Record {
    bytes: Bytes,
    /// Where each variable part ends; a part begins where the one before ends.
    ends: [u32; 9],
    /// Where the optional fixed parts end and the key begins.
    start: u32,
}

#[derive(Clone, Copy)]
enum Part {
    Key,
    Name,
    User,
    Source,
    Audience,
    Context,
    Attributes,
    Before,
    Data,
}

impl Record {
    pub fn parse(bytes: Bytes) -> Result<Self, RecordError> {
        if bytes.len() < HEAD || bytes.len() > u32::MAX as usize {
            return Err(RecordError("length"));
        }
        let flags = u16::from_le_bytes([bytes[24], bytes[25]]);
        if flags & !KNOWN != 0 {
            return Err(RecordError("unknown flags"));
        }
        let published = i64::from_le_bytes(bytes[PUBLISHED_AT].try_into().expect("8 bytes"));
        Timestamp::from_millis(published).ok_or(RecordError("published_at"))?;
        let mut at = HEAD;
        let mut fixed = |flag: u16, len: usize| -> Result<Option<usize>, RecordError> {
            if flags & flag == 0 {
                return Ok(None);
            }
            at += len;
            if at > bytes.len() { Err(RecordError("cut")) } else { Ok(Some(at - len)) }
        };
        for flag in [OCCURRED, AVAILABLE] {
            if let Some(i) = fixed(flag, 8)? {
                let ms = i64::from_le_bytes(bytes[i..i + 8].try_into().expect("8 bytes"));
                Timestamp::from_millis(ms).ok_or(RecordError("time"))?;
            }
        }
        let mut lens = [0usize; 8];
        for (i, len) in lens.iter_mut().take(4).enumerate() {
            *len = usize::from(bytes[26 + i]);
        }
        for (len, flag) in lens[4..].iter_mut().zip(LONG_PARTS) {
            if let Some(i) = fixed(flag, 4)? {
                *len = u32::from_le_bytes(bytes[i..i + 4].try_into().expect("4 bytes")) as usize;
            }
        }
        let start = at as u32;
        let mut ends = [0u32; 9];
        for (end, len) in ends.iter_mut().zip(lens) {
            at += len;
            if at > bytes.len() {
                return Err(RecordError("cut"));
            }
            *end = at as u32;
        }
        ends[8] = bytes.len() as u32;
        if flags & DATA == 0 && ends[7] != ends[8] {
            return Err(RecordError("trailing bytes"));
        }
        let record = Self { bytes, ends, start };
        for (flag, part) in [(CONTEXT, Part::Context), (ATTRIBUTES, Part::Attributes)] {
            let json = record.slice(part);
            if flags & flag != 0 && !(json.len() >= 2 && json.starts_with(b"{") && json.ends_with(b"}")) {
                return Err(RecordError("context and attributes are JSON objects"));
            }
        }
        let text = std::str::from_utf8(&record.bytes[start as usize..ends[3] as usize]);
        let is_text = text.is_ok_and(|all| {
            let cut = |part| all.is_char_boundary((record.range(part).end) - start as usize);
            cut(Part::Key) && cut(Part::Name) && cut(Part::User)
        });
        if !is_text {
            return Err(RecordError("text is not UTF-8"));
        }
        for part in [Part::Context, Part::Attributes, Part::Data] {
            if std::str::from_utf8(record.slice(part)).is_err() {
                return Err(RecordError("JSON is not UTF-8"));
            }
        }
        Ok(record)
    }

    fn range(&self, part: Part) -> Range<usize> {
        let i = part as usize;
        let begin = if i == 0 { self.start } else { self.ends[i - 1] };
        begin as usize..self.ends[i] as usize
    }

    fn slice(&self, part: Part) -> &[u8] {
        &self.bytes[self.range(part)]
    }

    fn text(&self, part: Part) -> &str {
        std::str::from_utf8(self.slice(part)).expect("checked by parse")
    }

    fn optional(&self, part: Part) -> Option<&str> {
        Some(self.text(part)).filter(|t| !t.is_empty())
    }

    fn flags(&self) -> u16 {
        u16::from_le_bytes([self.bytes[24], self.bytes[25]])
    }

    fn has(&self, flag: u16) -> bool {
        self.flags() & flag != 0
    }

    fn time(&self, at: usize) -> Timestamp {
        let ms = i64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("8 bytes"));
        Timestamp::from_millis(ms).expect("checked by parse")
    }

    pub fn id(&self) -> Uuid {
        Uuid::from_slice(&self.bytes[..16]).expect("16 bytes")
    }

    /// Whether the client gave the id, so that it is remembered.
    pub fn id_given(&self) -> bool {
        self.has(ID_GIVEN)
    }

    pub fn published_at(&self) -> Timestamp {
        self.time(PUBLISHED_AT.start)
    }

    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.has(OCCURRED).then(|| self.time(HEAD))
    }

    pub fn available_at(&self) -> Option<Timestamp> {
        self.has(AVAILABLE).then(|| self.time(HEAD + if self.has(OCCURRED) { 8 } else { 0 }))
    }

    pub fn is_deleted(&self) -> bool {
        self.has(DELETED)
    }

    pub fn key(&self) -> Option<&str> {
        self.optional(Part::Key)
    }

    pub fn name(&self) -> Option<&str> {
        self.optional(Part::Name)
    }

    pub fn user(&self) -> Option<&str> {
        self.optional(Part::User)
    }

    pub fn source(&self) -> Option<&str> {
        self.optional(Part::Source)
    }

    /// The audience section, `None` where everyone with the grant may see the event.
    pub fn audience(&self) -> Option<&[u8]> {
        self.has(AUDIENCE).then(|| self.slice(Part::Audience))
    }

    /// Who could see the row that `context.before` holds; `None` where it is not guarded.
    pub fn before(&self) -> Option<&[u8]> {
        self.has(BEFORE).then(|| self.slice(Part::Before))
    }

    /// Whether the event says that everything under its topic is gone.
    pub fn truncates(&self) -> bool {
        self.has(TRUNCATES)
    }

    pub fn context(&self) -> Option<&str> {
        self.has(CONTEXT).then(|| self.text(Part::Context))
    }

    /// A JSON object with the attributes, `None` where there are none.
    pub fn attributes(&self) -> Option<&str> {
        self.has(ATTRIBUTES).then(|| self.text(Part::Attributes))
    }

    pub fn data(&self) -> Option<&str> {
        self.has(DATA).then(|| self.text(Part::Data))
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Makes records.
pub struct Writer;

impl Writer {
    /// The record of `event` under `id`, for everyone; `published_at` stays open until [`Writer::stamp`].
    pub fn encode(event: &NewEvent, id: Uuid) -> Vec<u8> {
        Self::encode_for(event, id, &Sight::default())
    }

    /// As [`Writer::encode`], for those who may see it. An id that does not fit (255 bytes) belongs to no user.
    pub fn encode_for(event: &NewEvent, id: Uuid, sight: &Sight) -> Vec<u8> {
        let list = |users: &Vec<Box<str>>| {
            let fitting = users.iter().filter_map(|user| Some((u8::try_from(user.len()).ok()?, user)));
            fitting.flat_map(|(len, user)| std::iter::once(len).chain(user.bytes())).collect::<Vec<u8>>()
        };
        let (users, before) = (sight.audience.as_ref().map(list), sight.before.as_ref().map(list));
        let attributes = (event.attributes != Default::default())
            .then(|| serde_json::to_vec(&event.attributes).expect("strings and a bool"));
        let part = |text: &Option<Box<str>>| text.as_ref().map_or(0, |t| t.len());
        let key = event.topic.key.as_ref().map_or("", |k| k.as_str());
        let context = event.context.as_deref().unwrap_or_default();
        let data = event.data.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(
            HEAD + 28
                + users.as_ref().map_or(0, Vec::len)
                + before.as_ref().map_or(4, |b| b.len() + 4)
                + key.len()
                + part(&event.name)
                + part(&event.user)
                + part(&event.source)
                + context.len()
                + attributes.as_ref().map_or(0, Vec::len)
                + data.len(),
        );
        let mut flags = 0u16;
        for (flag, is_set) in [
            (OCCURRED, event.occurred_at.is_some()),
            (AVAILABLE, event.available_at.is_some()),
            (AUDIENCE, users.is_some()),
            (CONTEXT, event.context.is_some()),
            (ATTRIBUTES, attributes.is_some()),
            (DATA, event.data.is_some()),
            (DELETED, event.deleted),
            (ID_GIVEN, event.id.is_some()),
            (BEFORE, before.is_some()),
            (ROUTED, sight.is_routed || users.is_some() || before.is_some()),
            (TRUNCATES, sight.truncates),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&flags.to_le_bytes());
        for len in [key.len(), part(&event.name), part(&event.user), part(&event.source)] {
            out.push(u8::try_from(len).expect("checked by NewEvent::check and Key::parse"));
        }
        for at in [event.occurred_at, event.available_at].into_iter().flatten() {
            out.extend_from_slice(&at.as_millis().to_le_bytes());
        }
        let long = [users.as_deref(), event.context.as_deref(), attributes.as_deref(), before.as_deref()];
        for part in long.into_iter().flatten() {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        out.extend_from_slice(key.as_bytes());
        for text in [&event.name, &event.user, &event.source].into_iter().flatten() {
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(users.as_deref().unwrap_or_default());
        out.extend_from_slice(context);
        out.extend_from_slice(attributes.as_deref().unwrap_or_default());
        out.extend_from_slice(before.as_deref().unwrap_or_default());
        out.extend_from_slice(data);
        out
    }

    /// Writes the time of publishing into a record, also one still without it.
    pub fn stamp(record: &mut [u8], published_at: Timestamp) {
        record[PUBLISHED_AT].copy_from_slice(&published_at.as_millis().to_le_bytes());
    }

    /// Puts another time into a record that was scheduled.
    ///
    /// `record` comes from [`Writer::encode`] or has passed [`Record::parse`]; one without `available_at` stays
    /// as it is.
    pub fn reschedule(record: &mut [u8], available_at: Timestamp) {
        let flags = u16::from_le_bytes([record[24], record[25]]);
        if flags & AVAILABLE != 0 {
            let at = HEAD + if flags & OCCURRED != 0 { 8 } else { 0 };
            record[at..at + 8].copy_from_slice(&available_at.as_millis().to_le_bytes());
        }
    }

    /// The id, whether a client gave it, the key, and whether the event deletes it, without a full parse.
    ///
    /// `record` comes from [`Writer::encode`] or has passed [`Record::parse`].
    pub fn peek(record: &[u8]) -> (Uuid, bool, Option<&str>, bool) {
        let (flags, parts) = long_parts(record);
        let key = &record[parts..parts + usize::from(record[26])];
        let key = std::str::from_utf8(key).ok().filter(|k| !k.is_empty());
        let id = Uuid::from_slice(&record[..16]).expect("16 bytes");
        (id, flags & ID_GIVEN != 0, key, flags & DELETED != 0)
    }

    /// Whom the event concerns, without a full parse; `None` where readers do not find it by user. A record
    /// from before there were rules is routed where it has an audience.
    ///
    /// `record` comes from [`Writer::encode`] or has passed [`Record::parse`].
    pub fn routing(record: &[u8]) -> Option<Routing<'_>> {
        let (flags, parts) = long_parts(record);
        if flags & (ROUTED | AUDIENCE) == 0 {
            return None;
        }
        let short: usize = record[26..30].iter().map(|len| usize::from(*len)).sum();
        let mut lens = [0; LONG_PARTS.len()];
        let mut at = parts - 4 * LONG_PARTS.iter().filter(|flag| flags & **flag != 0).count();
        for (len, _) in lens.iter_mut().zip(LONG_PARTS).filter(|(_, flag)| flags & flag != 0) {
            *len = u32::from_le_bytes(record[at..at + 4].try_into().expect("4 bytes")) as usize;
            at += 4;
        }
        let audience = parts + short;
        let before = audience + lens[0] + lens[1] + lens[2];
        Some(Routing {
            audience: (flags & AUDIENCE != 0).then(|| Users(&record[audience..audience + lens[0]])),
            before: Users(&record[before..before + lens[3]]),
        })
    }

    /// Whether the event is found by user or empties State, without a full parse.
    pub fn is_for_index(record: &[u8]) -> bool {
        u16::from_le_bytes([record[24], record[25]]) & (ROUTED | AUDIENCE | TRUNCATES) != 0
    }

    /// Whether the event empties its topic's State, without a full parse.
    pub fn truncates(record: &[u8]) -> bool {
        u16::from_le_bytes([record[24], record[25]]) & TRUNCATES != 0
    }
}

/// The flags, and where the variable parts begin.
fn long_parts(record: &[u8]) -> (u16, usize) {
    let flags = u16::from_le_bytes([record[24], record[25]]);
    let fixed = [(OCCURRED, 8), (AVAILABLE, 8)].into_iter().chain(LONG_PARTS.map(|flag| (flag, 4)));
    (flags, HEAD + fixed.filter(|(flag, _)| flags & flag != 0).map(|(_, len)| len).sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, Topic};
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = NewEvent> {
        let text = || prop::option::of("[a-zé]{1,20}".prop_map(String::into_boxed_str));
        let time =
            || prop::option::of((0i64..4_000_000_000_000).prop_map(|ms| Timestamp::from_millis(ms).unwrap()));
        (
            prop::option::of("[a-zé,]{1,40}"),
            any::<Option<u128>>(),
            (text(), text(), text(), text()),
            (time(), time()),
            (prop::option::of("[0-9]{1,9}"), any::<bool>(), any::<bool>()),
        )
            .prop_map(
                |(key, id, (name, source, user, group_key), (occurred_at, available_at), rest)| {
                    let topic = Topic::parse(&key.map_or("t".into(), |k| format!("t:{k}"))).unwrap();
                    NewEvent {
                        id: id.map(Uuid::from_u128),
                        name,
                        source,
                        user,
                        occurred_at,
                        available_at,
                        data: rest.0.map(Bytes::from),
                        context: rest.1.then(|| Bytes::from_static(b"{\"a\":1}")),
                        attributes: Attributes { group_key, ..Attributes::default() },
                        deleted: rest.2 && topic.key.is_some(),
                        ..NewEvent::empty_for_tests(topic)
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn every_field_comes_back(event in any_event(), users in prop::option::of(prop::collection::vec("[a-zé]{0,9}", 0..3)), old in prop::option::of(prop::collection::vec("[a-zé]{0,9}", 0..3))) {
            let id = event.id.unwrap_or(Uuid::from_u128(7));
            let names: Option<Vec<&str>> = users.as_ref().map(|u| u.iter().map(String::as_str).collect());
            let boxed = |users: &Option<Vec<String>>| -> Option<Vec<Box<str>>> {
                users.as_ref().map(|u| u.iter().map(|id| id.as_str().into()).collect())
            };
            let sight = Sight { audience: boxed(&users), before: boxed(&old), ..Sight::default() };
            let mut bytes = Writer::encode_for(&event, id, &sight);
            let routing = Writer::routing(&bytes);
            prop_assert_eq!(routing.is_some(), users.is_some() || old.is_some());
            if let Some(routing) = routing {
                let list = |users: Users<'_>| users.iter().map(|u| String::from_utf8_lossy(u).into()).collect::<Vec<String>>();
                prop_assert_eq!(routing.audience.map(list), users.clone());
                prop_assert_eq!(list(routing.before), old.clone().unwrap_or_default());
            }
            Writer::reschedule(&mut bytes, Timestamp::from_millis(-5).unwrap());
            Writer::stamp(&mut bytes, Timestamp::from_millis(99).unwrap());
            prop_assert_eq!(
                Writer::peek(&bytes),
                (id, event.id.is_some(), event.topic.key.as_ref().map(|k| k.as_str()), event.deleted)
            );
            let record = Record::parse(bytes.into()).unwrap();
            prop_assert_eq!(record.id(), id);
            prop_assert_eq!(record.published_at().as_millis(), 99);
            prop_assert_eq!(record.key(), event.topic.key.as_ref().map(|k| k.as_str()));
            prop_assert_eq!(record.name(), event.name.as_deref());
            prop_assert_eq!(record.user(), event.user.as_deref());
            prop_assert_eq!(record.source(), event.source.as_deref());
            prop_assert_eq!(record.occurred_at(), event.occurred_at);
            prop_assert_eq!(record.available_at().map(Timestamp::as_millis), event.available_at.map(|_| -5));
            let mut audience = record.audience();
            for user in names.iter().flatten() {
                let (len, rest) = audience.unwrap().split_at(1);
                prop_assert_eq!((len[0] as usize, &rest[..user.len()]), (user.len(), user.as_bytes()));
                audience = Some(&rest[user.len()..]);
            }
            prop_assert_eq!(audience, names.map(|_| &[][..]));
            prop_assert_eq!(record.data().map(str::as_bytes), event.data.as_deref());
            prop_assert_eq!(record.context().map(str::as_bytes), event.context.as_deref());
            prop_assert_eq!(record.attributes().is_some(), event.attributes.group_key.is_some());
            prop_assert_eq!(record.is_deleted(), event.deleted);
        }

        #[test]
        fn damaged_bytes_are_a_record_or_an_error(event in any_event(), at in any::<usize>(), to: u8, cut in any::<usize>()) {
            let mut bytes = Writer::encode(&event, Uuid::from_u128(7));
            let len = bytes.len();
            bytes[at % len] = to;
            bytes.truncate(cut % (len + 1));
            if let Ok(record) = Record::parse(bytes.into()) {
                let _ = (record.key(), record.name(), record.user(), record.source(), record.data());
                let _ = (record.context(), record.attributes(), record.occurred_at(), record.available_at());
            }
        }
    }

    #[test]
    fn attributes_that_are_no_object_are_refused() {
        let mut bytes = vec![0u8; HEAD + 4];
        bytes[24] = ATTRIBUTES as u8;
        assert!(Record::parse(bytes.into()).is_err());
    }
}
