//! What PostgreSQL's values look like as JSON, without losing anything.
//!
//! Owns: the map from types to JSON, from the text that the server writes (`bytea_output = hex`, `datestyle = ISO`,
//! `timezone = UTC`, `intervalstyle = iso_8601`) and from the JSON that it makes itself.
//! Never: rounds a number; what JSON has no number for (`NaN`, `Infinity`) becomes a text.

use super::literal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// How the values of one type are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// As a text, just as PostgreSQL writes it.
    Text,
    Bool,
    /// All digits are kept.
    Number,
    /// `json` and `jsonb` are what they are.
    Json,
    /// `bytea` in base64.
    Bytes,
    /// With `T`, without a zone.
    Timestamp,
    /// RFC 3339 in UTC.
    TimestampTz,
    /// An array of arrays where there are dimensions. The character separates elements.
    List(Arc<Form>, char),
    /// An object.
    Composite(Arc<[(String, Form)]>),
}

impl Form {
    /// The form of a type that every server has under this number, an array's included.
    pub fn of_builtin(type_id: u32) -> Option<Self> {
        let list = |form| Some(Self::List(Arc::new(form), ','));
        match type_id {
            16 => Some(Self::Bool),
            // int8, int2, int4, oid, float4, float8, numeric
            20 | 21 | 23 | 26 | 700 | 701 | 1700 => Some(Self::Number),
            114 | 3802 => Some(Self::Json),
            17 => Some(Self::Bytes),
            1114 => Some(Self::Timestamp),
            1184 => Some(Self::TimestampTz),
            // "char", name, text, bpchar, varchar, date, time, timetz, interval, uuid, inet, cidr, macaddr, bit, varbit
            18 | 19 | 25 | 1042 | 1043 | 1082 | 1083 | 1266 | 1186 | 2950 | 869 | 650 | 829 | 1560 | 1562 => {
                Some(Self::Text)
            }
            1000 => list(Self::Bool),
            1016 | 1005 | 1007 | 1028 | 1021 | 1022 | 1231 => list(Self::Number),
            199 | 3807 => list(Self::Json),
            1001 => list(Self::Bytes),
            1115 => list(Self::Timestamp),
            1185 => list(Self::TimestampTz),
            1009 | 1014 | 1015 | 1182 | 2951 => list(Self::Text),
            _ => None,
        }
    }

    /// Appends a value that the server wrote as text.
    pub fn write_text(&self, text: &str, out: &mut Vec<u8>) {
        match self {
            Self::Text => string(text, out),
            Self::Bool => out.extend_from_slice(if text == "t" { b"true" } else { b"false" }),
            Self::Number if is_number(text) => out.extend_from_slice(text.as_bytes()),
            Self::Number => string(text, out),
            Self::Json => out.extend_from_slice(text.as_bytes()),
            Self::Bytes => bytes(text, out),
            Self::Timestamp => string(&timestamp(text, ""), out),
            Self::TimestampTz => string(&timestamp(text, "Z"), out),
            Self::List(element, delimiter) => {
                if !literal::list(text, *delimiter, element, out) {
                    string(text, out);
                }
            }
            Self::Composite(fields) => {
                if !literal::composite(text, fields, out) {
                    string(text, out);
                }
            }
        }
    }

    /// Appends a value that the server wrote as JSON.
    pub fn write_json(&self, json: &str, out: &mut Vec<u8>) {
        let json = json.trim();
        match self {
            Self::Bytes | Self::TimestampTz if json.starts_with('"') => {
                match serde_json::from_str::<Cow<'_, str>>(json) {
                    Ok(text) if *self == Self::Bytes => bytes(&text, out),
                    Ok(text) => string(&timestamp(&text, "Z"), out),
                    Err(_) => out.extend_from_slice(json.as_bytes()),
                }
            }
            Self::List(element, _) if element.differs_in_json() && json.starts_with('[') => {
                match serde_json::from_str::<Vec<&RawValue>>(json) {
                    Ok(values) => {
                        join(out, b'[', b']', values, |value, out| {
                            // A further dimension has the same form.
                            let form = if value.get().starts_with('[') { self } else { &**element };
                            form.write_json(value.get(), out);
                        });
                    }
                    Err(_) => out.extend_from_slice(json.as_bytes()),
                }
            }
            Self::Composite(fields) if self.differs_in_json() && json.starts_with('{') => {
                let members = members(json);
                join(out, b'{', b'}', members, |(name, value), out| {
                    let form =
                        fields.iter().find(|(field, _)| *field == name).map_or(&Self::Text, |(_, f)| f);
                    string(&name, out);
                    out.push(b':');
                    form.write_json(value.get(), out);
                });
            }
            _ => out.extend_from_slice(json.as_bytes()),
        }
    }

    /// Whether the server's own JSON has to be rewritten.
    fn differs_in_json(&self) -> bool {
        match self {
            Self::Bytes | Self::TimestampTz => true,
            Self::List(element, _) => element.differs_in_json(),
            Self::Composite(fields) => fields.iter().any(|(_, form)| form.differs_in_json()),
            _ => false,
        }
    }
}

