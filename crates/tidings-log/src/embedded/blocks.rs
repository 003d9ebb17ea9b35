//! Reads pieces of segment files through a small cache that all readers share.
//!
//! Owns: the cache and its bound. Never: interprets bytes. A block of the segment being written grows until it
//! is full; a cached block that is too short for a read is read again.

use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const BLOCK: u64 = 64 << 10;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A file to read from, told apart from any other file that had its name.
#[derive(Debug)]
pub struct Source {
    id: u64,
    file: std::sync::Arc<File>,
}

impl Source {
    pub fn new(file: std::sync::Arc<File>) -> Self {
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), file }
    }
}

/// The cache.
pub struct Blocks {
    slots: Mutex<Slots>,
    slots_max: usize,
}

#[derive(Default)]
struct Slots {
    by_place: HashMap<(u64, u64), Slot>,
    /// Counts uses; the slot used longest ago goes first.
    clock: u64,
}

struct Slot {
    bytes: Bytes,
    used: u64,
}

impl Blocks {
    pub fn new(bytes_max: usize) -> Self {
        Self { slots: Mutex::default(), slots_max: (bytes_max / BLOCK as usize).max(1) }
    }

    /// `len` bytes at `at`; `end` is where the file's readable bytes end now.
    pub fn read(&self, source: &Source, at: u64, len: usize, end: u64) -> io::Result<Bytes> {
        if at + len as u64 > end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let block = at / BLOCK;
        let within = (at % BLOCK) as usize;
        if within + len <= BLOCK as usize {
            return Ok(self.block(source, block, within + len, end)?.slice(within..within + len));
        }
        if len > BLOCK as usize {
            let mut out = vec![0; len];
            source.file.read_exact_at(&mut out, at)?;
            return Ok(out.into());
        }
        let first = self.block(source, block, BLOCK as usize, end)?;
        let rest = within + len - BLOCK as usize;
        let second = self.block(source, block + 1, rest, end)?;
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&first[within..]);
        out.extend_from_slice(&second[..rest]);
        Ok(out.into())
    }

    /// Reads one file again and again, mostly forwards.
    pub fn window<'a>(&'a self, source: &'a Source, end: u64) -> Window<'a> {
        Window { blocks: self, source, end, held: None }
    }

    /// A block with at least `len` bytes.
    fn block(&self, source: &Source, block: u64, len: usize, end: u64) -> io::Result<Bytes> {
        let place = (source.id, block);
        if let Some(bytes) = self.cached(place, len) {
            return Ok(bytes);
        }
        let start = block * BLOCK;
        let mut bytes = vec![0; (end - start).min(BLOCK) as usize];
        source.file.read_exact_at(&mut bytes, start)?;
        let bytes = Bytes::from(bytes);
        self.keep(place, bytes.clone());
        Ok(bytes)
    }

    fn cached(&self, place: (u64, u64), len: usize) -> Option<Bytes> {
        let mut slots = self.slots.lock().expect("no panic while holding the lock");
        slots.clock += 1;
        let clock = slots.clock;
        let slot = slots.by_place.get_mut(&place).filter(|slot| slot.bytes.len() >= len)?;
        slot.used = clock;
        Some(slot.bytes.clone())
    }

    fn keep(&self, place: (u64, u64), bytes: Bytes) {
        let mut slots = self.slots.lock().expect("no panic while holding the lock");
        if slots.by_place.len() >= self.slots_max && !slots.by_place.contains_key(&place) {
            let oldest = slots.by_place.iter().min_by_key(|(_, slot)| slot.used).map(|(place, _)| *place);
            oldest.and_then(|place| slots.by_place.remove(&place));
        }
        let used = slots.clock;
        slots.by_place.insert(place, Slot { bytes, used });
    }
}

/// A reader's place in a file: neighbouring reads need no look into the cache.
pub struct Window<'a> {
    blocks: &'a Blocks,
    source: &'a Source,
    /// Where the file's readable bytes end.
    end: u64,
    held: Option<(u64, Bytes)>,
}

impl Window<'_> {
    pub fn read(&mut self, at: u64, len: usize) -> io::Result<Bytes> {
        if let Some((start, bytes)) = &self.held
            && at >= *start
            && (at - start) as usize + len <= bytes.len()
        {
            let from = (at - start) as usize;
            return Ok(bytes.slice(from..from + len));
        }
        let (block, within) = (at / BLOCK, (at % BLOCK) as usize);
        if within + len > BLOCK as usize || at + len as u64 > self.end {
            return self.blocks.read(self.source, at, len, self.end);
        }
        let bytes = self.blocks.block(self.source, block, within + len, self.end)?;
        self.held = Some((block * BLOCK, bytes.clone()));
        Ok(bytes.slice(within..within + len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn reads_cross_blocks_and_see_growth() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let all: Vec<u8> = (0..200_000u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
        file.write_all_at(&all[..70_000], 0).unwrap();
        let source = Source::new(file.clone());
        let blocks = Blocks::new(2 * BLOCK as usize);
        let read = |at: usize, len: usize, end: u64| blocks.read(&source, at as u64, len, end).unwrap();
        assert_eq!(read(65_000, 5_000, 70_000), all[65_000..70_000]);
        assert!(blocks.read(&source, 69_999, 2, 70_000).is_err());
        file.write_all_at(&all[70_000..], 70_000).unwrap();
        assert_eq!(read(69_999, 2, 200_000), all[69_999..70_001]);
        assert_eq!(read(10, 150_000, 200_000), all[10..150_010]);
        for at in (0..190_000).step_by(7_919) {
            assert_eq!(read(at, 300, 200_000), all[at..at + 300]);
        }
        assert!(blocks.slots.lock().unwrap().by_place.len() <= 2);
    }
}
