//! The members of a JSON object as they were written: read once, borrowed, taken out without touching the rest.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The members of an object in their order; names are decoded, values are the bytes that were sent.
#[derive(Default)]
pub(crate) struct Members<'a>(Vec<(Name<'a>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    /// `None` where `json` is not an object.
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The value of a member. Of two with one name the last counts, as for everybody who reads JSON.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(own, _)| own.0 == name).map(|(_, value)| *value)
    }

    pub fn has(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|(name, _)| is_meant(&name.0))
    }

    pub fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(own, _)| own.0 == name).count()
    }

    /// The object again, with each value as `change` gives it; `None` leaves a member out.
    pub fn write<'v>(&'v self, change: impl Fn(&str, &'v str) -> Option<Cow<'v, str>>) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(64 + self.0.iter().map(|(n, v)| n.0.len() + v.get().len() + 4).sum::<usize>());
        out.push(b'{');
        for (name, value) in &self.0 {
            let Some(value) = change(&name.0, value.get()) else { continue };
            if out.len() > 1 {
                out.push(b',');
            }
            name.0.serialize(&mut serde_json::Serializer::new(&mut out)).expect("a string into memory");
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
        out
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Name<'de>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_map(Object).map(Self)
    }
}

/// A value as the text that an id is compared with: a string's characters, a number or a truth value as it is
/// written. `null`, objects and arrays are no text.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<Name<'_>>(json).ok().map(|name| name.0),
        b'n' | b'{' | b'[' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}
