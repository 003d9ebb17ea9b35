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

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as PostgreSQL 15 sent it.
    fn recorded(hex: &str) -> Message {
        decode(bytes(hex)).expect(hex)
    }

    fn bytes(hex: &str) -> Bytes {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>().into()
    }

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    const RELATION: &str = "52000040097075626c69630074006400030169640000000017ffffffff00620000000019ffffffff006e00000006a4ffffffff";
    const KEY_CHANGED: &str = "55000040094b00037400000001316e6e4e00037400000001337400000002c3a96e";

    #[test]
    fn transactions_have_a_beginning_and_an_end() {
        let begin = recorded("4200000000015305e0000303c7cce128a9000002d8");
        let at_micros = 0x0003_03c7_cce1_28a9;
        assert_eq!(begin, Message::Begin { commit: Lsn(0x15305e0), at_micros, xid: 0x2d8 });
        let commit = recorded("430000000000015305e00000000001530610000303c7cce128a9");
        assert_eq!(commit, Message::Commit { end: Lsn(0x1530610) });
    }

    #[test]
    fn relations_name_their_columns_and_types() {
        let Message::Relation(relation) = recorded(RELATION) else { panic!("no relation") };
        assert_eq!((relation.schema.as_str(), relation.name.as_str(), relation.id), ("public", "t", 0x4009));
        let columns: Vec<_> =
            relation.columns.iter().map(|c| (c.name.as_str(), c.type_id, c.is_key)).collect();
        assert_eq!(columns, [("id", 23, true), ("b", 25, false), ("n", 1700, false)]);
    }

    #[test]
    fn rows_are_what_they_were_and_what_they_became() {
        let relation = 0x4009;
        let new = vec![text("1"), text("é"), Value::Null];
        assert_eq!(
            recorded("49000040094e00037400000001317400000002c3a96e"),
            Message::Insert { relation, new }
        );
        let new = vec![text("2"), Value::Unchanged, text("2")];
        let update = recorded("55000040094e000374000000013275740000000132");
        assert_eq!(update, Message::Update { relation, old: Old::Unsaid, new });
        let old = Old::Key(vec![text("1"), Value::Null, Value::Null]);
        let new = vec![text("3"), text("é"), Value::Null];
        assert_eq!(recorded(KEY_CHANGED), Message::Update { relation, old, new });
        let update = recorded("55000040094f00037400000001396e6e4e00037400000001396e740000000131");
        let old = Old::Row(vec![text("9"), Value::Null, Value::Null]);
        assert_eq!(update, Message::Update { relation, old, new: vec![text("9"), Value::Null, text("1")] });
        let old = Old::Key(vec![text("2"), Value::Null, Value::Null]);
        assert_eq!(recorded("44000040094b00037400000001326e6e"), Message::Delete { relation, old });
        assert_eq!(recorded("54000000010000004009"), Message::Truncate { relations: vec![relation] });
    }

    #[test]
    fn what_an_application_says_is_told_from_its_rows() {
        let said = recorded("4d010000000001531c606e65777300000000027b7d");
        let (end, prefix, content) = (Lsn(0x1531c60), "news".to_owned(), Bytes::from_static(b"{}"));
        assert_eq!(said, Message::Said { is_transactional: true, end, prefix, content });
    }

    #[test]
    fn a_message_that_is_cut_or_unknown_is_an_error() {
        for whole in [RELATION, KEY_CHANGED] {
            for length in 0..whole.len() / 2 {
                assert_eq!(decode(bytes(&whole[..2 * length])), Err(Malformed), "{length} bytes");
            }
        }
        assert_eq!(decode(bytes("5a00")), Err(Malformed));
        // A count that no message could hold costs no memory beforehand.
        assert_eq!(decode(bytes("54ffffffff00")), Err(Malformed));
    }
}
