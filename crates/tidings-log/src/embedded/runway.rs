//! Zeros ahead of a segment's end, so that small groups are written where the file has its length and place already.
//!
//! A sync that brings only data to the disk, and nothing about the file, takes half the time and half the processor.
//! Zeros double what a segment writes; so they are laid only while groups are small, where whole pages and the file
//! system's own journal outweigh them by far. They are no record (see `frame`), and are cut off when the segment or
//! the log is closed; after a crash the next start does it.
//!
//! Owns: when, and how many. Never: touches the file.

/// Laid at once.
const BYTES: usize = 256 << 10;
/// The largest group that counts as small.
const SMALL: usize = 8 << 10;
/// So many small groups in a row come first.
const AFTER: u32 = 8;

/// What lies ahead in the segment that is being written.
#[derive(Debug, Default)]
pub struct Runway {
    /// Where the zeros end.
    until: u64,
    small: u32,
}

impl Runway {
    /// How many to lay behind a group of `len` bytes that ends at `end`, in a segment of `segment_bytes`.
    pub fn wanted(&mut self, len: usize, end: u64, segment_bytes: u64) -> Option<usize> {
        self.small = if len <= SMALL { self.small.saturating_add(1) } else { 0 };
        let room = segment_bytes.saturating_sub(end).min(BYTES as u64);
        (end > self.until && self.small > AFTER && room > 0).then_some(room as usize)
    }

    /// They lie there now.
    pub fn laid(&mut self, until: u64) {
        self.until = until;
    }

    /// The file ends at `end` now.
    pub fn cut(&mut self, end: u64) {
        *self = Self { until: self.until.min(end), small: 0 };
    }

    /// Whether the file goes on behind `end`.
    pub fn is_ahead(&self, end: u64) -> bool {
        self.until > end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_laid_only_while_groups_are_small_and_within_the_segment() {
        let mut runway = Runway::default();
        let mut end = 24;
        let mut laid = vec![];
        for len in std::iter::repeat_n(4_000, 200).chain([9_000]).chain(std::iter::repeat_n(4_000, 40)) {
            end += len as u64;
            if let Some(count) = runway.wanted(len, end, 800_000) {
                laid.push((end, count));
                runway.laid(end + count as u64);
            }
        }
        // The third time there is room for less, and then for none.
        assert_eq!(laid, [(36_024, BYTES), (300_024, BYTES), (564_024, 800_000 - 564_024)]);
        assert!(runway.is_ahead(799_999) && !runway.is_ahead(800_000));
        runway.cut(600_000);
        assert!(!runway.is_ahead(600_000));
        assert_eq!(runway.wanted(4_000, 604_000, 800_000), None, "not before some small groups");
    }

    #[test]
    fn nothing_is_laid_for_large_groups() {
        let mut runway = Runway::default();
        for n in 1..100 {
            let len = if n % 8 == 0 { SMALL + 1 } else { SMALL };
            assert_eq!(runway.wanted(len, n * 10_000, u64::MAX), None);
        }
    }
}
