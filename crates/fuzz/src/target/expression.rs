//! Filter expressions, over the data of an event.

use super::{Target, owned, refused, same};
use tidings_model::{Epoch, Event, Filter, NewEvent, Offset, RecordWriter, Topic, Uuid};

pub const EXPRESSION: Target = Target {
    name: "expression",
    check: expression,
    // The expression, and after a line break the data.
    seeds: || {
        owned(&[
            "name == 'a'",
            "data.a.b[0]['c d'] >= -1.5e3 and not (key in [a, 'b', 3] or data contains \"x\")\n{\"a\":1}",
            "data.at > '2026-01-31'::DATE or data.at == '2026-01-31T12:00:00Z'::DATETIME\n{\"at\":\"2026-02-01\"}",
            "NOT NOT data[1] == null OR data starts_with '\\u00e9\\n'\n[1,\"\\ud800\",{\"a\":[]}]",
            "context.a == true AND offset < 18446744073709551616 and verified != false",
            "data.a.a == 1 or data.a == 2\n{\"a\":{\"a\":1},\"a\":2}",
            "((((((((((((((((((((((((((((((((((",
        ])
    },
    dictionary: &[
        b"(",
        b")",
        b" and ",
        b" or ",
        b"not ",
        b"data",
        b".a",
        b"['a']",
        b"[0]",
        b" in [",
        b" contains ",
        b" starts_with ",
        b"::DATE",
        b"::DATETIME",
        b"'2026-01-31'",
        b"null",
        b"9007199254740993",
        b"1e-999999999999",
        b"\\ud83d\\ude00",
        b"\n",
        b"{\"a\":",
    ],
};

fn expression(input: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(input);
    let (text, data) = text.split_once('\n').unwrap_or((&text, "null"));
    let parsed = Filter::parse(text);
    same("a second parse", Filter::parse(text), parsed.clone())?;
    let filter = match parsed {
        Ok(filter) => filter,
        Err(error) => {
            let end = text.chars().count() + 1;
            if error.at().is_some_and(|at| at == 0 || at > end) {
                return Err(format!("{error} lies outside of the {end} characters"));
            }
            return refused(error.code(), &error);
        }
    };
    same("an expression is no empty filter", filter.is_empty(), false)?;
    let event = event(data)?;
    let is_match = filter.matches(&event);
    let printed = filter.expression().ok_or("an expression that is not printed")?;
    if printed.len() <= Filter::EXPRESSION_BYTES_MAX {
        let again = Filter::parse(&printed).map_err(|e| format!("printed as {printed}: {e}"))?;
        same("the printed expression", &again, &filter)?;
        same("printing again", again.expression().as_deref(), Some(&*printed))?;
    }
    if let Ok(opposite) = Filter::parse(&format!("not ({text})")) {
        same("the opposite", opposite.matches(&event), !is_match)?;
    }
    if let Ok(either) = Filter::parse(&format!("({text}) or not ({text})")) {
        same("one or the other", either.matches(&event), true)?;
    }
    Ok(format!("{is_match} {}", printed.len() / 16))
}

/// An event with `data`, or without where that is no JSON.
fn event(data: &str) -> Result<Event, String> {
    let topic = Topic::parse("t:k").map_err(|e| e.to_string())?;
    let json = format!("{{\"name\":\"a\",\"verified\":true,\"context\":{{\"a\":true}},\"data\":{data}}}");
    let new = NewEvent::parse(json.as_bytes(), &topic).or_else(|_| NewEvent::parse(b"{}", &topic));
    let new = new.map_err(|e| e.to_string())?;
    let bytes = RecordWriter::encode(&new, Uuid::from_u128(1));
    Event::new(topic.name, Epoch(1), Offset(1), bytes.into()).map_err(|e| e.to_string())
}