/// The members of a JSON object in their order; none if it is no object.
pub fn members(json: &str) -> Vec<(Cow<'_, str>, &RawValue)> {
    struct InOrder;
    impl<'de> serde::de::Visitor<'de> for InOrder {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some((Name(name), value)) = map.next_entry()? {
                all.push((name, value));
            }
            Ok(all)
        }
    }
    let mut from = serde_json::Deserializer::from_str(json);
    serde::Deserializer::deserialize_map(&mut from, InOrder).unwrap_or_default()
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends a JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("memory");
}

/// Appends an array or object of what `write` makes of each of `all`.
pub fn join<T>(
    out: &mut Vec<u8>,
    begin: u8,
    end: u8,
    all: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(begin);
    for (i, one) in all.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(one, out);
    }
    out.push(end);
}

/// `NaN` and the infinities are none in JSON.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

/// `\x...` in base64; anything else is left as it is.
fn bytes(text: &str, out: &mut Vec<u8>) {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let decoded: Option<Vec<u8>> = text.strip_prefix("\\x").and_then(|hex| {
        hex.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
    });
    match decoded {
        Some(decoded) => {
            out.push(b'"');
            let at = out.len();
            out.resize(at + decoded.len().div_ceil(3) * 4, 0);
            STANDARD.encode_slice(&decoded, &mut out[at..]).expect("room was made");
            out.push(b'"');
        }
        None => string(text, out),
    }
}

/// `2020-01-01 12:00:00+00` as RFC 3339 with `zone`. What RFC 3339 has no word for (`infinity`, years before 1 or after
/// 9999) stays as PostgreSQL writes it.
fn timestamp<'a>(text: &'a str, zone: &str) -> Cow<'a, str> {
    let plain = text.strip_suffix("+00:00").or_else(|| text.strip_suffix("+00")).unwrap_or(text);
    let bytes = plain.as_bytes();
    let is_usual = bytes.len() >= 19
        && bytes[4] == b'-'
        && matches!(bytes[10], b' ' | b'T')
        && !text.ends_with("BC")
        && (zone.is_empty() || plain.len() < text.len());
    if is_usual { format!("{}T{}{zone}", &plain[..10], &plain[11..]).into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(form: &Form, text: &str) -> String {
        let mut out = Vec::new();
        form.write_text(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn json(form: &Form, json: &str) -> String {
        let mut out = Vec::new();
        form.write_json(json, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_are_kept_and_what_is_no_number_is_a_text() {
        for number in ["9223372036854775807", "-0.00000000000000000001", "1e+20", "1.10"] {
            assert_eq!(text(&Form::Number, number), number);
        }
        assert_eq!(text(&Form::Number, "NaN"), "\"NaN\"");
        assert_eq!(text(&Form::Number, "-Infinity"), "\"-Infinity\"");
    }

    #[test]
    fn times_are_rfc_3339_where_that_can_say_them() {
        let tz = |t| text(&Form::TimestampTz, t);
        assert_eq!(tz("2020-01-02 03:04:05.000001+00"), "\"2020-01-02T03:04:05.000001Z\"");
        assert_eq!(tz("infinity"), "\"infinity\"");
        assert_eq!(tz("0044-03-15 00:00:00+00 BC"), "\"0044-03-15 00:00:00+00 BC\"");
        assert_eq!(tz("12020-01-02 03:04:05+00"), "\"12020-01-02 03:04:05+00\"");
        assert_eq!(text(&Form::Timestamp, "2020-01-02 03:04:05"), "\"2020-01-02T03:04:05\"");
        let made = json(&Form::TimestampTz, "\"2020-01-02T03:04:05+00:00\"");
        assert_eq!(made, "\"2020-01-02T03:04:05Z\"");
    }

    #[test]
    fn bytes_are_base64_also_within_arrays_and_rows() {
        assert_eq!(text(&Form::Bytes, "\\x00ff10"), "\"AP8Q\"");
        let list = Form::List(Arc::new(Form::Bytes), ',');
        assert_eq!(text(&list, "{\"\\\\x00ff10\",NULL}"), "[\"AP8Q\",null]");
        assert_eq!(json(&list, "[[\"\\\\x00ff10\"], [null]]"), "[[\"AP8Q\"],[null]]");
        let row = Form::Composite(Arc::new([("a b".into(), Form::Bytes), ("n".into(), Form::Number)]));
        assert_eq!(text(&row, "(\"\\\\x00ff10\",)"), "{\"a b\":\"AP8Q\",\"n\":null}");
        assert_eq!(json(&row, "{\"a b\":\"\\\\x00ff10\",\"n\":1.0}"), "{\"a b\":\"AP8Q\",\"n\":1.0}");
    }
}
