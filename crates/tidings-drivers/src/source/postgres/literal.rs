//! PostgreSQL's own way to write arrays, `{1,"a b",NULL}`, and rows, `(1,"a b",)`, read into JSON.
//!
//! Never: recurses into dimensions deeper than PostgreSQL has (six); what is no literal is left to the caller.

use super::form::{Form, string};

/// Appends an array; `false`, with nothing appended, if it is none.
pub fn list(text: &str, delimiter: char, element: &Form, out: &mut Vec<u8>) -> bool {
    // Bounds that do not begin at 1 stand before it: `[0:1]={...}`. JSON has no word for them.
    let body = match text.split_once('=') {
        Some((bounds, rest)) if bounds.starts_with('[') => rest,
        _ => text,
    };
    let (start, delimiter) = (out.len(), delimiter as u8);
    let mut reader = Reader { rest: body.as_bytes() };
    let is_read = reader.dimension(delimiter, element, out) && reader.rest.is_empty();
    if !is_read {
        out.truncate(start);
    }
    is_read
}

/// Appends a row; `false`, with nothing appended, if it is none or has other fields.
pub fn composite(text: &str, fields: &[(String, Form)], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut reader = Reader { rest: text.as_bytes() };
    let is_read = reader.row(fields, out) && reader.rest.is_empty();
    if !is_read {
        out.truncate(start);
    }
    is_read
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn dimension(&mut self, delimiter: u8, element: &Form, out: &mut Vec<u8>) -> bool {
        if !self.eat(b'{') {
            return false;
        }
        out.push(b'[');
        if !self.eat(b'}') {
            loop {
                let is_read = match self.rest.first() {
                    Some(b'{') => self.dimension(delimiter, element, out),
                    Some(_) => self.element(delimiter, element, out),
                    None => false,
                };
                if !is_read {
                    return false;
                }
                if self.eat(b'}') {
                    break;
                }
                if !self.eat(delimiter) {
                    return false;
                }
                out.push(b',');
            }
        }
        out.push(b']');
        true
    }

    fn element(&mut self, delimiter: u8, element: &Form, out: &mut Vec<u8>) -> bool {
        let is_quoted = self.rest.first() == Some(&b'"');
        let Some(text) = self.word(&[delimiter, b'}']) else { return false };
        if !is_quoted && text == "NULL" {
            out.extend_from_slice(b"null");
        } else {
            element.write_text(&text, out);
        }
        true
    }

    fn row(&mut self, fields: &[(String, Form)], out: &mut Vec<u8>) -> bool {
        if !self.eat(b'(') {
            return false;
        }
        out.push(b'{');
        for (i, (name, form)) in fields.iter().enumerate() {
            if i > 0 {
                if !self.eat(b',') {
                    return false;
                }
                out.push(b',');
            }
            string(name, out);
            out.push(b':');
            if matches!(self.rest.first(), Some(b',' | b')')) {
                out.extend_from_slice(b"null");
                continue;
            }
            let Some(text) = self.word(b",)") else { return false };
            form.write_text(&text, out);
        }
        out.push(b'}');
        self.eat(b')')
    }

    /// A value up to one of `ends`, without its quotes and backslashes.
    fn word(&mut self, ends: &[u8]) -> Option<String> {
        let (mut text, mut is_quoted) = (Vec::new(), false);
        loop {
            match *self.rest {
                [b'\\', byte, ref rest @ ..] => {
                    text.push(byte);
                    self.rest = rest;
                }
                // Within quotes a row writes one by doubling it.
                [b'"', b'"', ref rest @ ..] if is_quoted => {
                    text.push(b'"');
                    self.rest = rest;
                }
                [b'"', ref rest @ ..] => {
                    is_quoted = !is_quoted;
                    self.rest = rest;
                }
                [byte, ..] if !is_quoted && ends.contains(&byte) => break,
                [byte, ref rest @ ..] => {
                    text.push(byte);
                    self.rest = rest;
                }
                [] => return None,
            }
        }
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn read(text: &str, element: Form) -> Option<String> {
        let mut out = Vec::new();
        list(text, ',', &element, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn arrays_keep_their_elements_and_dimensions() {
        for (text, json) in [
            ("{}", "[]"),
            (r#"{a,"b, \"c\\",NULL,"NULL",""}"#, r#"["a","b, \"c\\",null,"NULL",""]"#),
            ("{{a,b},{c,d}}", r#"[["a","b"],["c","d"]]"#),
            ("[0:1]={a,b}", r#"["a","b"]"#),
        ] {
            assert_eq!(read(text, Form::Text).as_deref(), Some(json), "{text}");
        }
        assert_eq!(read("{1,NaN,2.50}", Form::Number).as_deref(), Some(r#"[1,"NaN",2.50]"#));
        for bad in ["", "1", "{a", "{a}}", "{{a}"] {
            assert_eq!(read(bad, Form::Text), None, "{bad}");
        }
    }

    #[test]
    fn rows_are_objects() {
        let inner = Form::Composite(Arc::new([("x".into(), Form::Number), ("y".into(), Form::Text)]));
        let form = Form::Composite(Arc::new([("a".into(), Form::Text), ("b".into(), inner)]));
        let mut out = Vec::new();
        form.write_text(r#"("say ""hi"", \\","(1,""c d"")")"#, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":"say \"hi\", \\","b":{"x":1,"y":"c d"}}"#);
        let mut out = Vec::new();
        form.write_text("(,)", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":null,"b":null}"#);
    }
}
