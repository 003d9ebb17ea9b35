//! A JSON object as its fields in order, each value byte-exact as written.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Debug)]
pub struct Fields<'a>(pub Vec<(Name<'a>, &'a RawValue)>);

/// A field's name; borrowed unless it has escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Name<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'a> Fields<'a> {
    /// `None` if `text` is not one JSON object.
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The last field of that name, as parsers that keep one take it.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(own, _)| own.0 == name).map(|(_, value)| *value)
    }

    /// The object as JSON, with `first` fields (already JSON) at the beginning.
    pub fn write(&self, first: &[(&str, &str)], out: &mut Vec<u8>) {
        let own = self.0.iter().map(|(name, value)| (&*name.0, value.get()));
        write(first.iter().copied().chain(own), out);
    }
}

/// Appends an object of `fields`, whose values are JSON, and ends the line.
pub fn write<'f>(fields: impl Iterator<Item = (&'f str, &'f str)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (name, value)) in fields.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name).expect("a string into memory");
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        d.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_byte_exact_and_in_order() {
        let fields = Fields::parse(r#"{"b":  1.0e2, "a":{"x": [ ]},"b":"\u00e9"}"#).unwrap();
        assert_eq!(fields.get("b").unwrap().get(), r#""\u00e9""#);
        let mut out = Vec::new();
        fields.write(&[("id", "1")], &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"id\":1,\"b\":1.0e2,\"a\":{\"x\": [ ]},\"b\":\"\\u00e9\"}\n"
        );
        for other in ["[1]", "1", "\"{}\"", "{", "{} {}", "2026-01-01 x", ""] {
            assert!(Fields::parse(other).is_none(), "{other}");
        }
    }
}
