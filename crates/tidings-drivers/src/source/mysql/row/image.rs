//! Rows of one event: which columns are there, which are null, and each row as a JSON object.

use super::column::{Column, Error};
use super::input::{Input, Malformed};
use std::ops::Range;

/// A row as JSON, and where each column's value lies in it. A column that was not sent has no place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub json: Vec<u8>,
    cells: Vec<Option<Range<u32>>>,
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Insert,
    Update,
    Delete,
}

/// One row that changed. An insert has no row before, a delete none after.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    pub before: Option<Row>,
    pub after: Option<Row>,
}

/// The rows of one event.
pub struct Rows<'a> {
    verb: Verb,
    columns: &'a [Column],
    before: Bits<'a>,
    after: Bits<'a>,
    input: Input<'a>,
}

/// A bit for each column, the first in the lowest.
#[derive(Debug, Clone, Copy)]
struct Bits<'a>(&'a [u8]);

impl Bits<'_> {
    fn has(&self, n: usize) -> bool {
        self.0.get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 == 1)
    }

    fn count(&self, columns: usize) -> usize {
        (0..columns).filter(|n| self.has(*n)).count()
    }
}

impl<'a> Rows<'a> {
    /// `input` stands behind the table's number and the flags; `columns` are the table's own, all of them.
    pub fn new(verb: Verb, columns: &'a [Column], mut input: Input<'a>) -> Result<Self, Malformed> {
        if input.length()? != columns.len() {
            return Err(Malformed("the number of columns"));
        }
        let bytes = columns.len().div_ceil(8);
        let first = Bits(input.take(bytes)?);
        let (before, after) = match verb {
            Verb::Insert => (Bits(&[]), first),
            Verb::Delete => (first, Bits(&[])),
            Verb::Update => (first, Bits(input.take(bytes)?)),
        };
        Ok(Self { verb, columns, before, after, input })
    }

    /// The next row that changed.
    pub fn next(&mut self) -> Result<Option<RowChange>, Error> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let before = match self.verb {
            Verb::Insert => None,
            Verb::Update | Verb::Delete => Some(Row::read(self.columns, self.before, &mut self.input)?),
        };
        let after = match self.verb {
            Verb::Delete => None,
            Verb::Insert | Verb::Update => Some(Row::read(self.columns, self.after, &mut self.input)?),
        };
        // What an image leaves out has not changed.
        let after = match (after, &before) {
            (Some(after), Some(before)) if after.cells.contains(&None) => {
                Some(after.filled(before, self.columns))
            }
            (after, _) => after,
        };
        Ok(Some(RowChange { before, after }))
    }

    /// Passes over the next row.
    pub fn skip(&mut self) -> Result<bool, Malformed> {
        if self.input.is_empty() {
            return Ok(false);
        }
        let images = match self.verb {
            Verb::Insert => [None, Some(self.after)],
            Verb::Delete => [Some(self.before), None],
            Verb::Update => [Some(self.before), Some(self.after)],
        };
        for present in images.into_iter().flatten() {
            let nulls = Bits(self.input.take(present.count(self.columns.len()).div_ceil(8))?);
            let sent = self.columns.iter().enumerate().filter(|(n, _)| present.has(*n));
            for (n, (_, column)) in sent.enumerate() {
                if !nulls.has(n) {
                    column.skip(&mut self.input)?;
                }
            }
        }
        Ok(true)
    }
}

impl Row {
    fn read(columns: &[Column], present: Bits<'_>, input: &mut Input<'_>) -> Result<Self, Error> {
        let nulls = Bits(input.take(present.count(columns.len()).div_ceil(8))?);
        let mut row = Self::with_room(columns.len(), 64 + 16 * columns.len());
        let mut sent = 0;
        for (n, column) in columns.iter().enumerate() {
            if !present.has(n) {
                row.cells.push(None);
                continue;
            }
            let start = row.label(&column.label);
            if nulls.has(sent) {
                row.json.extend_from_slice(b"null");
            } else {
                column.write(input, &mut row.json)?;
            }
            row.place(start);
            sent += 1;
        }
        row.json.push(b'}');
        Ok(row)
    }

    /// A row of values that somebody else writes, each after its column's label.
    pub fn build(labels: &[Vec<u8>], mut write: impl FnMut(usize, &mut Vec<u8>)) -> Self {
        let mut row = Self::with_room(labels.len(), 64 + 16 * labels.len());
        for (n, label) in labels.iter().enumerate() {
            let start = row.label(label);
            write(n, &mut row.json);
            row.place(start);
        }
        row.json.push(b'}');
        row
    }

