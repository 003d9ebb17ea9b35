//! An event as EventRelay's JSON has it, in both spellings that there were, and back.
//!
//! Owns: what must be there (a name, and data that is an object), and in which words a mistake is told. Fields that
//! are none of EventRelay's are passed over, as it did.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tidings_model::{Attributes, EventError, NewEvent, Timestamp, Topic, Uuid};

/// Fields with the other name that they may have.
const ID: [&str; 2] = ["id", "eventId"];
const USER: [&str; 2] = ["user_key", "userId"];
const OCCURRED: [&str; 2] = ["occurred_at", "eventOccurredAt"];

/// An event as it was sent.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Sent<'a> {
    #[serde(borrow)]
    fields: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

/// What was made of an event, for the answer.
#[derive(Debug, Default)]
pub struct Fate {
    pub id: Option<Uuid>,
    pub offset: Option<u64>,
    pub topic: String,
    pub occurred_at: Option<Timestamp>,
    pub available_at: Option<Timestamp>,
    pub errors: Vec<String>,
}

impl<'a> Sent<'a> {
    /// The event, or everything that is wrong with it.
    pub fn read(&self, topic: &Topic, now: Timestamp) -> Result<NewEvent, Vec<String>> {
        let mut errors = Vec::new();
        let name = self.text(&["name"], &mut errors);
        if name.is_none() {
            errors.push("name can't be blank".to_owned());
        }
        let topic = match self.text(&["topic"], &mut errors) {
            None => topic.clone(),
            Some(own) => address(&own, topic).unwrap_or_else(|error| {
                errors.push(error);
                topic.clone()
            }),
        };
        let mut attribute = |name: &str| self.text(&[name], &mut errors);
        let attributes = Attributes {
            group_key: attribute("group_key"),
            reference_key: attribute("reference_key"),
            trace_key: attribute("trace_key"),
            anonymous_key: attribute("anonymous_key"),
            data_schema: self.schema(),
            prev_id: attribute("prev_id"),
            verified: Some(true),
        };
        let event = NewEvent {
            id: self.parsed(&ID, "no UUID", &mut errors, |text| text.parse().ok()),
            name,
            source: self.text(&["source"], &mut errors),
            user: self.text(&USER, &mut errors),
            occurred_at: self.time(&OCCURRED, &mut errors).or(Some(now)),
            available_at: self.time(&["available_at"], &mut errors),
            data: self.object("data", &mut errors),
            context: self.object("context", &mut errors),
            attributes,
            ..NewEvent::new(topic, Bytes::new())
        };
        if self.one(&["data"]).is_none() {
            errors.push("data can't be blank".to_owned());
        }
        if let Err(error) = event.check() {
            errors.push(error.to_string());
        }
        if errors.is_empty() { Ok(event) } else { Err(errors) }
    }

    /// Appends the event as it is answered: what was sent, and what became of it, under both spellings.
    pub fn write(&self, fate: &Fate, out: &mut Vec<u8>) {
        let mut first = true;
        let mut put = |name: &str, json: &str| {
            out.push(if first { b'{' } else { b',' });
            first = false;
            out.extend_from_slice(format!("\"{name}\":{json}").as_bytes());
        };
        let json = |value: Option<String>| value.map_or("null".into(), |v| serde_json::json!(v).to_string());
        let id = json(fate.id.map(|id| id.to_string()));
        ID.iter().for_each(|name| put(name, &id));
        put("topic", &json(Some(fate.topic.clone())));
        put("offset", &fate.offset.map_or("null".into(), |offset| offset.to_string()));
        let sent = |names: &[&str]| self.one(names).map_or("null", RawValue::get);
        let occurred_at = match fate.occurred_at {
            Some(at) => json(Some(at.to_string())),
            None => sent(&OCCURRED).to_owned(),
        };
        OCCURRED.iter().for_each(|name| put(name, &occurred_at));
        put("available_at", &fate.available_at.map_or("null".into(), |at| json(Some(at.to_string()))));
        USER.iter().for_each(|name| put(name, sent(&USER)));
        for name in ["name", "source", "data", "context", "group_key", "reference_key", "trace_key"] {
            put(name, sent(&[name]));
        }
        for name in ["anonymous_key", "prev_id", "data_schema"] {
            put(name, sent(&[name]));
        }
        put("errors", &serde_json::json!(fate.errors).to_string());
        out.push(b'}');
    }

