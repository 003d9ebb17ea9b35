//! How a table of somebody else's database is called here: the topic of a table, the key of a row.
//!
//! Owns: the encoding that makes any identifier and any value an address, two of them never the same one.
//! What an address must not hold, and what separates the parts of one, is percent-encoded as UTF-8.

use crate::{Key, TopicError, TopicName};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// What a key begins with that is longer than a key may be.
const HASHED: &str = "sha256-";

impl TopicName {
    /// The topic of a table: `prefix`, then `schema.table`, or `table` alone where the schema is the default one.
    ///
    /// In schema and table `:`, `,`, `%`, `.`, control characters and blanks at either end are percent-encoded;
    /// so are a `$` at the beginning and a name that is nothing but `*`. Case is kept. `prefix` is taken as it is.
    ///
    /// # Errors
    /// When the encoded name has more than 200 bytes or `prefix` breaks the grammar of names.
    pub fn captured(schema: Option<&str>, table: &str, prefix: &str) -> Result<Self, TopicError> {
        let mut name = prefix.to_owned();
        if let Some(schema) = schema {
            encode(&mut name, schema, &[':', ',', '%', '.']);
            name.push('.');
        }
        encode(&mut name, table, &[':', ',', '%', '.']);
        if prefix.is_empty() && name.starts_with('$') {
            name.replace_range(..1, "%24");
        }
        if name == "*" {
            name.replace_range(.., "%2A");
        }
        Self::parse_captured(&name)
    }
}

impl Key {
    /// The key of a row from the values of its primary key's columns as text, in the key's order, and its full
    /// text where it does not fit; that goes into `context.key`.
    ///
    /// In each value `%` and control characters are percent-encoded, and `,` where there are several: they are
    /// joined by it. A single empty value is `%`. Beyond 255 bytes the key is `sha256-` and the hash of the
    /// whole in hex.
    ///
    /// `values` must not be empty: a row without a primary key has no key.
    pub fn of_columns<'a>(values: impl IntoIterator<Item = &'a str>) -> (Self, Option<String>) {
        let values: Vec<&str> = values.into_iter().collect();
        let mut text = String::new();
        if let [value] = values[..] {
            encode_inner(&mut text, value, &['%']);
        } else {
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                encode_inner(&mut text, value, &['%', ',']);
            }
        }
        if text.is_empty() {
            text.push('%');
        } else if text.starts_with(HASHED) {
            // Nobody's value may pass for the hash of another.
            text.replace_range(..1, "%73");
        }
        if text.len() <= Self::BYTES_MAX {
            return (Self::parse(&text).expect("encoded, and neither empty nor too long"), None);
        }
        let mut hashed = HASHED.to_owned();
        for byte in Sha256::digest(text.as_bytes()) {
            write!(hashed, "{byte:02x}").expect("memory");
        }
        (Self::parse(&hashed).expect("plain and short"), Some(text))
    }

    /// What the percent-encoded characters of a row's key stand for; `None` where there are none, or where that
    /// is no key.
    pub fn decoded(&self) -> Option<Self> {
        let (head, rest) = self.as_str().split_once('%')?;
        let mut bytes = head.as_bytes().to_vec();
        for part in rest.split('%') {
            bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        Self::parse(std::str::from_utf8(&bytes).ok()?).ok()
    }
}

/// As [`encode_inner`], and blanks at either end too.
fn encode(out: &mut String, text: &str, special: &[char]) {
    let inner = text.trim();
    let from = text.len() - text.trim_start().len();
    let (before, after) =
        if inner.is_empty() { (text, "") } else { (&text[..from], &text[from + inner.len()..]) };
    before.chars().for_each(|c| percent(out, c));
    encode_inner(out, inner, special);
    after.chars().for_each(|c| percent(out, c));
}

fn encode_inner(out: &mut String, text: &str, special: &[char]) {
    for c in text.chars() {
        if c.is_control() || special.contains(&c) { percent(out, c) } else { out.push(c) }
    }
}

fn percent(out: &mut String, c: char) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        write!(out, "%{byte:02X}").expect("memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::slice::from_ref;

    fn name(schema: Option<&str>, table: &str, prefix: &str) -> String {
        TopicName::captured(schema, table, prefix).unwrap().to_string()
    }

    #[test]
    fn tables_keep_their_names_where_an_address_can_say_them() {
        assert_eq!(name(None, "bankRecords", ""), "bankRecords");
        assert_eq!(name(Some("sales"), "orders", "crm-"), "crm-sales.orders");
        assert_eq!(name(None, "a \"b\" 'ü", ""), "a \"b\" 'ü");
        assert_eq!(name(Some("a.b"), " c:d,e%f\n ", ""), "a%2Eb.%20c%3Ad%2Ce%25f%0A%20");
        assert_eq!(name(None, "$dead", ""), "%24dead");
        assert_eq!(name(None, "*", ""), "%2A");
        assert_eq!(name(None, " \u{a0}", ""), "%20%C2%A0");
        assert!(TopicName::captured(None, &"t".repeat(201), "").is_err());
        assert!(TopicName::captured(None, "", "").is_err());
    }

    #[test]
    fn an_encoded_key_is_decoded_where_that_is_a_key() {
        let decoded = |text: &str| Key::parse(text).unwrap().decoded().map(|key| key.to_string());
        assert_eq!(decoded("k%25,%C3%BC").as_deref(), Some("k%,ü"));
        for text in ["plain", "%", "%0A", "%zz", "%C3", "a%2"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    #[test]
    fn keys_say_their_values_and_long_ones_their_hash() {
        let key = |values: &[&str]| Key::of_columns(values.iter().copied()).0.to_string();
        assert_eq!(key(&["a,b:c"]), "a,b:c");
        assert_eq!(key(&["a,b", "50%"]), "a%2Cb,50%25");
        assert_eq!((key(&[""]), key(&["", ""])), ("%".into(), ",".into()));
        assert_eq!(key(&["sha256-00"]), "%73ha256-00");
        assert_eq!(key(&[&"k".repeat(255)]), "k".repeat(255));
        let long = "é".repeat(128);
        let (key, full) = Key::of_columns([long.as_str()]);
        assert_eq!((key.as_str().len(), full.as_deref()), (71, Some(long.as_str())));
        assert!(key.as_str().starts_with("sha256-"));
    }

    fn text() -> impl Strategy<Value = String> {
        "[ a%,:.$*\n\u{a0}é]{0,6}"
    }

    proptest! {
        #[test]
        fn two_tables_never_share_a_topic(
            a in (prop::option::of(text()), text()), b in (prop::option::of(text()), text())
        ) {
            let of = |(schema, table): &(Option<String>, String)| {
                TopicName::captured(schema.as_deref(), table, "").ok()
            };
            if let (Some(x), Some(y)) = (of(&a), of(&b)) {
                prop_assert_eq!(x == y, a == b);
                prop_assert!(!x.is_system());
            }
        }

        #[test]
        fn two_rows_never_share_a_key(
            a in prop::collection::vec(text(), 2), b in prop::collection::vec(text(), 2), one in text(), other in text()
        ) {
            let of = |values: &[String]| Key::of_columns(values.iter().map(String::as_str)).0;
            prop_assert_eq!(of(&a) == of(&b), a == b);
            prop_assert_eq!(of(from_ref(&one)) == of(from_ref(&other)), one == other);
            let decoded = of(from_ref(&one)).decoded();
            prop_assert!(decoded.is_none_or(|key| key.as_str() == one));
        }
    }
}
