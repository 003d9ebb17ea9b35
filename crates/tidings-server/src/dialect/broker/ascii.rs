//! JSON in one line of ASCII: what Broker's own client, which reads bytes as Latin-1, cannot take wrongly.

use std::io::Write as _;

/// Appends valid JSON without the blanks between its parts that would end a line, and with every character
/// beyond ASCII written as `\uXXXX`.
pub fn json(out: &mut Vec<u8>, json: &str) {
    // Whole, not up to the first that differs: that is several bytes at a time.
    if json.bytes().fold(true, |is_plain, b| is_plain & (0x20..0x7f).contains(&b)) {
        return out.extend_from_slice(json.as_bytes());
    }
    for c in json.chars() {
        match c {
            // Only between the parts: within a string it would not be JSON.
            '\0'..'\x20' => {}
            '\x20'..'\x7f' => out.push(c as u8),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("memory");
                }
            }
        }
    }
}

/// Appends `text` as a JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().fold(true, |is, b| is & (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\')) {
        // Ids and most names: as they are.
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    json(out, &serde_json::to_string(text).expect("a string into memory"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn it_is_one_line_of_ascii_and_means_the_same() {
        for text in ["{\n\t\"é\" : \"中 😀 \\n \u{7f}\",\r\n\"a\":[1, 2.50]}", "{}", "\"paid: yes, id: 5\""]
        {
            let mut out = Vec::new();
            json(&mut out, text);
            assert!(out.iter().all(|b| (0x20..0x7f).contains(b)), "{text}");
            let (before, after): (Value, Value) =
                (text.parse().unwrap(), serde_json::from_slice(&out).unwrap());
            assert_eq!(before, after);
        }
        for text in ["", "plain", "a \"b\"", "back\\slash", "é\n", "\u{7f}"] {
            let mut out = Vec::new();
            string(&mut out, text);
            assert!(out.iter().all(|b| (0x20..0x7f).contains(b)), "{text}");
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
