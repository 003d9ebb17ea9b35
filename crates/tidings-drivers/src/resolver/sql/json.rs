//! One row as a JSON object, written column by column.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

/// An object that grows.
pub struct Object(Vec<u8>);

impl Object {
    pub fn new() -> Self {
        Self(vec![b'{'])
    }

    /// The next column's name; its value must follow.
    pub fn name(&mut self, name: &str) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.value(name);
        self.0.push(b':');
        self
    }

    /// A text, a number, a truth value; what JSON has no number for becomes null.
    pub fn value(&mut self, value: impl Serialize) {
        serde_json::to_writer(&mut self.0, &value).expect("a plain value into memory");
    }

    /// What is JSON already: digits, or a document.
    pub fn raw(&mut self, json: &[u8]) {
        self.0.extend_from_slice(json);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.value(STANDARD.encode(bytes));
    }

    pub fn null(&mut self) {
        self.raw(b"null");
    }

    pub fn end(mut self) -> Bytes {
        self.0.push(b'}');
        self.0.into()
    }
}

/// Whether `text` is one JSON value.
pub fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_their_order_and_their_digits() {
        let mut object = Object::new();
        object.name("z\"").value("é\n");
        object.name("a").raw(b"12345678901234567890.10");
        object.name("b").bytes(&[0, 255]);
        object.name("n").value(f64::NAN);
        object.name("f").value(0.1_f32);
        let text = object.end();
        assert_eq!(text, r#"{"z\"":"é\n","a":12345678901234567890.10,"b":"AP8=","n":null,"f":0.1}"#);
        assert!(is_json(&text) && !is_json(b"{} {}") && !is_json(b"") && is_json(b" [1] "));
    }
}
