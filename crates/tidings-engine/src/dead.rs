//! `$dead`: events that were refused although others of their call were taken.
//!
//! Owns: the form of what is kept of them. Only admins read it. It is bounded in size for each event and by the
//! topic's retention, since whoever may publish can fill it. Never: decides what is refused.

use crate::{Error, Tidings};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_log::{Append, Batch};
use tidings_model::{NewEvent, Principal, RecordWriter, Sight, Topic, TopicName, Uuid};

/// What is kept of one event's JSON as it was sent; of a longer one, or of other bytes, only the beginning.
const JSON_BYTES_MAX: usize = 256 << 10;
const TEXT_BYTES_MAX: usize = 16 << 10;
/// What is kept of each error, and how many.
const ERROR_BYTES_MAX: usize = 500;
const ERRORS_MAX: usize = 20;
/// Bytes that one commit of them takes, about.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// An event that was refused.
#[derive(Debug, Clone)]
pub struct DeadEvent {
    /// The address it was sent to, as the sender wrote it.
    pub topic: String,
    /// The event as it was sent, JSON where it is that.
    pub event: Bytes,
    /// Why it was refused.
    pub errors: Vec<String>,
    /// The door it came to: `http`, `grpc`, `channels`, `webhook`.
    pub door: &'static str,
}

#[derive(Serialize)]
struct Data<'a> {
    topic: &'a str,
    door: &'a str,
    errors: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    /// What is no JSON, or too long to be kept whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    bytes: usize,
}

impl Tidings {
    /// Keeps refused events in `$dead`, under the id of who sent them.
    ///
    /// # Errors
    /// When the log refuses; some of them may be kept then.
    pub async fn bury(&self, who: &Principal, dead: Vec<DeadEvent>) -> Result<(), Error> {
        let topic = TopicName::dead();
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for one in &dead {
            let record = one.record(who);
            bytes += record.len();
            batch.appends.push(Append { topic: topic.clone(), record });
            if bytes > BATCH_BYTES_MAX {
                self.log().commit(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.log().commit(batch).await?;
        }
        Ok(())
    }
}

impl DeadEvent {
    fn record(&self, who: &Principal) -> Vec<u8> {
        let is_short = self.event.len() <= JSON_BYTES_MAX;
        let json = Some(&self.event[..]).filter(|_| is_short);
        let json = json.and_then(|json| serde_json::from_slice::<&RawValue>(json).ok());
        let text = json.is_none().then(|| {
            let head = &self.event[..self.event.len().min(TEXT_BYTES_MAX)];
            String::from_utf8_lossy(head).into_owned()
        });
        let errors = self.errors.iter().take(ERRORS_MAX).map(|error| brief(error, ERROR_BYTES_MAX)).collect();
        let (topic, bytes) = (brief(&self.topic, ERROR_BYTES_MAX), self.event.len());
        let data = Data { topic, door: self.door, errors, event: json, text, bytes };
        let data = serde_json::to_vec(&data).expect("plain fields into memory");
        // Without a key: the State of a key would outlive retention.
        let mut event = NewEvent::new(Topic::whole(TopicName::dead()), data);
        event.name = Some("refused".into());
        event.user = who.id.as_deref().filter(|id| id.len() <= usize::from(u8::MAX)).map(Into::into);
        RecordWriter::encode_for(
            &event,
            Uuid::now_v7(),
            &Sight { audience: Some(Vec::new()), ..Sight::default() },
        )
    }
}

fn brief(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hub;
    use std::sync::Arc;
    use tidings_log::SystemClock;
    use tidings_log::memory::MemoryLog;
    use tidings_model::{Filter, Limits, Offset};

    fn dead(event: impl Into<Bytes>) -> DeadEvent {
        DeadEvent {
            topic: "users:1".into(),
            event: event.into(),
            errors: vec!["no".repeat(1000)],
            door: "http",
        }
    }

    #[tokio::test]
    async fn what_was_refused_is_kept_in_bounded_size_for_admins_alone() {
        let (clock, limits) = (Arc::new(SystemClock), Limits::default());
        let hub = Arc::new(Hub::new(&limits));
        let log = MemoryLog::new(Arc::clone(&clock) as _, Arc::clone(&hub) as _);
        let tidings = Tidings::new(Arc::new(log), hub, clock, limits);
        let ann = Principal { id: Some("ann".into()), ..Principal::nobody() };
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(JSON_BYTES_MAX));
        let all = vec![dead(r#"{"name": 1}"#), dead(&b"\xff{"[..]), dead(long)];
        tidings.bury(&ann, all).await.unwrap();
        let (topic, any) = (Topic::whole(TopicName::dead()), Filter::default());
        let page = tidings.read(&Principal::admin(), &topic, Offset::ZERO, 10, &any).await.unwrap();
        let data: Vec<&str> = page.events.iter().map(|event| event.data().unwrap()).collect();
        assert!(data[0].contains(r#""topic":"users:1","door":"http""#) && data[0].contains(r#"{"name": 1}"#));
        assert!(data[1].contains(r#""text":"#) && data[1].contains("\"bytes\":2"), "{}", data[1]);
        assert!(data.iter().all(|data| data.len() < TEXT_BYTES_MAX + 1000));
        assert_eq!(page.events[0].record().user(), Some("ann"));
        assert!(page.events.iter().all(|event| ann.view(event).is_none()));
        assert!(tidings.read(&ann, &topic, Offset::ZERO, 10, &any).await.is_err());
    }
}
