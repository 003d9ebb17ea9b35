//! A table as the binary log describes it in front of its rows.
//!
//! With `binlog_row_metadata=FULL` the names, character sets, signs and the primary key are in it too; without,
//! they come from the schema, which is asked for elsewhere.

use super::input::{Input, Malformed};

/// The server's numbers for types of columns.
pub mod code {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// A column without its name: the type it is stored as, and the two bytes that say more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub code: u8,
    pub meta: [u8; 2],
}

/// What the log says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMap {
    pub schema: String,
    pub table: String,
    pub columns: Vec<Stored>,
    /// What only full metadata has.
    pub known: Option<Known>,
}

/// What full metadata says, column by column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// As bytes: names are UTF-8.
    pub names: Vec<String>,
    /// Whether a number has no sign; in the order of columns that are numbers.
    unsigned: Vec<bool>,
    /// Numbers of collations, of columns that hold text, and of enums and sets.
    texts: Collations,
    choices: Collations,
    enums: Vec<Vec<Vec<u8>>>,
    sets: Vec<Vec<Vec<u8>>>,
    pub primary_key: Vec<usize>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Collations {
    usual: Option<u32>,
    /// By place among the columns concerned.
    others: Vec<(usize, u32)>,
}

/// What full metadata says of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trait<'a> {
    pub is_unsigned: bool,
    pub collation: Option<u32>,
    pub choices: &'a [Vec<u8>],
}

impl Stored {
    fn read(code: u8, meta: &mut Input<'_>) -> Result<Self, Malformed> {
        let bytes = match code {
            code::FLOAT
            | code::DOUBLE
            | code::TIMESTAMP2
            | code::DATETIME2
            | code::TIME2
            | code::BLOB_COMPRESSED
            | code::VECTOR
            | code::JSON
            | code::TINY_BLOB..=code::BLOB
            | code::GEOMETRY => 1,
            code::VARCHAR
            | code::VARCHAR_COMPRESSED
            | code::BIT
            | code::NEWDECIMAL
            | code::ENUM
            | code::SET
            | code::VAR_STRING
            | code::STRING => 2,
            _ => 0,
        };
        let mut two = [0; 2];
        two[..bytes].copy_from_slice(meta.take(bytes)?);
        Ok(Self { code, meta: two }.unfolded())
    }

    /// Enums and sets are sent as strings whose metadata begin with the real type.
    fn unfolded(self) -> Self {
        match self {
            Self { code: code::STRING, meta: [real @ (code::ENUM | code::SET), bytes] } => {
                Self { code: real, meta: [bytes, 0] }
            }
            other => other,
        }
    }

    /// The length of a string of fixed length, in bytes: two bits of it are folded into the type.
    pub fn string_bytes(&self) -> usize {
        match self.meta {
            [first, low] if first & 0x30 != 0x30 => usize::from(low) | usize::from(first & 0x30 ^ 0x30) << 4,
            [_, low] => usize::from(low),
        }
    }

    fn is_number(&self) -> bool {
        matches!(
            self.code,
            code::TINY
                | code::SHORT
                | code::INT24
                | code::LONG
                | code::LONGLONG
                | code::NEWDECIMAL
                | code::FLOAT
                | code::DOUBLE
        )
    }

    fn is_text(&self) -> bool {
        matches!(
            self.code,
            code::STRING
                | code::VAR_STRING
                | code::VARCHAR
                | code::VARCHAR_COMPRESSED
                | code::BLOB_COMPRESSED
                | code::TINY_BLOB..=code::BLOB
        )
    }
}

impl TableMap {
    /// The table's number comes first; it has been read.
    pub fn read(mut input: Input<'_>) -> Result<Self, Malformed> {
        input.take(2)?;
        let schema = name(&mut input)?;
        let table = name(&mut input)?;
        let count = input.length()?;
        let codes = input.take(count)?;
        let mut meta = Input(input.packed()?);
        let columns =
            codes.iter().map(|code| Stored::read(*code, &mut meta)).collect::<Result<Vec<_>, _>>()?;
        input.take(count.div_ceil(8))?;
        let known = Known::read(input, count)?;
        Ok(Self { schema, table, columns, known })
    }

