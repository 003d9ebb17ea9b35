//! A stored event, and the JSON that every transport carries.

use crate::{Epoch, Offset, Record, RecordError, Timestamp, TopicName, Uuid};
use bytes::Bytes;
use std::io::Write as _;

/// An event in the log, or one that only passes. Cheap to clone: the bytes are shared.
#[derive(Clone)]
pub struct Event {
    topic: TopicName,
    epoch: Epoch,
    offset: Offset,
    record: Record,
}

impl Event {
    pub fn new(topic: TopicName, epoch: Epoch, offset: Offset, bytes: Bytes) -> Result<Self, RecordError> {
        Ok(Self { topic, epoch, offset, record: Record::parse(bytes)? })
    }

    /// An event that is not in the log and has no place there.
    pub fn passing(topic: TopicName, bytes: Bytes) -> Result<Self, RecordError> {
        Self::new(topic, Epoch::NONE, Offset::ZERO, bytes)
    }

    /// Whether the event is in no log: it has neither offset nor cursor.
    pub fn is_passing(&self) -> bool {
        self.offset == Offset::ZERO
    }

    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn offset(&self) -> Offset {
        self.offset
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn id(&self) -> Uuid {
        self.record.id()
    }

    pub fn key(&self) -> Option<&str> {
        self.record.key()
    }

    pub fn name(&self) -> Option<&str> {
        self.record.name()
    }

    pub fn data(&self) -> Option<&str> {
        self.record.data()
    }

    pub fn published_at(&self) -> Timestamp {
        self.record.published_at()
    }

    /// Bytes this event holds in memory, about.
    pub fn weight(&self) -> usize {
        self.record.as_bytes().len() + 128
    }

    /// Appends the event as one JSON object; absent fields are left out.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let record = &self.record;
        out.extend_from_slice(b"{\"id\":\"");
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        out.extend_from_slice(record.id().hyphenated().encode_lower(&mut id).as_bytes());
        out.extend_from_slice(b"\",\"topic\":");
        match record.key() {
            None => string(out, self.topic.as_str()),
            Some(key) => {
                string(out, self.topic.as_str());
                out.pop();
                out.push(b':');
                let at = out.len();
                string(out, key);
                out.remove(at);
                out.extend_from_slice(b",\"key\":");
                string(out, key);
            }
        }
        if !self.is_passing() {
            write!(out, ",\"offset\":{}", self.offset).expect("memory");
        }
        for (field, value) in [
            (&b",\"name\":"[..], record.name()),
            (b",\"source\":", record.source()),
            (b",\"user\":", record.user()),
        ] {
            if let Some(value) = value {
                out.extend_from_slice(field);
                string(out, value);
            }
        }
        for (field, at) in [
            ("occurred_at", record.occurred_at()),
            ("available_at", record.available_at()),
            ("published_at", Some(record.published_at())),
        ] {
            if let Some(at) = at {
                write!(out, ",\"{field}\":\"{at}\"").expect("memory");
            }
        }
        if record.is_deleted() {
            out.extend_from_slice(b",\"deleted\":true");
        }
        if let Some(data) = record.data() {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data.as_bytes());
        }
        if let Some(context) = record.context() {
            out.extend_from_slice(b",\"context\":");
            out.extend_from_slice(context.as_bytes());
        }
        if let Some(attributes) = record.attributes() {
            out.push(b',');
            out.extend_from_slice(&attributes.as_bytes()[1..attributes.len() - 1]);
        }
        out.push(b'}');
    }

    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(self.record.as_bytes().len() + 256);
        self.write_json(&mut out);
        String::from_utf8(out).expect("records hold UTF-8")
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_json())
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a string into memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewEvent, RecordWriter, Topic};

    #[test]
    fn an_event_that_only_passes_has_no_offset() {
        let new = NewEvent::new(Topic::parse("users").unwrap(), "1");
        let bytes = RecordWriter::encode(&new, Uuid::from_u128(1));
        let event = Event::passing(new.topic.name, bytes.into()).unwrap();
        assert!(event.is_passing() && !event.to_json().contains("offset"));
    }

    #[test]
    fn the_json_holds_what_was_sent_and_nothing_absent() {
        let sent = r#"{"name":"a\"b","data":{"x": 1},"verified":true,"context":{"c":1}}"#;
        let new = NewEvent::parse(sent.as_bytes(), &Topic::parse("users:k\\1").unwrap()).unwrap();
        let bytes = RecordWriter::encode(&new, Uuid::from_u128(1));
        let event = Event::new(new.topic.name.clone(), Epoch(1), Offset(5), bytes.into()).unwrap();
        assert_eq!(
            event.to_json(),
            r#"{"id":"00000000-0000-0000-0000-000000000001","topic":"users:k\\1","key":"k\\1","offset":5,"name":"a\"b","published_at":"1970-01-01T00:00:00.000Z","data":{"x": 1},"context":{"c":1},"verified":true}"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&event.to_json()).is_ok());
    }
}