    /// The field under whichever of its names it was sent; `null` is nothing.
    fn one(&self, names: &[&str]) -> Option<&'a RawValue> {
        let found = names.iter().filter_map(|name| self.fields.get(*name).copied());
        found.into_iter().find(|raw| raw.get() != "null")
    }

    fn text(&self, names: &[&str], errors: &mut Vec<String>) -> Option<Box<str>> {
        let raw = self.one(names)?;
        let Ok(text) = parse::<Box<str>>(raw) else {
            errors.push(format!("{} is no text", self.spelled(names)));
            return None;
        };
        Some(text).filter(|text| !text.is_empty())
    }

    fn parsed<T>(
        &self,
        names: &[&str],
        what: &str,
        errors: &mut Vec<String>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(names, errors)?;
        let value = parse(&text);
        if value.is_none() {
            errors.push(format!("{} is {what}", self.spelled(names)));
        }
        value
    }

    fn time(&self, names: &[&str], errors: &mut Vec<String>) -> Option<Timestamp> {
        let text = self.text(names, errors)?;
        Timestamp::parse(&text).map_err(|e| errors.push(format!("{} is {e}", self.spelled(names)))).ok()
    }

    /// A JSON object, as it was sent.
    fn object(&self, name: &str, errors: &mut Vec<String>) -> Option<Bytes> {
        let raw = self.one(&[name])?;
        if !raw.get().starts_with('{') {
            errors.push(format!("{name} must be a JSON object"));
            return None;
        }
        Some(Bytes::copy_from_slice(raw.get().as_bytes()))
    }

    /// A schema as text, or as the JSON that the text would hold.
    fn schema(&self) -> Option<Box<str>> {
        let raw = self.one(&["data_schema"])?;
        Some(parse::<Box<str>>(raw).unwrap_or_else(|_| raw.get().into())).filter(|text| !text.is_empty())
    }

    /// The name under which the field was sent.
    fn spelled<'n>(&self, names: &[&'n str]) -> &'n str {
        names.iter().find(|name| self.fields.contains_key(**name)).copied().unwrap_or(names[0])
    }
}

/// The event's own address, which may only agree with that of the request or narrow it.
fn address(own: &str, request: &Topic) -> Result<Topic, String> {
    let in_event = Topic::parse(own).map_err(|e| format!("topic: {e}"))?;
    let narrows = request.key.is_none() || request.key == in_event.key;
    if in_event.name == request.name && narrows {
        return Ok(in_event);
    }
    Err(EventError::TopicDiffers { in_event, in_request: request.clone() }.to_string())
}

fn parse<T: DeserializeOwned>(raw: &RawValue) -> Result<T, serde_json::Error> {
    serde_json::from_str(raw.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(event: &Value) -> Result<NewEvent, Vec<String>> {
        let text = event.to_string();
        let sent: Sent<'_> = serde_json::from_str(&text).unwrap();
        sent.read(&Topic::parse("users").unwrap(), Timestamp::from_millis(5).unwrap())
    }

    #[test]
    fn both_spellings_mean_the_same_and_the_answer_has_both() {
        let id = "0190c3a6-0000-7000-8000-000000000001";
        for event in [
            json!({"id": id, "user_key": "u", "occurred_at": "2020-01-01T00:00:00Z", "name": "n", "data": {}}),
            json!({"eventId": id, "userId": "u", "eventOccurredAt": "2020-01-01T00:00:00Z", "name": "n", "data": {}}),
        ] {
            let new = read(&event).unwrap();
            assert_eq!((new.user.as_deref(), new.id.unwrap().to_string()), (Some("u"), id.to_owned()));
            assert_eq!(new.occurred_at.unwrap().to_string(), "2020-01-01T00:00:00.000Z");
            let text = event.to_string();
            let sent: Sent<'_> = serde_json::from_str(&text).unwrap();
            let fate = Fate { id: new.id, offset: Some(3), occurred_at: new.occurred_at, ..Fate::default() };
            let mut out = Vec::new();
            sent.write(&fate, &mut out);
            let answer: Value = serde_json::from_slice(&out).unwrap();
            for [a, b] in [ID, USER, OCCURRED] {
                assert!(answer[a] == answer[b] && answer[a].is_string(), "{a} {answer}");
            }
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let bad =
            json!({"userId": 7, "eventId": "x", "data": "{}", "context": [], "occurred_at": "nonsense"});
        let errors = read(&bad).unwrap_err();
        for what in ["name can't", "userId is no text", "eventId is no UUID", "data must", "context must"] {
            assert!(errors.iter().any(|error| error.starts_with(what)), "{what}: {errors:?}");
        }
        assert!(errors.iter().any(|error| error.starts_with("occurred_at is ")), "{errors:?}");
        let fine = json!({"name": "n", "data": {"a": 1.0}, "topic": "users:7", "user_key": null, "other": 1});
        let new = read(&fine).unwrap();
        assert_eq!((new.topic.to_string().as_str(), new.user), ("users:7", None));
        assert!(read(&json!({"name": "n", "data": {}, "topic": "orders"})).is_err());
        let schema = json!({"name": "n", "data": {}, "data_schema": {"type": "object"}});
        assert_eq!(read(&schema).unwrap().attributes.data_schema.as_deref(), Some(r#"{"type":"object"}"#));
    }
}
