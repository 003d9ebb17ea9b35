//! Messages of the output plugin `pgoutput`, protocol version 1.
//!
//! Owns: their bytes. Values stay where they lie. Never: knows what a table is called here, or what a value means.

use super::lsn::Lsn;
use bytes::{Buf as _, Bytes};

/// One message.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// A transaction begins that was committed at `commit`.
    Begin {
        commit: Lsn,
        at_micros: i64,
        xid: u32,
    },
    /// It ends; what follows lies after `end`.
    Commit {
        end: Lsn,
    },
    /// What changes of `id` look like from here on.
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Old,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// What `pg_logical_emit_message` said; its record ends at `end`.
    Said {
        is_transactional: bool,
        end: Lsn,
        prefix: String,
        content: Bytes,
    },
    /// Nothing that concerns us: types, origins.
    Other,
}

/// A table as a transaction sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub id: u32,
    pub schema: String,
    pub name: String,
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_id: u32,
    /// Belongs to what identifies a row.
    pub is_key: bool,
}

/// What a row was before.
#[derive(Debug, PartialEq)]
pub enum Old {
    /// Its key has not changed, and nothing else is known.
    Unsaid,
    /// Only what identifies it; the rest is null.
    Key(Tuple),
    Row(Tuple),
}

/// The values of a row in the order of its columns.
pub type Tuple = Vec<Value>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    /// A large value that was not touched and therefore not repeated.
    Unchanged,
    Text(Bytes),
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL sent a message that pgoutput does not have")]
pub struct Malformed;

/// Reads one message.
pub fn decode(bytes: Bytes) -> Result<Message, Malformed> {
    let mut rest = Rest(bytes);
    Ok(match rest.u8()? {
        b'B' => Message::Begin { commit: Lsn(rest.u64()?), at_micros: rest.u64()? as i64, xid: rest.u32()? },
        b'C' => {
            rest.u8()?;
            rest.u64()?;
            Message::Commit { end: Lsn(rest.u64()?) }
        }
        b'R' => Message::Relation(rest.relation()?),
        b'I' => {
            let relation = rest.u32()?;
            rest.expect(b'N')?;
            Message::Insert { relation, new: rest.tuple()? }
        }
        b'U' => {
            let relation = rest.u32()?;
            let old = match rest.u8()? {
                b'N' => return Ok(Message::Update { relation, old: Old::Unsaid, new: rest.tuple()? }),
                kind => rest.old(kind)?,
            };
            rest.expect(b'N')?;
            Message::Update { relation, old, new: rest.tuple()? }
        }
        b'D' => {
            let relation = rest.u32()?;
            let kind = rest.u8()?;
            Message::Delete { relation, old: rest.old(kind)? }
        }
        b'T' => {
            let count = rest.u32()?;
            rest.u8()?;
            Message::Truncate { relations: (0..count).map(|_| rest.u32()).collect::<Result<_, _>>()? }
        }
        b'M' => {
            let is_transactional = rest.u8()? & 1 == 1;
            let (end, prefix, length) = (Lsn(rest.u64()?), rest.text()?, rest.u32()?);
            Message::Said { is_transactional, end, prefix, content: rest.bytes(length as usize)? }
        }
        b'Y' | b'O' => Message::Other,
        _ => return Err(Malformed),
    })
}

struct Rest(Bytes);

impl Rest {
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| Malformed)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.u8()? == byte { Ok(()) } else { Err(Malformed) }
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if self.0.len() < length { Err(Malformed) } else { Ok(self.0.split_to(length)) }
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.into()).map_err(|_| Malformed)
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let (id, schema, name) = (self.u32()?, self.text()?, self.text()?);
        self.u8()?; // what identifies a row; the columns say it too
        let count = self.u16()?;
        let mut columns = Vec::with_capacity(count.into());
        for _ in 0..count {
            let is_key = self.u8()? & 1 == 1;
            columns.push(Column { is_key, name: self.text()?, type_id: self.u32()? });
            self.u32()?; // modifier
        }
        let schema = if schema.is_empty() { "pg_catalog".into() } else { schema };
        Ok(Relation { id, schema, name, columns })
    }

    fn old(&mut self, kind: u8) -> Result<Old, Malformed> {
        match kind {
            b'K' => Ok(Old::Key(self.tuple()?)),
            b'O' => Ok(Old::Row(self.tuple()?)),
            _ => Err(Malformed),
        }
    }

    fn tuple(&mut self) -> Result<Tuple, Malformed> {
        let count = self.u16()?;
        let mut values = Vec::with_capacity(count.into());
        for _ in 0..count {
            values.push(match self.u8()? {
                b'n' => Value::Null,
                b'u' => Value::Unchanged,
                b't' => {
                    let length = self.u32()?;
                    Value::Text(self.bytes(length as usize)?)
                }
                _ => return Err(Malformed),
            });
        }
        Ok(values)
    }
}
