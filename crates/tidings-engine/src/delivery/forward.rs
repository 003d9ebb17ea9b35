//! Copies events from one topic to another.
//!
//! Owns: what a copy is, and that each event is copied once: the copies and the progress are one commit. Loops end:
//! a copy says in its context which topics it has come through, and goes to none of them again. Never: keeps events.

use super::destination::Destination;
use super::mark::Mark;
use crate::{Error, Tidings};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tidings_log::{Append, Batch, ReadMax};
use tidings_model::{Attributes, Event, Key, NewEvent, Offset, Principal, RecordWriter, Topic, Uuid};

/// The member of a copy's context that says where it has come through.
const VIA: &str = "forwarded_from";
/// Topics that a copy may come through.
const HOPS_MAX: usize = 16;
/// Events copied in one commit.
const MAX: ReadMax = ReadMax { events: 512, bytes: 1 << 20 };

/// Copies what follows `mark`, and answers the mark after it and whether there is more.
pub async fn step(tidings: &Tidings, own: &Destination, mut mark: Mark) -> Result<(Mark, bool), Error> {
    let Some(bounds) = tidings.log().bounds(&own.topic.name) else { return Ok((mark, false)) };
    if mark.epoch != bounds.epoch {
        mark = Mark::at(bounds.epoch);
    }
    let after = Offset(mark.settled.floor());
    if after >= bounds.tail {
        return Ok((mark, false));
    }
    let page = tidings.read_within(&Principal::admin(), &own.topic, after, MAX, &own.filter).await?;
    // Of another life: the next turn finds out.
    if page.events.iter().any(|event| event.epoch() != mark.epoch) {
        return Ok((mark, true));
    }
    let target = own.target.as_ref().expect("a topic destination has a target");
    let mut batch = Batch::default();
    let mut references = Vec::new();
    for event in &page.events {
        let Some(copy) = copy(event, target) else { continue };
        let id = Uuid::now_v7();
        let (copy, own) = tidings.decide_one(0, copy)?;
        // I6: who may see the event may see the copy, and nobody else.
        let record = RecordWriter::encode_for(&copy, id, &event.sight().unwrap_or(own));
        tidings.reach().refer(&copy, id, false, &mut references);
        batch.appends.push(Append { topic: target.name.clone(), record });
    }
    if !batch.appends.is_empty() {
        tidings.check_free(&target.name)?;
        tidings.check_room(&target.name)?;
    }
    let count = batch.appends.len();
    batch.appends.append(&mut references);
    mark.settled.add(1, page.after.0);
    batch.marks.push(mark.stored(own.id));
    tidings.log().commit(batch).await?;
    tidings.counters().published(count);
    Ok((mark, page.after < page.bounds.tail))
}

/// The event as it goes on to `target`; none where it has been there, or has come far enough.
fn copy(event: &Event, target: &Topic) -> Option<NewEvent> {
    let record = event.record();
    let mut context: BTreeMap<Box<str>, Box<RawValue>> =
        record.context().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let via = context.get(VIA).and_then(|via| serde_json::from_str::<Vec<Box<str>>>(via.get()).ok());
    let mut via = via.unwrap_or_default();
    via.push(event.topic().as_str().into());
    if via.len() > HOPS_MAX || via.iter().any(|topic| **topic == *target.name.as_str()) {
        return None;
    }
    context.insert(VIA.into(), serde_json::value::to_raw_value(&via).expect("texts"));
    let key = target.key.clone().or_else(|| event.key().and_then(|key| Key::parse(key).ok()));
    let attributes = record.attributes().and_then(|json| serde_json::from_str::<Attributes>(json).ok());
    let data = record.data().map(|data| Bytes::copy_from_slice(data.as_bytes()));
    let has_key = key.is_some();
    Some(NewEvent {
        id: None,
        name: record.name().map(Into::into),
        source: record.source().map(Into::into),
        user: record.user().map(Into::into),
        occurred_at: record.occurred_at(),
        available_at: None,
        data,
        context: Some(serde_json::to_vec(&context).expect("plain fields").into()),
        attributes: Attributes {
            prev_id: Some(event.id().to_string().into()),
            ..attributes.unwrap_or_default()
        },
        deleted: record.is_deleted() && has_key,
        ..NewEvent::new(Topic { name: target.name.clone(), key }, Bytes::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::{Epoch, TopicName};

    fn event(topic: &str, context: &str) -> Event {
        let text = format!(r#"{{"name":"n","data":[1.50],"context":{context},"trace_key":"t"}}"#);
        let new = NewEvent::parse(text.as_bytes(), &Topic::parse(topic).unwrap()).unwrap();
        let record = RecordWriter::encode(&new, Uuid::from_u128(9));
        Event::new(
            TopicName::parse(topic.split(':').next().unwrap()).unwrap(),
            Epoch(1),
            Offset(1),
            record.into(),
        )
        .unwrap()
    }

    #[test]
    fn a_copy_keeps_what_the_event_holds_and_names_it() {
        let made = copy(&event("a:k", r#"{"x":{"y":1}}"#), &Topic::parse("b").unwrap()).unwrap();
        assert_eq!(made.topic.to_string(), "b:k");
        assert_eq!(made.attributes.prev_id.as_deref(), Some(Uuid::from_u128(9).to_string().as_str()));
        assert_eq!(made.attributes.trace_key.as_deref(), Some("t"));
        assert_eq!(made.data.as_deref(), Some(&b"[1.50]"[..]));
        assert_eq!(made.context.as_deref(), Some(&br#"{"forwarded_from":["a"],"x":{"y":1}}"#[..]));
        let keyed = copy(&event("a:k", "{}"), &Topic::parse("b:other").unwrap()).unwrap();
        assert_eq!(keyed.topic.to_string(), "b:other");
    }

    #[test]
    fn a_copy_goes_nowhere_twice_and_not_on_for_ever() {
        let to_a = Topic::parse("a").unwrap();
        assert!(copy(&event("b", r#"{"forwarded_from":["a"]}"#), &to_a).is_none());
        assert!(copy(&event("b", r#"{"forwarded_from":["c"]}"#), &to_a).is_some());
        assert!(copy(&event("b", r#"{"forwarded_from":"nonsense"}"#), &to_a).is_some());
        let far: Vec<String> = (0..HOPS_MAX).map(|n| format!("\"t{n}\"")).collect();
        assert!(copy(&event("b", &format!(r#"{{"forwarded_from":[{}]}}"#, far.join(","))), &to_a).is_none());
    }
}
