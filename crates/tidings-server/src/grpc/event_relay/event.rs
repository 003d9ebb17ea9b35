//! An event as EventRelay writes it, and back.
//!
//! Owns: what its clients must send (a name, and data that is a JSON object), and in which words a mistake is told.

use bytes::Bytes;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tidings_model::{Attributes, EventError, NewEvent, Timestamp, Topic};
use tidings_proto::server::eventrelay as relay;

/// The event, or everything that is wrong with it.
pub fn read(event: &relay::NewEvent, topic: &Topic, now: Timestamp) -> Result<NewEvent, Vec<String>> {
    let mut errors = Vec::new();
    if event.name.is_empty() {
        errors.push("Name can't be blank".to_owned());
    }
    let data = object(&event.data, "Data", &mut errors);
    if data.is_none() && event.data.is_empty() {
        errors.push("Data can't be blank".to_owned());
    }
    let occurred_at = time(&event.occurred_at, "Occurred at", &mut errors).or(Some(now));
    let available_at = time(&event.available_at, "Available at", &mut errors);
    let attribute = |text: &str| Some(text).filter(|text| !text.is_empty()).map(Into::into);
    let new = NewEvent {
        name: attribute(&event.name),
        source: attribute(&event.source),
        user: attribute(&event.user_key),
        occurred_at,
        available_at,
        data,
        context: (!event.context.is_empty()).then(|| json_of(&event.context)),
        attributes: Attributes {
            group_key: attribute(&event.group_key),
            reference_key: attribute(&event.reference_key),
            trace_key: attribute(&event.trace_key),
            anonymous_key: attribute(&event.anonymous_key),
            data_schema: attribute(&event.data_schema),
            prev_id: attribute(&event.prev_id),
            verified: Some(true),
        },
        ..NewEvent::new(topic.clone(), Bytes::new())
    };
    if let Err(error) = new.check() {
        errors.push(error.to_string());
    }
    if errors.is_empty() { Ok(new) } else { Err(errors) }
}

/// A JSON object, as it was sent.
fn object(text: &str, field: &str, errors: &mut Vec<String>) -> Option<Bytes> {
    if text.is_empty() {
        return None;
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => return Some(Bytes::copy_from_slice(raw.get().as_bytes())),
        Ok(_) => errors.push(format!("{field} must be a JSON object")),
        Err(error) => errors.push(format!("{field} is {}", EventError::from_json(&error))),
    }
    None
}

fn time(text: &str, field: &str, errors: &mut Vec<String>) -> Option<Timestamp> {
    if text.is_empty() {
        return None;
    }
    Timestamp::parse(text).map_err(|error| errors.push(format!("{field} is {error}"))).ok()
}

fn json_of(context: &BTreeMap<String, String>) -> Bytes {
    serde_json::to_vec(context).expect("texts").into()
}

/// The members of a context as texts: what is no text stands there as JSON.
pub fn context(json: Option<&str>) -> BTreeMap<String, String> {
    let Some(json) = json else { return BTreeMap::new() };
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap_or_default();
    let text = |raw: &RawValue| match serde_json::from_str::<Cow<'_, str>>(raw.get()) {
        Ok(text) => text.into_owned(),
        Err(_) => raw.get().to_owned(),
    };
    members.into_iter().map(|(name, raw)| (name, text(raw))).collect()
}

/// What was sent, as it is answered.
pub fn echo(event: relay::NewEvent, topic: &Topic) -> relay::Event {
    relay::Event {
        id: String::new(),
        name: event.name,
        topic: topic.to_string(),
        data: event.data,
        source: event.source,
        group_key: event.group_key,
        reference_key: event.reference_key,
        trace_key: event.trace_key,
        user_key: event.user_key,
        anonymous_key: event.anonymous_key,
        occurred_at: event.occurred_at,
        context: event.context,
        offset: 0,
        errors: Vec::new(),
        data_schema: event.data_schema,
        prev_id: event.prev_id,
        available_at: event.available_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_and_a_nested_context_comes_as_text() {
        let topic = Topic::parse("users:1").unwrap();
        let bad = relay::NewEvent {
            data: "[1]".into(),
            occurred_at: "nonsense".into(),
            available_at: "2020-01-01".into(),
            ..Default::default()
        };
        let errors = read(&bad, &topic, Timestamp::default()).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors.contains(&"Name can't be blank".to_owned()), "{errors:?}");
        let nested = context(Some(r#"{"a":"x\n","b":{"c":[1, 2]},"d":null}"#));
        assert_eq!(nested["a"], "x\n");
        assert_eq!(nested["b"], r#"{"c":[1, 2]}"#);
        assert_eq!(nested["d"], "null");
    }
}
