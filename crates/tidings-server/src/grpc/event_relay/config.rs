//! A destination's settings as the map of texts that EventRelay's clients send and read.
//!
//! Owns: EventRelay's names for some of them; the others have the names that `/v1/destinations` has. What is no text
//! is written as JSON. Never: shows a secret, or takes a word it does not know.

use crate::http::destinations::of_value;
use crate::refusal::Refusal;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tidings_engine::delivery::DestinationSettings;
use tidings_model::{Code, From};

/// EventRelay's names.
const NAMES: [(&str, &str); 4] = [
    ("endpoint_url", "url"),
    ("topic_name", "target"),
    ("query", "filter"),
    ("retries.max_attempts", "max_attempts"),
];
/// Settings that are texts.
const TEXTS: [&str; 7] = ["url", "target", "filter", "user_agent", "format", "order", "on_dead"];
/// What the call has fields of its own for.
const FIELDS: [&str; 4] = ["name", "kind", "topic", "group_key"];

/// What a new destination is to be like, and where it begins.
pub fn read(config: BTreeMap<String, String>) -> Result<(DestinationSettings, From), Refusal> {
    let (mut settings, mut from) = (Map::new(), From::Latest);
    for (name, text) in config {
        let own = NAMES.iter().find(|(theirs, _)| *theirs == name).map_or(&*name, |(_, own)| own);
        let value = match own {
            "from" => {
                from = From::parse(&text)?;
                continue;
            }
            "signing_secret" => {
                settings.insert("secrets".into(), Value::from(vec![text]));
                continue;
            }
            _ if FIELDS.contains(&own) => {
                let detail = format!("config: {own} is a field of the call");
                return Err(Refusal::new(Code::FieldUnknown, detail));
            }
            _ if TEXTS.contains(&own) => Value::from(text),
            // A complaint repeats no value that was sent, since that may be a secret.
            _ => serde_json::from_str(&text)
                .map_err(|_| Refusal::parameter(format!("config: {own} is not JSON")))?,
        };
        if settings.insert(own.to_owned(), value).is_some() {
            return Err(Refusal::parameter(format!("config: {own} stands there twice")));
        }
    }
    Ok((of_value(settings.into())?, from))
}

/// The settings that are not fields of the answer.
pub fn show(settings: &DestinationSettings) -> BTreeMap<String, String> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(settings) else { unreachable!("plain fields") };
    all.retain(|name, _| !FIELDS.contains(&&**name) && name != "secrets");
    if !settings.paused {
        all.remove("paused");
    }
    let theirs = |own: String| match NAMES.iter().find(|(name, of)| *of == own && !name.contains('.')) {
        Some((theirs, _)) => (*theirs).to_owned(),
        None => own,
    };
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    all.into_iter().map(|(name, value)| (theirs(name), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_was_sent_is_shown_again_without_the_secret() {
        let sent = map(&[
            ("endpoint_url", "https://example.com/in"),
            ("query", "data.total > 1"),
            ("user_agent", "5"),
            ("retries.max_attempts", "3"),
            ("headers", r#"{"x-a":"b"}"#),
            ("order", "key"),
            ("from", "earliest"),
            ("signing_secret", "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"),
        ]);
        let (settings, from) = read(sent.clone()).unwrap();
        assert_eq!((from, settings.max_attempts, settings.secrets.len()), (From::Earliest, Some(3), 1));
        let mut shown = show(&settings);
        assert_eq!(shown.remove("max_attempts").unwrap(), "3");
        let mut wanted = sent;
        wanted.retain(|name, _| !["from", "signing_secret", "retries.max_attempts"].contains(&&**name));
        assert_eq!(shown, wanted);
    }

    #[test]
    fn words_that_are_not_known_or_stand_there_twice_are_refused_without_their_values() {
        for (pairs, code) in [
            (&[("pipeline", "\"hidden\"")][..], Code::FieldUnknown),
            (&[("name", "hidden")], Code::FieldUnknown),
            (&[("headers", "hidden")], Code::ParameterInvalid),
            (&[("max_attempts", "\"hidden\"")], Code::ParameterInvalid),
            (&[("url", "hidden"), ("endpoint_url", "hidden")], Code::ParameterInvalid),
            (&[("from", "hidden")], Code::CursorInvalid),
        ] {
            let refusal = read(map(pairs)).unwrap_err();
            assert_eq!(refusal.code, code, "{pairs:?}: {refusal:?}");
            assert!(code == Code::CursorInvalid || !refusal.detail.contains("hidden"), "{refusal:?}");
        }
    }
}
