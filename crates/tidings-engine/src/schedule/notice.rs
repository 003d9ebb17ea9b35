//! What is said in `$schedule`: that an event was scheduled, moved, cancelled or fired.
//!
//! Owns: the form of these events. The key is the scheduled event's id, and one that fired or was cancelled
//! deletes it, so the State of `$schedule` is what is coming up. Only the owner and admins see it (I6).
//! Never: holds data or context of the scheduled event.

use serde::Serialize;
use tidings_log::{Append, Due};
use tidings_model::{Key, NewEvent, Record, RecordWriter, Sight, Timestamp, Topic, TopicName, Uuid};

/// What became of a scheduled event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    Scheduled,
    Moved,
    Cancelled,
    Fired,
}

impl Happened {
    fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Moved => "moved",
            Self::Cancelled => "cancelled",
            Self::Fired => "fired",
        }
    }
}

#[derive(Serialize)]
struct Data<'a> {
    id: Uuid,
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    available_at: Timestamp,
}

/// What is said about an event that is being scheduled.
pub(crate) fn scheduled(event: &NewEvent, id: Uuid, at: Timestamp, owner: Option<&str>) -> Append {
    let data = Data {
        id,
        topic: event.topic.to_string(),
        key: event.topic.key.as_ref().map(Key::as_str),
        name: event.name.as_deref(),
        user: event.user.as_deref(),
        available_at: at,
    };
    append(&data, owner, Happened::Scheduled)
}

/// What is said about an event that was scheduled before; nothing about one whose record can't be read.
pub(super) fn of(due: &Due, what: Happened) -> Option<Append> {
    let record = Record::parse(due.record.clone().into()).ok()?;
    let topic = match record.key() {
        None => due.topic.to_string(),
        Some(key) => format!("{}:{key}", due.topic),
    };
    let (key, name, user) = (record.key(), record.name(), record.user());
    let data = Data { id: due.id, topic, key, name, user, available_at: due.at };
    Some(append(&data, due.owner.as_deref(), what))
}

fn append(data: &Data<'_>, owner: Option<&str>, what: Happened) -> Append {
    let topic = TopicName::schedule();
    let key = Key::parse(&data.id.to_string()).expect("a UUID is a key");
    let json = serde_json::to_vec(data).expect("plain fields into memory");
    let mut event = NewEvent::new(Topic { name: topic.clone(), key: Some(key) }, json);
    event.name = Some(what.as_str().into());
    event.user = owner.filter(|owner| owner.len() <= usize::from(u8::MAX)).map(Into::into);
    event.deleted = matches!(what, Happened::Cancelled | Happened::Fired);
    let audience = Some(owner.into_iter().map(Into::into).collect());
    let sight = Sight { audience, is_routed: true, ..Sight::default() };
    Append { topic, record: RecordWriter::encode_for(&event, Uuid::now_v7(), &sight) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::{Audience, Epoch, Event, Offset};

    #[test]
    fn a_notice_names_the_event_for_its_owner_and_holds_no_data() {
        let new =
            NewEvent::parse(br#"{"name":"ship","user":"u","data":"hush"}"#, &Topic::parse("o:1").unwrap());
        let (new, id, at) = (new.unwrap(), Uuid::from_u128(7), Timestamp::from_millis(5).unwrap());
        let said = scheduled(&new, id, at, Some("ann"));
        let record = RecordWriter::encode(&new, id);
        let due = Due { id, at, topic: new.topic.name.clone(), owner: Some("ann".into()), record };
        let later = of(&due, Happened::Fired).unwrap();
        for (append, name, deleted) in [(said, "scheduled", false), (later, "fired", true)] {
            let event = Event::new(append.topic, Epoch(1), Offset(1), append.record.into()).unwrap();
            assert_eq!((event.name(), event.record().is_deleted()), (Some(name), deleted));
            assert_eq!(event.key(), Some(id.to_string().as_str()));
            assert!(matches!(event.audience(), Audience::Users(users) if users.contains("ann")));
            let data = format!(
                r#"{{"id":"{id}","topic":"o:1","key":"1","name":"ship","user":"u","available_at":"{at}"}}"#
            );
            assert_eq!(event.data(), Some(data.as_str()));
        }
        let nobodys = of(&Due { owner: None, ..due }, Happened::Moved).unwrap();
        let event = Event::new(nobodys.topic, Epoch(1), Offset(1), nobodys.record.into()).unwrap();
        assert_eq!(event.audience(), Audience::Nobody);
    }
}
