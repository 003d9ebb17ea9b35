//! An entity's rows as one fetch found them.
//!
//! Owns: the bytes, and their encodings, each made once and shared by every reader. Never: changes.

use bytes::Bytes;
use std::sync::OnceLock;
use tidings_model::EntityKey;

use crate::Format;

/// The rows of one fetch, in order.
pub struct Snapshot {
    pub key: EntityKey,
    pub rows: Vec<Bytes>,
    encoded: [OnceLock<Bytes>; Format::COUNT],
}

impl Snapshot {
    pub fn new(key: EntityKey, rows: Vec<Bytes>) -> Self {
        Self { key, rows, encoded: Default::default() }
    }

    /// All rows together in `format`, made by `encode` the first time.
    pub fn encoded(&self, format: Format, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encoded[format.0].get_or_init(|| encode(self))
    }

    /// What it takes in memory, with one encoding.
    pub(crate) fn weight(&self) -> usize {
        let row = |r: &Bytes| 2 * r.len() + 64;
        256 + self.rows.iter().map(row).sum::<usize>()
    }
}