    /// What full metadata say of each column, in the order of the columns.
    pub fn traits(&self) -> Vec<Option<Trait<'_>>> {
        let Some(known) = &self.known else { return vec![None; self.columns.len()] };
        let (mut number, mut text, mut choice, mut enums, mut sets) = (0, 0, 0, 0, 0);
        let next = |n: &mut usize| {
            *n += 1;
            *n - 1
        };
        let of = |stored: &Stored| {
            let mut found = Trait { is_unsigned: false, collation: None, choices: &[] };
            if stored.is_number() {
                found.is_unsigned = known.unsigned.get(next(&mut number)).copied().unwrap_or_default();
            }
            if stored.is_text() {
                found.collation = known.texts.of(next(&mut text));
            }
            let names = match stored.code {
                code::ENUM => known.enums.get(next(&mut enums)),
                code::SET => known.sets.get(next(&mut sets)),
                _ => None,
            };
            if matches!(stored.code, code::ENUM | code::SET) {
                found.collation = known.choices.of(next(&mut choice));
            }
            found.choices = names.map(Vec::as_slice).unwrap_or_default();
            Some(found)
        };
        self.columns.iter().map(of).collect()
    }
}

impl Known {
    /// `None` where the names are not sent.
    fn read(mut input: Input<'_>, columns: usize) -> Result<Option<Self>, Malformed> {
        let mut known = Self::default();
        while !input.is_empty() {
            let field = input.byte()?;
            let mut value = Input(input.packed()?);
            match field {
                1 => {
                    let bits = value.0.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1 == 1));
                    known.unsigned = bits.collect();
                }
                2 => known.texts = Collations::usual(value)?,
                3 => known.texts = Collations::each(value)?,
                4 => {
                    while !value.is_empty() {
                        known.names.push(text(value.packed()?)?);
                    }
                }
                5 => known.sets = choices(value)?,
                6 => known.enums = choices(value)?,
                8 => {
                    while !value.is_empty() {
                        known.primary_key.push(value.length()?);
                    }
                }
                9 => {
                    while !value.is_empty() {
                        known.primary_key.push(value.length()?);
                        value.length()?;
                    }
                }
                10 => known.choices = Collations::usual(value)?,
                11 => known.choices = Collations::each(value)?,
                _ => {}
            }
        }
        if known.primary_key.iter().any(|n| *n >= columns) {
            return Err(Malformed("a primary key"));
        }
        match known.names.len() {
            0 => Ok(None),
            n if n == columns => Ok(Some(known)),
            _ => Err(Malformed("the names of columns")),
        }
    }
}

impl Collations {
    fn usual(mut input: Input<'_>) -> Result<Self, Malformed> {
        let usual = Some(input.length()? as u32);
        let mut others = Vec::new();
        while !input.is_empty() {
            others.push((input.length()?, input.length()? as u32));
        }
        Ok(Self { usual, others })
    }

    fn each(mut input: Input<'_>) -> Result<Self, Malformed> {
        let mut others = Vec::new();
        while !input.is_empty() {
            others.push((others.len(), input.length()? as u32));
        }
        Ok(Self { usual: None, others })
    }

    fn of(&self, place: usize) -> Option<u32> {
        self.others.iter().find(|(n, _)| *n == place).map(|(_, collation)| *collation).or(self.usual)
    }
}

fn choices(mut input: Input<'_>) -> Result<Vec<Vec<Vec<u8>>>, Malformed> {
    let mut all = Vec::new();
    while !input.is_empty() {
        let count = input.length()?;
        let names = (0..count).map(|_| Ok(input.packed()?.to_vec())).collect::<Result<_, Malformed>>()?;
        all.push(names);
    }
    Ok(all)
}

/// A name after its length, with a zero at its end.
fn name(input: &mut Input<'_>) -> Result<String, Malformed> {
    let len = input.byte()?;
    let name = text(input.take(usize::from(len))?)?;
    input.take(1)?;
    Ok(name)
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed("a name"))
}
