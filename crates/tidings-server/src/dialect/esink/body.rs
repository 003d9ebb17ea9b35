//! What is published through Esink's interface, and what its clients are told when it cannot be taken.
//!
//! Owns: the rules for each attribute, in Esink's words and order. Numbers are taken where a text is expected.

use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;

/// Longest name of a table, and of a type.
const CHARS_MAX: usize = 64;

/// A change to be published, each part checked.
#[derive(Debug, PartialEq)]
pub struct Change {
    pub data: Bytes,
    pub kind: String,
    pub table: String,
    pub user: String,
    pub security_token: String,
    pub source: Option<String>,
    /// JSON texts as they were given, `null` included.
    pub version: Option<String>,
    pub timestamp: Option<String>,
}

/// An attribute that cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    pub key: &'static str,
    pub message: String,
}

impl Invalid {
    /// As Esink says it.
    pub fn to_json(&self) -> Value {
        json!({
            "code": 400,
            "type": "ValidationError",
            "key": self.key,
            "message": self.message,
            "error": { "name": "ValidationError", "path": self.key, "errors": [self.message] },
        })
    }
}

/// An object's members in their order, the values as they are written.
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Reader)
    }
}

impl Members<'_> {
    /// The last one counts, as everywhere in JavaScript; `null` is as good as none.
    fn get(&self, key: &str) -> Option<&str> {
        self.given(key).filter(|text| *text != "null")
    }

    fn given(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, raw)| raw.get())
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, Invalid> {
        let Some(raw) = self.get(key) else { return Ok(None) };
        match raw.as_bytes().first() {
            Some(b'"') => Ok(serde_json::from_str(raw).ok()),
            Some(b'{' | b'[') => Err(Invalid { key, message: format!("body.{key} must be a string") }),
            _ => Ok(Some(raw.to_owned())),
        }
    }

    fn needed(&self, key: &'static str) -> Result<String, Invalid> {
        let text = self.text(key)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| Invalid { key, message: format!("body.{key} attribute is required") })
    }

    fn name(&self, key: &'static str) -> Result<String, Invalid> {
        let text = self.needed(key)?;
        if text.encode_utf16().count() > CHARS_MAX {
            let message = format!("body.{key} must be less than {CHARS_MAX} characters");
            return Err(Invalid { key, message });
        }
        Ok(text)
    }

    fn number(&self, key: &'static str) -> Result<Option<String>, Invalid> {
        let Some(raw) = self.given(key) else { return Ok(None) };
        let is_number = raw.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if raw == "null" || is_number {
            return Ok(Some(raw.to_owned()));
        }
        // A number in quotes is one.
        let text: Option<f64> =
            serde_json::from_str::<String>(raw).ok().and_then(|text| text.trim().parse().ok());
        match text.filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(Value::from(number).to_string())),
            None => Err(Invalid { key, message: format!("body.{key} must be a number") }),
        }
    }
}

impl Change {
    /// Reads a JSON text; anything but an object has no attributes.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let members = serde_json::from_str(text).unwrap_or(Members(Vec::new()));
        let refuse = |message: &str| Invalid { key: "data", message: message.into() };
        let data = members.get("data").ok_or_else(|| refuse("body.data attribute is required"))?;
        if !data.starts_with('{') {
            return Err(refuse("body.data attribute must be an object"));
        }
        Ok(Self {
            data: Bytes::copy_from_slice(data.as_bytes()),
            kind: members.name("type")?,
            table: members.name("table")?,
            user: members.needed("userId")?,
            security_token: members.needed("securityToken")?,
            source: members.text("source")?,
            version: members.number("version")?,
            timestamp: members.number("timestamp")?,
        })
    }

    /// Takes `columns` out of the data.
    pub fn without(&mut self, columns: &[String]) {
        let Ok(Members(members)) = serde_json::from_slice(&self.data) else { return };
        let mut out = Vec::with_capacity(self.data.len());
        out.push(b'{');
        for (name, value) in members.into_iter().filter(|(name, _)| !columns.contains(name)) {
            if out.len() > 1 {
                out.push(b',');
            }
            serde_json::to_writer(&mut out, &name).expect("memory");
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
        self.data = out.into();
    }

    /// What the event keeps of it beside data, name and source. `table` where the topic does not say it.
    pub fn context(&self, source_type: &str, table: Option<&str>) -> Bytes {
        let mut out = format!("{{\"source_type\":\"{source_type}\"");
        if let Some(table) = table {
            out.push_str(&format!(",\"table\":{}", Value::from(table)));
        }
        for (name, value) in [("timestamp", &self.timestamp), ("version", &self.version)] {
            if let Some(value) = value {
                out.push_str(&format!(",\"{name}\":{value}"));
            }
        }
        out.push('}');
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(change: impl Fn(&mut Value)) -> String {
        let mut body = json!({
            "data": {"b": 1, "a": 2}, "type": "insert", "table": "users", "userId": 101, "securityToken": "s",
        });
        change(&mut body);
        body.to_string()
    }

    #[test]
    fn each_attribute_has_its_rule() {
        let remove = |key: &str| body(|b| drop(b.as_object_mut().unwrap().remove(key)));
        for key in ["data", "type", "table", "userId", "securityToken"] {
            let invalid = Change::parse(&remove(key)).unwrap_err();
            assert_eq!((invalid.key, invalid.message), (key, format!("body.{key} attribute is required")));
        }
        let set =
            |key: &str, value: Value| Change::parse(&body(|b| b[key] = value.clone())).map_err(|e| e.message);
        assert_eq!(set("data", json!([])), Err("body.data attribute must be an object".into()));
        assert_eq!(set("table", json!({})), Err("body.table must be a string".into()));
        assert_eq!(
            set("type", json!("x".repeat(65))),
            Err("body.type must be less than 64 characters".into())
        );
        assert!(set("type", json!("x".repeat(64))).is_ok());
        assert_eq!(set("version", json!("x")), Err("body.version must be a number".into()));
        assert_eq!(set("userId", json!(7)).unwrap().user, "7");
        assert_eq!(set("timestamp", Value::Null).unwrap().timestamp.as_deref(), Some("null"));
        assert_eq!(Change::parse(&body(|_| ())).unwrap().timestamp, None);
        assert_eq!(Change::parse("[]").unwrap_err().key, "data");
    }

    #[test]
    fn columns_are_taken_out_and_the_others_stay_as_they_are() {
        let text = r#"{"data":{"z":1.0,"password":"p","a":{"password":1}},"type":"t","table":"u","userId":"1","securityToken":"s"}"#;
        let mut change = Change::parse(text).unwrap();
        change.without(&["password".into()]);
        assert_eq!(change.data, r#"{"z":1.0,"a":{"password":1}}"#);
        assert_eq!(change.context("api", Some("u\"")), r#"{"source_type":"api","table":"u\""}"#);
    }
}
