//! What is said in `$destinations` and `$deliveries`.
//!
//! `$destinations`: a destination's trouble; the key is its id. `$deliveries`: what was delivered; without a key, so
//! that nothing has to be indexed. Owns: the form of these events. Only admins see them. Never: holds an event's
//! data.

use super::attempt::Delivery;
use super::destination::Destination;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tidings_log::Append;
use tidings_model::{Key, NewEvent, RecordWriter, Topic, TopicName, Uuid};

/// Where trouble is told.
pub fn troubles() -> TopicName {
    static NAME: LazyLock<TopicName> = LazyLock::new(|| TopicName::parse("$destinations").expect("a name"));
    NAME.clone()
}

/// Where deliveries are kept.
pub fn deliveries() -> TopicName {
    static NAME: LazyLock<TopicName> = LazyLock::new(|| TopicName::parse("$deliveries").expect("a name"));
    NAME.clone()
}

/// What has become of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its receiver has failed for the first time since it last answered well.
    Failing,
    /// A delivery is dead.
    Dead,
    /// Its receiver answers well again.
    Recovered,
    /// Its receiver wants no more (410).
    Paused,
    /// Events were gone before they could be delivered.
    Gap,
}

impl Trouble {
    fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Dead => "dead",
            Self::Recovered => "recovered",
            Self::Paused => "paused",
            Self::Gap => "gap",
        }
    }
}

/// What is said of `destination`; nothing about one that delivers what is said here, which would go on for ever.
pub fn trouble(
    what: Trouble,
    destination: &Destination,
    delivery: Option<&Delivery>,
    more: Value,
) -> Option<Append> {
    let topic = troubles();
    if destination.topic.name == topic {
        return None;
    }
    let mut data = json!({
        "id": destination.id,
        "name": destination.name(),
        "topic": destination.topic.to_string(),
    });
    if let Some(delivery) = delivery {
        data["delivery"] = delivery.id().to_string().into();
        data["event"] = delivery.event.to_string().into();
        data["offset"] = delivery.offset.into();
        if let Some(last) = delivery.attempts.last() {
            data["status"] = last.status.into();
            data["error"] = last.error.as_deref().into();
        }
    }
    if let (Value::Object(data), Value::Object(mut more)) = (&mut data, more) {
        data.append(&mut more);
    }
    let key = Key::parse(&destination.id.to_string()).expect("a UUID is a key");
    let mut event = NewEvent::new(Topic { name: topic.clone(), key: Some(key) }, data.to_string());
    event.name = Some(what.as_str().into());
    Some(append(topic, &event))
}

/// A delivery that went well, as it is kept.
pub fn delivered(delivery: &Delivery) -> Append {
    let topic = deliveries();
    let event = NewEvent::new(Topic::whole(topic.clone()), delivery.json());
    append(topic, &event)
}

fn append(topic: TopicName, event: &NewEvent) -> Append {
    Append { topic, record: RecordWriter::encode(event, Uuid::now_v7()) }
}
