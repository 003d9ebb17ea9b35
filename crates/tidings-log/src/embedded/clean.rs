//! Removes segments in which nothing is kept, and rewrites those in which little is.

use super::catalog::Catalog;
use super::index::Index;
use super::shelf::Shelf;
use super::side::Side;
use crate::Error;
use std::sync::Arc;

/// What cleaning works with.
pub struct Cleaner {
    pub catalog: Arc<Catalog>,
    pub shelf: Arc<Shelf>,
    pub side: Arc<Side>,
    pub index: Arc<Index>,
}

impl Cleaner {
    pub fn clean(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
