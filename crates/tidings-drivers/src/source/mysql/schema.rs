//! What the server's schema says of a table: names, types, keys, character sets.

use super::row::charset::Charset;
use super::row::column::{Column, Form, Kind};
use super::row::fixed::Fixed;
use super::row::input::Malformed;
use super::row::map::{Stored, TableMap, Trait, code};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use std::collections::HashMap;

/// A table as the schema describes it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    pub columns: Vec<Field>,
    pub primary_key: Vec<String>,
}

/// One column of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// `int`, `varchar`, ...
    pub kind: String,
    /// `int(10) unsigned`, `enum('a','b')`, ...
    pub full: String,
    pub charset: Option<String>,
    /// Declared as JSON, which MariaDB keeps as a text with a check.
    pub is_json: bool,
}

/// Which character set each collation of the server belongs to.
pub type Collations = HashMap<u32, Charset>;

/// A table whose rows can be read: its columns, and which of them are the primary key.
#[derive(Debug, PartialEq)]
pub struct Layout {
    pub columns: Vec<Column>,
    pub key: Vec<usize>,
}

/// Why a table's rows cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "the columns of `{0}` were changed while their rows had not been read yet, and the binary log does not \
         name them: set binlog_row_metadata=FULL on the server, and restart the source"
    )]
    Changed(String),
    #[error("column `{0}` has type {1}, which is not known here; leave its table out")]
    Kind(String, u8),
    #[error("column `{0}` is compressed; remove COMPRESSED from it")]
    Compressed(String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Reads one table's description; without columns there is no such table for this user.
pub async fn describe(connection: &mut Conn, schema: &str, table: &str) -> mysql_async::Result<Described> {
    let of_table = (schema, table);
    let checked: Vec<String> = match connection
        .exec(
            "select check_clause from information_schema.check_constraints \
             where constraint_schema = ? and table_name = ?",
            of_table,
        )
        .await
    {
        Ok(clauses) => clauses,
        // MySQL's list of checks does not name their tables, and it needs none: JSON is a type there.
        Err(mysql_async::Error::Server(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let columns = connection
        .exec_map(
            "select column_name, data_type, column_type, character_set_name from information_schema.columns \
             where table_schema = ? and table_name = ? order by ordinal_position",
            of_table,
            |(name, kind, full, charset): (String, String, String, Option<String>)| {
                let check = format!("json_valid(`{}`)", name.replace('`', "``"));
                let is_json = kind == "json" || checked.iter().any(|clause| clause.contains(&check));
                Field { name, kind, full, charset, is_json }
            },
        )
        .await?;
    let primary_key = connection
        .exec(
            "select column_name from information_schema.key_column_usage where table_schema = ? and \
             table_name = ? and constraint_name = 'PRIMARY' order by ordinal_position",
            of_table,
        )
        .await?;
    Ok(Described { columns, primary_key })
}

/// Reads which collation is of which character set.
pub async fn collations(connection: &mut Conn) -> mysql_async::Result<Collations> {
    let queries = [
        // MariaDB since 10.10 has collations without a character set of their own.
        "select id, character_set_name from information_schema.collation_character_set_applicability",
        "select id, character_set_name from information_schema.collations",
    ];
    let mut found = Collations::new();
    for query in queries {
        match connection.query::<(Option<u32>, Option<String>), _>(query).await {
            Ok(rows) => found.extend(
                rows.into_iter().filter_map(|(id, charset)| Some((id?, Charset::of(charset?.as_str())))),
            ),
            Err(mysql_async::Error::Server(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

impl Layout {
    /// Joins what the log says of a table with what the schema says. Names that the log has sent are always right;
    /// without them the schema's are taken where they fit.
    pub fn new(map: &TableMap, described: &Described, collations: &Collations) -> Result<Self, Error> {
        let names: Vec<&str> = match &map.known {
            Some(known) => known.names.iter().map(String::as_str).collect(),
            None => described.columns.iter().map(|field| field.name.as_str()).collect(),
        };
        if names.len() != map.columns.len() {
            return Err(Error::Changed(map.table.clone()));
        }
        let by_name = |name: &str| described.columns.iter().find(|field| field.name == name);
        let mut columns = Vec::with_capacity(names.len());
        for ((stored, known), name) in map.columns.iter().zip(map.traits()).zip(&names) {
            let field = by_name(name);
            if map.known.is_none() && !field.is_some_and(|field| field.fits(stored)) {
                return Err(Error::Changed(map.table.clone()));
            }
            let kind = kind(name, stored, known, field, collations)?;
            columns.push(Column::new((*name).to_owned(), kind));
        }
        let key = match &map.known {
            Some(known) => known.primary_key.clone(),
            None => {
                let place = |name: &String| names.iter().position(|n| n == name);
                described.primary_key.iter().filter_map(place).collect()
            }
        };
        Ok(Self { columns, key })
    }
}

fn kind(
    name: &str,
    stored: &Stored,
    known: Option<Trait<'_>>,
    field: Option<&Field>,
    collations: &Collations,
) -> Result<Kind, Error> {
    let [first, second] = stored.meta;
    let is_unsigned = known.map_or_else(|| field.is_some_and(Field::is_unsigned), |known| known.is_unsigned);
    let integer = |bytes| Kind::Integer { bytes, is_unsigned };
    let charset = match known {
        // What has no collation is no text.
        Some(known) => known
            .collation
            .map_or(Charset::Binary, |id| collations.get(&id).copied().unwrap_or(Charset::Unknown)),
        None => field.and_then(|field| field.charset.as_deref()).map_or(Charset::Binary, Charset::of),
    };
    let form = if field.is_some_and(|field| field.is_json) { Form::Json } else { Form::Plain };
    let text = |prefix, len| match charset {
        Charset::Binary => Kind::Bytes { prefix, len },
        charset => Kind::Text { prefix, charset, form },
    };
    let choices = || -> Vec<String> {
        match known {
            Some(known) => {
                let read = |name: &Vec<u8>| match charset.read(name) {
                    Some(text) => text.into_owned(),
                    None => String::from_utf8_lossy(name).into_owned(),
                };
                known.choices.iter().map(read).collect()
            }
            None => field.map(Field::choices).unwrap_or_default(),
        }
    };
    let prefix = |len: usize| if len > 255 { 2 } else { 1 };
    Ok(match stored.code {
        code::TINY => integer(1),
        code::SHORT => integer(2),
        code::INT24 => integer(3),
        code::LONG => integer(4),
        code::LONGLONG => integer(8),
        code::FLOAT => Kind::Float,
        code::DOUBLE => Kind::Double,
        code::NEWDECIMAL => Kind::Decimal { precision: first, scale: second },
        code::YEAR => Kind::Year,
        code::DATE | code::NEWDATE => Kind::Date,
        code::DATETIME2 => Kind::DateTime(first),
        code::TIMESTAMP2 => Kind::Timestamp(first),
        code::TIME2 => Kind::Time(first),
        code::DATETIME => Kind::OldDateTime,
        code::TIMESTAMP => Kind::OldTimestamp,
        code::TIME => Kind::OldTime,
        code::BIT => Kind::Bit { bytes: second + u8::from(first > 0) },
        code::ENUM => Kind::Enum { bytes: first, names: choices() },
        code::SET => Kind::Set { bytes: first, names: choices() },
        code::VARCHAR | code::VAR_STRING => text(prefix(usize::from(u16::from_le_bytes(stored.meta))), 0),
        code::STRING => match field.and_then(|field| Fixed::of(&field.kind)) {
            Some(fixed) => Kind::Fixed(fixed),
            None => text(prefix(stored.string_bytes()), stored.string_bytes()),
        },
        code::TINY_BLOB..=code::BLOB => text(first, 0),
        code::GEOMETRY | code::VECTOR => Kind::Bytes { prefix: first, len: 0 },
        code::JSON => Kind::Json { prefix: first },
        code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED => {
            return Err(Error::Compressed(name.to_owned()));
        }
        other => return Err(Error::Kind(name.to_owned(), other)),
    })
}

impl Field {
    fn is_unsigned(&self) -> bool {
        self.full.contains(" unsigned")
    }

    /// Whether a column of this description can be stored like that.
    fn fits(&self, stored: &Stored) -> bool {
        let kinds: &[&str] = match stored.code {
            code::TINY => &["tinyint"],
            code::SHORT => &["smallint"],
            code::INT24 => &["mediumint"],
            code::LONG => &["int"],
            code::LONGLONG => &["bigint"],
            code::FLOAT => &["float"],
            code::DOUBLE => &["double"],
            code::NEWDECIMAL => &["decimal"],
            code::YEAR => &["year"],
            code::DATE | code::NEWDATE => &["date"],
            code::DATETIME2 | code::DATETIME => &["datetime"],
            code::TIMESTAMP2 | code::TIMESTAMP => &["timestamp"],
            code::TIME2 | code::TIME => &["time"],
            code::BIT => &["bit"],
            code::ENUM => &["enum"],
            code::SET => &["set"],
            code::VARCHAR | code::VAR_STRING => &["varchar", "varbinary"],
            code::STRING => &["char", "binary", "uuid", "inet6", "inet4"],
            code::TINY_BLOB..=code::BLOB => {
                &["tinyblob", "blob", "mediumblob", "longblob", "tinytext", "text", "mediumtext", "longtext"]
            }
            code::JSON => &["json"],
            code::GEOMETRY => &[
                "geometry",
                "point",
                "linestring",
                "polygon",
                "multipoint",
                "multilinestring",
                "multipolygon",
                "geometrycollection",
                "geomcollection",
            ],
            // A type that says what is wrong with it better than this could.
            _ => return true,
        };
        let digits = match stored.code {
            code::NEWDECIMAL => format!("({},{})", stored.meta[0], stored.meta[1]),
            code::DATETIME2 | code::TIMESTAMP2 | code::TIME2 if stored.meta[0] > 0 => {
                format!("({})", stored.meta[0])
            }
            _ => String::new(),
        };
        kinds.contains(&self.kind.as_str()) && self.full.contains(&digits)
    }

    /// The names in `enum('a','it''s')`.
    pub fn choices(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut rest = self.full.split_once('(').map_or("", |(_, rest)| rest).chars().peekable();
        while let Some(c) = rest.next() {
            if c != '\'' {
                continue;
            }
            let mut name = String::new();
            while let Some(c) = rest.next() {
                match c {
                    '\'' if rest.peek() == Some(&'\'') => name.extend(rest.next()),
                    '\'' => break,
                    c => name.push(c),
                }
            }
            names.push(name);
        }
        names
    }
}

impl Field {
    /// Whether it is neither a text nor of a type whose values have a form of their own: geometry, and blobs.
    pub fn is_bytes(&self) -> bool {
        let others = [
            "bit",
            "year",
            "float",
            "double",
            "tinyint",
            "smallint",
            "mediumint",
            "int",
            "bigint",
            "decimal",
            "date",
            "time",
            "datetime",
            "timestamp",
            "uuid",
            "inet6",
            "inet4",
            "json",
        ];
        self.charset.is_none() && !others.contains(&self.kind.as_str())
    }

    /// Digits of a second that a time keeps.
    pub fn digits(&self) -> u8 {
        let inner = self.full.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
        inner.and_then(|(digits, _)| digits.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(full: &str) -> Field {
        let kind = full.split(['(', ' ']).next().unwrap_or_default().to_owned();
        Field { name: "c".into(), kind, full: full.into(), charset: None, is_json: false }
    }

    #[test]
    fn choices_are_read_from_their_declaration() {
        assert_eq!(field("enum('a','it''s','x,y')").choices(), ["a", "it's", "x,y"]);
        assert_eq!(field("set('é')").choices(), ["é"]);
        assert_eq!((field("timestamp(3)").digits(), field("datetime").digits()), (3, 0));
    }

    #[test]
    fn a_schema_that_does_not_fit_the_log_is_refused() {
        let map = |code, meta| TableMap {
            schema: "s".into(),
            table: "t".into(),
            columns: vec![Stored { code, meta }],
            known: None,
        };
        let described = |full| Described { columns: vec![field(full)], primary_key: vec!["c".into()] };
        let layout = |code, full| Layout::new(&map(code, [0, 0]), &described(full), &Collations::new());
        assert_eq!(layout(code::LONG, "int(11) unsigned").unwrap().key, [0]);
        assert!(matches!(layout(code::LONG, "varchar(5)"), Err(Error::Changed(_))));
        assert!(matches!(layout(code::LONGLONG, "int(11)"), Err(Error::Changed(_))));
        let none = Layout::new(&map(code::LONG, [0, 0]), &Described::default(), &Collations::new());
        assert!(matches!(none, Err(Error::Changed(_))));
    }

    /// What MySQL 8 sends for a table, byte by byte as its format says.
    fn mysql8() -> TableMap {
        let mut bytes = vec![1, 0];
        bytes.extend(b"\x04shop\0\x05items\0\x05");
        bytes.extend([code::LONG, code::VARCHAR, code::JSON, code::STRING, code::STRING]);
        bytes.extend([7, 200, 0, 4, code::ENUM, 1, code::SET, 1]);
        bytes.push(0b1_1110);
        bytes.extend([1, 1, 0b1000_0000]);
        // Collation 255 is utf8mb4_0900_ai_ci, 8 is latin1.
        bytes.extend([2, 3, 252, 255, 0, 10, 1, 8]);
        bytes.extend(
            b"\x04\x11\x02id\x04name\x03doc\x01e\x02se\x05\x06\x02\x02xx\x01y\x06\x05\x02\x01a\x01\xe9",
        );
        bytes.extend([8, 1, 0]);
        TableMap::read(super::super::row::input::Input(&bytes)).unwrap()
    }

    #[test]
    fn full_metadata_of_mysql_8_leave_nothing_to_ask() {
        use super::super::row::image::{Rows, Verb};
        let collations = Collations::from([(255, Charset::Utf8), (8, Charset::of("latin1"))]);
        let layout = Layout::new(&mysql8(), &Described::default(), &collations).unwrap();
        assert_eq!(layout.key, [0]);
        let mut row = vec![5, 0x1f, 0];
        row.extend([255, 255, 255, 255]);
        row.extend("\x03é!".as_bytes());
        row.extend([3, 0, 0, 0, 5, 7, 0, 2, 0b11]);
        let input = super::super::row::input::Input(&row);
        let change = Rows::new(Verb::Insert, &layout.columns, input).unwrap().next().unwrap().unwrap();
        let json = String::from_utf8(change.after.unwrap().json).unwrap();
        assert_eq!(json, r#"{"id":4294967295,"name":"é!","doc":7,"e":"é","se":"xx,y"}"#);
    }
}
