//! An endpoint's answer as rows: each row is the bytes that the application wrote.

use bytes::Bytes;
use reqwest::header::HeaderValue;
use serde_json::value::RawValue;
use tidings_engine::entities::{Error, Rows};

/// Whether a media type says that each line is a value.
pub fn is_lines(media_type: Option<&HeaderValue>) -> bool {
    let text = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(essence.as_str(), "application/x-ndjson" | "application/ndjson" | "application/jsonl")
}

/// Hands over the rows. Without the media type of lines, several values one after the other are taken for
/// lines all the same, and a single array for its elements.
pub fn rows(body: Bytes, is_lines: bool, out: &Rows) -> Result<(), Error> {
    let mut values = serde_json::Deserializer::from_slice(&body).into_iter::<&RawValue>();
    let invalid = |e: serde_json::Error| Error::Failed(format!("the endpoint's answer is not JSON: {e}"));
    let Some(first) = values.next().transpose().map_err(invalid)? else { return Ok(()) };
    let second = values.next().transpose().map_err(invalid)?;
    if !is_lines && second.is_none() && first.get().starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(first.get()).map_err(invalid)?;
        return elements.into_iter().try_for_each(|row| out.push(slice(&body, row)));
    }
    out.push(slice(&body, first))?;
    if let Some(second) = second {
        out.push(slice(&body, second))?;
    }
    for row in values {
        out.push(slice(&body, row.map_err(invalid)?))?;
    }
    Ok(())
}

/// The row's bytes, shared with the answer it came in.
fn slice(body: &Bytes, row: &RawValue) -> Bytes {
    body.slice_ref(row.get().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, is_lines: bool) -> Result<Vec<String>, Error> {
        let out = Rows::new(100, 1000);
        rows(Bytes::copy_from_slice(text.as_bytes()), is_lines, &out)?;
        let rows = out.finish()?;
        Ok(rows.iter().map(|row| String::from_utf8_lossy(row).into_owned()).collect())
    }

    #[test]
    fn arrays_lines_and_single_values_become_rows_byte_for_byte() {
        assert_eq!(read(r#" [ {"a": 1.00} , 2,[3]] "#, false).unwrap(), [r#"{"a": 1.00}"#, "2", "[3]"]);
        assert_eq!(read("[1]\n[2]\n", true).unwrap(), ["[1]", "[2]"]);
        assert_eq!(read("[1]\n", true).unwrap(), ["[1]"]);
        assert_eq!(read("{}\n{\"b\":1}\r\n\n3", false).unwrap(), ["{}", "{\"b\":1}", "3"]);
        assert_eq!(read(r#"{"a":1}"#, false).unwrap(), [r#"{"a":1}"#]);
        assert!(read("", false).unwrap().is_empty() && read("[]", false).unwrap().is_empty());
        for bad in ["<html>", "{}\n{", "[1", "{\"a\":1}x"] {
            assert!(read(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_media_types_of_lines_are_lines() {
        for (text, expected) in [
            ("application/x-ndjson; charset=utf-8", true),
            ("Application/JSONL", true),
            ("application/json", false),
        ] {
            assert_eq!(is_lines(Some(&HeaderValue::from_str(text).unwrap())), expected, "{text}");
        }
        assert!(!is_lines(None));
    }
}
