//! Texts that name a place: topics with grants, cursors with `from`, filters.

use super::{Target, owned, refused, same};
use tidings_model::{Code, Cursor, Filter, From, Grant, Timestamp, Topic};

pub const TOPIC: Target = Target {
    name: "topic",
    check: topic,
    seeds: || owned(&["users", "users:123", "public.orders:7,8", "$schedule", "*", "é:ü", "a:b:c", " x "]),
    dictionary: &[b":", b"*", b"$", b"%", b"\xc2\xa0", b"\xe2\x80\xa8"],
};

fn topic(input: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(input);
    let parsed = Topic::parse(&text);
    same("a second parse", Topic::parse(&text), parsed.clone())?;
    let topic = match parsed {
        Ok(topic) => topic,
        Err(error) => return refused(Code::TopicInvalid, &error),
    };
    same("the printed topic", Topic::parse(&topic.to_string()), Ok(topic.clone()))?;
    same("the printed text", topic.to_string().as_str(), &*text)?;
    let grant = Grant::parse(&text).map_err(|e| format!("a topic but no grant: {e}"))?;
    same("covering itself", grant.covers(&topic), true)?;
    same("all but the system's", Grant::All.covers(&topic), !topic.name.is_system())?;
    let whole = Topic::whole(topic.name.clone());
    same("covering the whole", grant.covers(&whole), topic.key.is_none())?;
    Ok(format!("{} {}", topic.key.is_some(), topic.name.is_system()))
}

pub const CURSOR: Target = Target {
    name: "cursor",
    check: cursor,
    seeds: || {
        let one = "AQAHAAAALAR1c2Vycw"; // epoch 7, offset 44, "user" and a byte too many
        owned(&[
            "latest",
            "earliest",
            "state",
            "2026-01-31T12:00:00.5+02:00",
            "AQ",
            one,
            "AQEBAAAA____________AQF0",
        ])
        .into_iter()
        .chain([Cursor::default().to_string().into_bytes(), two_topics().into_bytes()])
        .collect()
    },
    dictionary: &[
        b"AQ",
        b"AQA",
        b"____",
        b"gICAgICA",
        b"latest",
        b"9999-12-31T23:59:59.999Z",
        b"-0001",
        b"+23:59",
    ],
};

fn two_topics() -> String {
    use tidings_model::{Epoch, Offset, Position, TopicName};
    let position = |name: &str, offset, in_state| Position {
        topic: TopicName::parse(name).expect("a name"),
        epoch: Epoch(0x0102_0304),
        offset: Offset(offset),
        in_state,
    };
    Cursor { positions: vec![position("users", u64::MAX, false), position("é", 300, true)] }.to_string()
}

fn cursor(input: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(input);
    let from = From::parse(&text);
    same("a second parse", From::parse(&text), from.clone())?;
    match (Cursor::parse(&text), &from) {
        (Ok(own), Ok(From::Cursor(same_cursor))) => same("both ways in", &own, same_cursor)?,
        (Err(_), Ok(From::Cursor(_))) => return Err("a cursor only in `from`".into()),
        _ => {}
    }
    match from {
        Ok(From::Cursor(cursor)) => {
            same("the printed cursor", Cursor::parse(&cursor.to_string()), Ok(cursor.clone()))?;
            for position in &cursor.positions {
                let found = cursor.position(&position.topic).ok_or("a position that is not found")?;
                same("the topic of a position", &found.topic, &position.topic)?;
            }
            Ok(format!("cursor {}", cursor.positions.len()))
        }
        Ok(From::Time(at)) => {
            same("the printed time", Timestamp::parse(&at.to_string()), Ok(at))?;
            Ok(format!("time {}", at.as_millis() % 1000 == 0))
        }
        Ok(word) => Ok(format!("{word:?}")),
        Err(error) => refused(Code::CursorInvalid, &error),
    }
}

pub const FILTER: Target = Target {
    name: "filter",
    check: filter,
    seeds: || owned(&["", "paid", "order.*,paid", "*", "a,,b", "a*b", "é*"]),
    dictionary: &[b",", b"*", b",*", b".*,", b"a,a,a,a,a,a,a,a,"],
};

fn filter(input: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(input);
    let parsed = Filter::parse_names(&text);
    same("a second parse", Filter::parse_names(&text), parsed.clone())?;
    let filter = match parsed {
        Ok(filter) => filter,
        Err(error) => return refused(Code::FilterInvalid, &error),
    };
    same("an empty filter", filter.is_empty(), text.is_empty())?;
    let names = text.split(',').filter(|_| !text.is_empty());
    let count = names.clone().count();
    if count > Filter::NAMES_MAX {
        return Err(format!("{count} names were taken"));
    }
    for name in names {
        let begun = name.strip_suffix('*').unwrap_or(name);
        same("a name of its own", filter.matches_parts(None, Some(begun)), true)?;
        if name.ends_with('*') {
            same("what a name begins", filter.matches_parts(None, Some(&format!("{begun}x"))), true)?;
        }
    }
    same("no name", filter.matches_parts(None, None), text.is_empty())?;
    Ok(format!("{count}"))
}
