//! The rows of one fetch, in the order in which they were handed over.
//!
//! Owns: the bound on what one fetch may hold in memory. Never: sends anything; rows go out when the fetch is
//! done, all together, so that rows of another change never come between.

use super::resolver::Error;
use bytes::Bytes;
use std::sync::{Arc, Mutex};

/// Takes in a fetch's rows. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Rows(Arc<Mutex<Kept>>);

struct Kept {
    rows: Vec<Bytes>,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
    /// A row was refused, or the fetch is over.
    is_closed: bool,
    is_over: bool,
}

impl Rows {
    /// Room for `rows_max` rows of `bytes_max` bytes together.
    pub fn new(rows_max: usize, bytes_max: usize) -> Self {
        let rows = Vec::new();
        let kept = Kept { rows, bytes: 0, rows_max, bytes_max, is_closed: false, is_over: false };
        Self(Arc::new(Mutex::new(kept)))
    }

    /// Hands over the next row: a text that becomes one frame. Usually JSON.
    ///
    /// # Errors
    /// When the fetch has more than it may hold, or is over; there is no use in going on then. A fetch that
    /// was refused a row sends nothing at all.
    pub fn push(&self, row: impl Into<Bytes>) -> Result<(), Error> {
        let row = row.into();
        let mut kept = self.0.lock().expect("no panic while holding the lock");
        // Frames are texts, and a client would end the connection over bytes that are none.
        let is_text = std::str::from_utf8(&row).is_ok();
        let has_room = kept.rows.len() < kept.rows_max && row.len() <= kept.bytes_max - kept.bytes;
        if kept.is_closed || !is_text || !has_room {
            kept.is_closed = true;
            return Err(match (kept.is_over, is_text) {
                (true, _) => Error::Failed("the fetch is over".into()),
                (_, false) => Error::Failed("a row is not UTF-8".into()),
                (false, true) => Error::TooLarge { rows_max: kept.rows_max, bytes_max: kept.bytes_max },
            });
        }
        kept.bytes += row.len();
        kept.rows.push(row);
        Ok(())
    }

    /// The end of the fetch: its rows; an error if one was refused, whatever the resolver made of that.
    pub fn finish(&self) -> Result<Vec<Bytes>, Error> {
        let mut kept = self.0.lock().expect("no panic while holding the lock");
        let was_closed = std::mem::replace(&mut kept.is_closed, true);
        kept.is_over = true;
        let rows = std::mem::take(&mut kept.rows);
        if was_closed {
            return Err(Error::TooLarge { rows_max: kept.rows_max, bytes_max: kept.bytes_max });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_holds_no_more_than_it_may_and_then_sends_nothing() {
        let rows = Rows::new(2, 10);
        assert!(rows.push("12345").is_ok() && rows.push("12345").is_ok());
        assert!(matches!(rows.push(""), Err(Error::TooLarge { .. })));
        assert!(rows.finish().is_err());
        let rows = Rows::new(2, 10);
        assert!(rows.push("12345678901").is_err() && rows.finish().is_err());
        let rows = Rows::new(2, 10);
        rows.push("a").unwrap();
        assert_eq!(rows.finish().unwrap(), [Bytes::from("a")]);
        assert!(rows.push("late").is_err());
    }
}