    /// JSON that somebody else has written, of whatever form.
    pub fn whole(json: Vec<u8>) -> Self {
        Self { json, cells: Vec::new() }
    }

    /// The same row, known to lack columns.
    pub fn cut(mut self) -> Self {
        self.cells.push(None);
        self
    }

    /// The row's JSON without some of its columns.
    pub fn without(
        &self,
        columns: usize,
        is_left_out: &dyn Fn(usize) -> bool,
        label: &dyn Fn(usize) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut row = Self::with_room(0, 256);
        for n in (0..columns).filter(|n| !is_left_out(*n)) {
            if let Some(value) = self.cell(n) {
                row.label(&label(n));
                row.json.extend_from_slice(value);
            }
        }
        row.json.push(b'}');
        row.json
    }

    /// How many columns it has.
    pub fn count(&self) -> usize {
        self.cells.len()
    }

    /// The JSON of one column's value, if it was sent.
    pub fn cell(&self, column: usize) -> Option<&[u8]> {
        let range = self.cells.get(column)?.clone()?;
        self.json.get(range.start as usize..range.end as usize)
    }

    /// Whether every column was sent.
    pub fn is_whole(&self) -> bool {
        !self.cells.contains(&None)
    }

    fn filled(&self, before: &Self, columns: &[Column]) -> Self {
        let mut row = Self::with_room(columns.len(), self.json.len() + before.json.len());
        for (n, column) in columns.iter().enumerate() {
            match self.cell(n).or_else(|| before.cell(n)) {
                None => row.cells.push(None),
                Some(value) => {
                    let start = row.label(&column.label);
                    row.json.extend_from_slice(value);
                    row.place(start);
                }
            }
        }
        row.json.push(b'}');
        row
    }

    fn with_room(columns: usize, bytes: usize) -> Self {
        let mut json = Vec::with_capacity(bytes);
        json.push(b'{');
        Self { json, cells: Vec::with_capacity(columns) }
    }

    fn label(&mut self, label: &[u8]) -> usize {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        self.json.extend_from_slice(label);
        self.json.len()
    }

    fn place(&mut self, start: usize) {
        self.cells.push(Some(start as u32..self.json.len() as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::super::column::Kind;
    use super::*;

    fn columns() -> Vec<Column> {
        let integer = |name: &str| Column::new(name.into(), Kind::Integer { bytes: 1, is_unsigned: false });
        vec![integer("id"), integer("a"), integer("b")]
    }

    fn text(row: Option<&Row>) -> &str {
        row.map_or("", |row| std::str::from_utf8(&row.json).unwrap())
    }

    #[test]
    fn an_update_has_both_rows_and_nulls() {
        let columns = columns();
        let bytes = [3, 0b111, 0b111, 0b100, 1, 2, 0, 1, 3, 4];
        let mut rows = Rows::new(Verb::Update, &columns, Input(&bytes)).unwrap();
        let change = rows.next().unwrap().unwrap();
        assert_eq!(text(change.before.as_ref()), r#"{"id":1,"a":2,"b":null}"#);
        assert_eq!(text(change.after.as_ref()), r#"{"id":1,"a":3,"b":4}"#);
        assert_eq!(change.after.unwrap().cell(2), Some(&b"4"[..]));
        assert_eq!(rows.next().unwrap(), None);
        let mut again = Rows::new(Verb::Update, &columns, Input(&bytes)).unwrap();
        assert!(again.skip().unwrap() && !again.skip().unwrap());
    }

    #[test]
    fn what_a_smaller_image_leaves_out_is_taken_from_the_row_before() {
        let columns = columns();
        let bytes = [3, 0b001, 0b010, 0, 1, 0, 9];
        let change = Rows::new(Verb::Update, &columns, Input(&bytes)).unwrap().next().unwrap().unwrap();
        assert_eq!(text(change.after.as_ref()), r#"{"id":1,"a":9}"#);
        assert!(!change.after.unwrap().is_whole());
    }

    #[test]
    fn bytes_that_end_too_early_are_refused() {
        let columns = columns();
        for len in 0..10 {
            let bytes = [3, 0b111, 0b111, 0b100, 1, 2, 0, 1, 3, 4];
            let done = Rows::new(Verb::Update, &columns, Input(&bytes[..len])).map(|mut rows| rows.next());
            assert!(matches!(done, Err(_) | Ok(Err(_)) | Ok(Ok(None))), "{len}");
        }
    }
}
