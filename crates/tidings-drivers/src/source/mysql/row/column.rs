//! One column: how its bytes are read, and what JSON they become.

use super::charset::Charset;
use super::fixed::Fixed;
use super::input::{Input, Malformed};
use super::{jsonb, moment, number};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A column of a table, as the binary log and the schema describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// The name as JSON writes it before a value.
    pub(super) label: Vec<u8>,
    pub kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Integer {
        bytes: u8,
        is_unsigned: bool,
    },
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Year,
    Date,
    /// With so many digits of a second.
    DateTime(u8),
    Timestamp(u8),
    Time(u8),
    OldDateTime,
    OldTimestamp,
    OldTime,
    Bit {
        bytes: u8,
    },
    /// A number into a list of names, counted from 1.
    Enum {
        bytes: u8,
        names: Vec<String>,
    },
    /// A bit for each name.
    Set {
        bytes: u8,
        names: Vec<String>,
    },
    Text {
        prefix: u8,
        charset: Charset,
        form: Form,
    },
    /// Bytes, filled up to a length with zeros that are not stored.
    Bytes {
        prefix: u8,
        len: usize,
    },
    Fixed(Fixed),
    /// MySQL's own JSON.
    Json {
        prefix: u8,
    },
}

/// What a text is besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    /// A document: MariaDB's JSON is a text that is checked.
    Json,
}

/// Why a value has no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("column `{0}` holds bytes that are no text in its character set")]
    Text(String),
}

impl Column {
    pub fn new(name: String, kind: Kind) -> Self {
        Self { label: label(&name), name, kind }
    }

    /// Reads one value that is not null.
    pub fn write(&self, input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        match &self.kind {
            Kind::Integer { bytes, is_unsigned } => number::integer(input, *bytes, *is_unsigned, out)?,
            Kind::Float => number::float(f32::from_bits(input.little(4)? as u32), out),
            Kind::Double => number::float(f64::from_bits(input.little(8)?), out),
            Kind::Decimal { precision, scale } => number::decimal(input, *precision, *scale, out)?,
            Kind::Year => moment::year(input, out)?,
            Kind::Date => moment::date(input, out)?,
            Kind::DateTime(digits) => moment::datetime(input, *digits, out)?,
            Kind::Timestamp(digits) => moment::timestamp(input, *digits, out)?,
            Kind::Time(digits) => moment::time(input, *digits, out)?,
            Kind::OldDateTime => moment::old_datetime(input, out)?,
            Kind::OldTimestamp => moment::old_timestamp(input, out)?,
            Kind::OldTime => moment::old_time(input, out)?,
            Kind::Bit { bytes } => json(&input.big(usize::from(*bytes))?, out),
            Kind::Enum { bytes, names } => json(enumerated(input.little(usize::from(*bytes))?, names)?, out),
            Kind::Set { bytes, names } => json(&chosen(input.little(usize::from(*bytes))?, names)?, out),
            Kind::Text { prefix, charset, form } => {
                let bytes = input.prefixed(*prefix)?;
                let text = charset.read(bytes).ok_or_else(|| Error::Text(self.name.clone()))?;
                if *form == Form::Json && is_json(&text) {
                    out.extend_from_slice(text.as_bytes());
                } else {
                    json(&*text, out);
                }
            }
            Kind::Bytes { prefix, len } => {
                let bytes = input.prefixed(*prefix)?;
                if bytes.len() < *len {
                    let mut filled = bytes.to_vec();
                    filled.resize(*len, 0);
                    base64(&filled, out);
                } else {
                    base64(bytes, out);
                }
            }
            Kind::Fixed(kind) => kind.write(input.prefixed(1)?, out),
            Kind::Json { prefix } => jsonb::write(input.prefixed(*prefix)?, out)?,
        }
        Ok(())
    }

    /// Passes over one value that is not null.
    pub fn skip(&self, input: &mut Input<'_>) -> Result<(), Malformed> {
        let len = match &self.kind {
            Kind::Text { prefix, .. } | Kind::Bytes { prefix, .. } | Kind::Json { prefix } => {
                return input.prefixed(*prefix).map(|_| ());
            }
            Kind::Fixed(_) => return input.prefixed(1).map(|_| ()),
            Kind::Integer { bytes, .. }
            | Kind::Bit { bytes }
            | Kind::Enum { bytes, .. }
            | Kind::Set { bytes, .. } => usize::from(*bytes),
            Kind::Float | Kind::OldTimestamp => 4,
            Kind::Double | Kind::OldDateTime => 8,
            Kind::Year => 1,
            Kind::Date | Kind::OldTime => 3,
            Kind::DateTime(digits) => 5 + usize::from(digits.div_ceil(2)),
            Kind::Timestamp(digits) => 4 + usize::from(digits.div_ceil(2)),
            Kind::Time(digits) => 3 + usize::from(digits.div_ceil(2)),
            Kind::Decimal { precision, scale } => {
                return number::decimal(input, *precision, *scale, &mut Vec::new());
            }
        };
        input.take(len).map(|_| ())
    }
}

/// A name as JSON writes it before a value.
pub fn label(name: &str) -> Vec<u8> {
    let mut label = Vec::with_capacity(name.len() + 3);
    json(name, &mut label);
    label.push(b':');
    label
}

fn json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a plain value into memory");
}

/// Bytes as text in quotes.
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("as long as it must be");
    out.push(b'"');
}

pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// 0 is what MySQL keeps where a value was none of the names.
fn enumerated(n: u64, names: &[String]) -> Result<&str, Malformed> {
    match n {
        0 => Ok(""),
        n => names.get(n as usize - 1).map(String::as_str).ok_or(Malformed("an enum")),
    }
}

fn chosen(bits: u64, names: &[String]) -> Result<String, Malformed> {
    if names.len() < 64 && bits >> names.len() != 0 {
        return Err(Malformed("a set"));
    }
    let names = names.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1);
    Ok(names.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(","))
}
