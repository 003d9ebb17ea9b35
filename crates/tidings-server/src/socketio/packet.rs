//! Packets: Engine.IO protocol 4 outside, Socket.IO protocol 5 within its messages. Texts only.
//!
//! Owns: their letters, and cutting a payload of long polling into packets. Never: knows what an event means.
//! No event of ours carries binary data: what is attached to one is passed over, and the event is told apart.

use serde_json::value::RawValue;

/// Stands between the packets of one payload.
pub const SEPARATOR: char = '\u{1e}';
/// Asks the client whether it is there.
pub const PING: &str = "2";
/// The transport closes.
pub const CLOSE: &str = "1";
/// Nothing: ends a poll so that the client can change the transport.
pub const NOOP: &str = "6";
/// The client leaves the namespace, or is put out of it.
pub const DISCONNECT: &str = "41";

const NAMESPACE_BYTES_MAX: usize = 256;

/// What a client's Engine.IO packet is.
#[derive(Debug, PartialEq, Eq)]
pub enum Engine<'a> {
    Close,
    Ping(&'a str),
    Pong,
    Message(&'a str),
    Upgrade,
    /// Binary data, or nothing at all.
    Other,
}

/// No packet of this protocol: the transport is closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Engine<'a> {
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let mut letters = text.chars();
        Ok(match letters.next() {
            Some('1') => Self::Close,
            Some('2') => Self::Ping(letters.as_str()),
            Some('3') => Self::Pong,
            Some('4') => Self::Message(letters.as_str()),
            Some('5') => Self::Upgrade,
            Some('6' | 'b') => Self::Other,
            _ => return Err(Malformed),
        })
    }
}

/// What a client's Socket.IO packet is, in which namespace.
#[derive(Debug)]
pub struct Packet<'a> {
    pub namespace: &'a str,
    pub kind: Kind<'a>,
}

#[derive(Debug)]
pub enum Kind<'a> {
    /// With what the client shows.
    Connect(Option<&'a str>),
    Disconnect,
    /// The event's name and arguments, and the number that an answer repeats.
    Event {
        name: String,
        arguments: Vec<&'a RawValue>,
        ack: Option<u64>,
        /// Some of its data comes apart from it, as bytes.
        is_binary: bool,
    },
    /// Answers, and what nobody listens to.
    Other,
}

impl<'a> Packet<'a> {
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let mut letters = text.chars();
        let letter = letters.next().ok_or(Malformed)?;
        let mut rest = letters.as_str();
        if letter == '6' {
            return Ok(Self { namespace: "/", kind: Kind::Other });
        }
        if letter == '5' {
            // The number of what is attached.
            rest = rest.split_once('-').ok_or(Malformed)?.1;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
            // A query behind it is the client's own business.
            namespace = namespace.split('?').next().unwrap_or(namespace);
            // An answer repeats it.
            if namespace.len() > NAMESPACE_BYTES_MAX {
                return Err(Malformed);
            }
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, body) = rest.split_at(digits);
        let ack = match number {
            "" => None,
            number => Some(number.parse().map_err(|_| Malformed)?),
        };
        let body = Some(body).filter(|body| !body.is_empty());
        let kind = match letter {
            '0' => Kind::Connect(body),
            '1' => Kind::Disconnect,
            '2' | '5' => event(body.ok_or(Malformed)?, ack, letter == '5')?,
            '3' => Kind::Other,
            _ => return Err(Malformed),
        };
        Ok(Self { namespace, kind })
    }
}

fn event(body: &str, ack: Option<u64>, is_binary: bool) -> Result<Kind<'_>, Malformed> {
    let mut arguments: Vec<&RawValue> = serde_json::from_str(body).map_err(|_| Malformed)?;
    if arguments.is_empty() {
        return Err(Malformed);
    }
    // A name may be a number, and nobody listens to one; nor to a text that is none.
    let name = serde_json::from_str(arguments.remove(0).get());
    Ok(name.map_or(Kind::Other, |name| Kind::Event { name, arguments, ack, is_binary }))
}

/// An event of ours with one argument, and the cursor after it as a second one.
pub fn emit(name: &str, argument: &serde_json::Value, cursor: Option<&str>) -> String {
    let name = serde_json::Value::from(name);
    match cursor {
        None => format!("42[{name},{argument}]"),
        Some(cursor) => format!("42[{name},{argument},\"{cursor}\"]"),
    }
}

/// The answer to the client's event `ack`.
pub fn answer(ack: u64, argument: &serde_json::Value) -> String {
    format!("43{ack}[{argument}]")
}

/// The client is in the namespace.
pub fn connected(sid: &str) -> String {
    format!("40{{\"sid\":\"{sid}\"}}")
}

/// There is no such namespace.
pub fn no_namespace(namespace: &str) -> String {
    format!("44{namespace},{{\"message\":\"Invalid namespace\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_into_namespace_number_and_arguments() {
        let parse = |text| Packet::parse(text).unwrap();
        assert!(matches!(parse("0").kind, Kind::Connect(None)));
        assert!(matches!(parse("0{\"token\":\"x\"}").kind, Kind::Connect(Some("{\"token\":\"x\"}"))));
        let admin = parse("0/admin?x=1,{}");
        assert_eq!(admin.namespace, "/admin");
        assert!(matches!(admin.kind, Kind::Connect(Some("{}"))));
        assert!(matches!(parse("1").kind, Kind::Disconnect));
        let Kind::Event { name, arguments, ack, is_binary: false } =
            parse("212[\"a\\\"b\",{\"x\": 1},null]").kind
        else {
            panic!("an event")
        };
        assert_eq!((name.as_str(), arguments.len(), ack), ("a\"b", 2, Some(12)));
        assert_eq!(arguments[0].get(), "{\"x\": 1}");
        assert!(matches!(parse("2[1]").kind, Kind::Other), "a name that nobody listens to");
        let binary = parse("51-/admin,7[\"x\",{\"_placeholder\":true,\"num\":0}]");
        assert!(matches!(binary.kind, Kind::Event { ack: Some(7), is_binary: true, .. }));
        assert_eq!(binary.namespace, "/admin");
        assert!(matches!(parse("61-3[]").kind, Kind::Other));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in ["", "9", "2", "2[]", "2{}", "2[\"a\"", "299999999999999999999[\"a\"]", "51[\"a\"]", "x"]
        {
            assert!(Packet::parse(text).is_err(), "{text}");
        }
        let namespace = |bytes: usize| format!("0/{},", "n".repeat(bytes - 1));
        assert!(Packet::parse(&namespace(256)).is_ok() && Packet::parse(&namespace(257)).is_err());
        assert!(Engine::parse("").is_err() && Engine::parse("9").is_err());
        assert_eq!(Engine::parse("2probe"), Ok(Engine::Ping("probe")));
    }
}
