//! What a client says: `{"action":"subscribe","body":{"id":"100","entity":"items"}}`.
//!
//! The members' names are taken in any case, as entity-sync takes them. Never: decides whether it is done.

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use tidings_model::{Code, EntityKey};

#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Subscribe(EntityKey),
    Unsubscribe(EntityKey),
    Secret(String),
    /// An object without an action: for somebody else.
    Other,
}

/// Why a message is passed over.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    pub code: Code,
    pub why: &'static str,
}

const fn bad(code: Code, why: &'static str) -> Bad {
    Bad { code, why }
}

impl Message {
    pub fn parse(json: &[u8]) -> Result<Self, Bad> {
        const OBJECT: Bad = bad(Code::JsonInvalid, "a message is a JSON object");
        let [action, body] = members(json, ["action", "body"]).ok_or(OBJECT)?;
        let action = match action {
            None => Cow::Borrowed(""),
            Some("null") => Cow::Borrowed(""),
            Some(raw) => text(raw).ok_or(bad(Code::OpUnknown, "`action` is a text"))?,
        };
        match &*action {
            "" => Ok(Self::Other),
            "subscribe" => Ok(Self::Subscribe(key(body)?)),
            "unsubscribe" => Ok(Self::Unsubscribe(key(body)?)),
            "secret" => {
                let secret = body.and_then(text);
                let secret = secret.ok_or(bad(Code::ParameterInvalid, "the body of a secret is a text"))?;
                Ok(Self::Secret(secret.into_owned()))
            }
            _ => Err(bad(Code::OpUnknown, "`action` is subscribe, unsubscribe or secret")),
        }
    }
}

fn key(body: Option<&str>) -> Result<EntityKey, Bad> {
    const NEEDS: Bad = bad(Code::ParameterInvalid, "the body needs `id` and `entity`, both texts");
    let [entity, id] = members(body.ok_or(NEEDS)?.as_bytes(), ["entity", "id"]).ok_or(NEEDS)?;
    let entity = entity.and_then(text).ok_or(NEEDS)?;
    let id = id.and_then(text).ok_or(NEEDS)?;
    EntityKey::parse(&entity, &id).map_err(|_| bad(Code::TopicInvalid, "no entity or id can be called so"))
}

fn text(json: &str) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(json).ok().map(|t| t.0)
}

/// The members of an object by these names, in any case; of several the last.
fn members<'a, const N: usize>(json: &'a [u8], names: [&str; N]) -> Option<[Option<&'a str>; N]> {
    struct Members<'n, const N: usize>([&'n str; N]);
    impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
        type Value = [Option<&'de str>; N];

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                let value = map.next_value::<&'de RawValue>()?.get();
                if let Some(i) = self.0.iter().position(|own| own.eq_ignore_ascii_case(&name)) {
                    found[i] = Some(value);
                }
            }
            Ok(found)
        }
    }
    let text = std::str::from_utf8(json).ok()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let found = json.deserialize_map(Members(names)).ok()?;
    json.end().ok()?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_read_in_any_case() {
        let key = EntityKey::parse("items", "100").unwrap();
        for json in [
            r#"{"action":"subscribe","body":{"id":"100","entity":"items"}}"#,
            r#" {"BODY":{"Entity":"items","ID":"100","more":[1]},"Action":"subscribe"} "#,
        ] {
            assert_eq!(Message::parse(json.as_bytes()), Ok(Message::Subscribe(key.clone())), "{json}");
        }
        let parse = |json: &str| Message::parse(json.as_bytes());
        assert_eq!(
            parse(r#"{"action":"unsubscribe","body":{"id":"100","entity":"items"}}"#),
            Ok(Message::Unsubscribe(key))
        );
        assert_eq!(parse(r#"{"action":"secret","body":"a\"b"}"#), Ok(Message::Secret("a\"b".into())));
        for json in [r#"{"foo":1}"#, "{}", r#"{"action":"","x":1}"#, r#"{"action":null}"#] {
            assert_eq!(parse(json), Ok(Message::Other), "{json}");
        }
    }

    #[test]
    fn anything_else_is_passed_over() {
        for (json, code) in [
            ("", Code::JsonInvalid),
            ("[1]", Code::JsonInvalid),
            ("\"x\"", Code::JsonInvalid),
            ("{} {}", Code::JsonInvalid),
            (r#"{"action":"dance"}"#, Code::OpUnknown),
            (r#"{"action":7}"#, Code::OpUnknown),
            (r#"{"action":"subscribe"}"#, Code::ParameterInvalid),
            (r#"{"action":"subscribe","body":{"id":100,"entity":"items"}}"#, Code::ParameterInvalid),
            (r#"{"action":"subscribe","body":[1]}"#, Code::ParameterInvalid),
            (r#"{"action":"subscribe","body":{"id":"","entity":"items"}}"#, Code::TopicInvalid),
            (r#"{"action":"secret","body":{"a":1}}"#, Code::ParameterInvalid),
        ] {
            assert_eq!(Message::parse(json.as_bytes()).unwrap_err().code, code, "{json}");
        }
        assert!(Message::parse(&[b'{', 0xff, b'}']).is_err());
    }
}
