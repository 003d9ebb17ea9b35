//! Frames of Phoenix channels, and the events that are published through them.

use super::{Target, owned, refused, same};
use tidings_model::event_relay::{self, Publish};
use tidings_model::phoenix::{Address, Frame, Join, Version, write};
use tidings_model::{Code, Timestamp};

const DICTIONARY: &[&[u8]] = &[
    b"\"ref\":",
    b"\"join_ref\":",
    b"\"phx_join\"",
    b"\"phoenix\"",
    b"events:",
    b"topic:users:1",
    b"\"token\":",
    b"\"cursor\":",
    b"null,",
    b"1e999",
    b"\"\\ud800\"",
    b"\"eventId\":",
    b"\"data\":\"{}\"",
    b"\"durable\":\"yes\"",
    b"\"userId\":",
    b"\"context\":",
];

pub const CHANNEL: Target = Target {
    name: "channel",
    check: channel,
    seeds: || {
        owned(&[
            r#"["1","1","events:users:123","phx_join",{"token":"x","from":"earliest"}]"#,
            r#"["1",2,"topic:users","phx_join",{"token":null,"cursor":"x","filter":"name == 'a'"}]"#,
            r#"[null,"7","phoenix","heartbeat",{}]"#,
            r#"{"topic":"events:00000000-0000-0000-0000-000000000007","event":"phx_leave","payload":{},"ref":"3"}"#,
            r#"{"topic":"t","event":"e","payload":null,"ref":3,"join_ref":null,"more":[]}"#,
        ])
    },
    dictionary: DICTIONARY,
};

pub const PUBLISHED: Target = Target {
    name: "published",
    check: published,
    seeds: || {
        owned(&[
            r#"{"topic":"users:1","durable":true,"events":[{"name":"a","data":"{\"x\":1}","source":"s"}]}"#,
            r#"{"topic":"users","events":[{"eventId":"04f7f9b0-5b9b-11eb-9e8b-0f1f9b4f4a9c","name":"a","userId":"1",
                "eventOccurredAt":"2020-01-01T00:00:00.000Z","data":{},"context":{}},{"name":7},3]}"#,
            r#"{"topic":"","durable":"no","events":[]}"#,
        ])
    },
    dictionary: DICTIONARY,
};

fn channel(input: &[u8]) -> Result<String, String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok("no text".into()) };
    let mut outcome = String::new();
    for version in [Version::V1, Version::V2] {
        let frame = match Frame::parse(text, version) {
            Ok(frame) => frame,
            Err(error) => {
                outcome += &refused(Code::JsonInvalid, &error)?;
                continue;
            }
        };
        // In the other version it says the same.
        let marks = (frame.join_ref.as_deref(), frame.reference.as_deref());
        for other in [Version::V1, Version::V2] {
            let bytes = write(other, marks, &frame.topic, &frame.event, frame.payload.as_bytes());
            let again = String::from_utf8(bytes).map_err(|e| e.to_string())?;
            let again = Frame::parse(&again, other).map_err(|e| format!("written and not read: {e}"))?;
            same("join_ref", &again.join_ref, &frame.join_ref)?;
            same("ref", &again.reference, &frame.reference)?;
            same("topic", &again.topic, &frame.topic)?;
            same("event", &again.event, &frame.event)?;
            same("payload", again.payload, frame.payload)?;
        }
        outcome += match Address::parse(&frame.topic) {
            None => "no channel ",
            Some(Err(_)) => "no topic ",
            Some(Ok(Address::Destination(_))) => "destination ",
            Some(Ok(Address::Topic(_))) => "topic ",
        };
        outcome += &match Join::parse(frame.payload) {
            Ok(join) => format!("join {} {}", join.token.is_some(), join.says_where),
            Err(error) => refused(Code::ParameterInvalid, &error)?,
        };
    }
    Ok(outcome)
}

fn published(input: &[u8]) -> Result<String, String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok("no text".into()) };
    let call = match Publish::parse(text) {
        Ok(call) => call,
        Err(error) => return refused(error.code(), &error),
    };
    let now = Timestamp::from_millis(1_700_000_000_000).ok_or("a time")?;
    let mut outcome = format!("{}", call.durable);
    for raw in call.events {
        match event_relay::parse(raw.get(), &call.topic, now) {
            Ok(event) => {
                event.check().map_err(|error| format!("taken and yet wrong: {error}"))?;
                same("an object of data", event.data.as_ref().map(|data| data[0]), Some(b'{'))?;
                same("a name", event.name.is_some(), true)?;
                outcome += if event.id.is_some() { " id" } else { " ok" };
            }
            Err(errors) => outcome += &format!(" {}", errors.len()),
        }
    }
    outcome.truncate(80);
    Ok(outcome)
}
