//! Where one topic's events lie within one segment.
//!
//! Offsets are consecutive except where events were cleaned away or lost, so they are kept as runs: a lookup is
//! one search over the runs (nearly always a single one) and an index.

/// Consecutive offsets; they end where the next run's index begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub first: u64,
    /// Of the first offset, in the list of positions.
    pub index: u32,
}

/// A topic's events in a segment that is being written or cleaned.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    runs: Vec<Run>,
    at: Vec<u32>,
    pub span: Span,
}

/// How much of a topic a segment holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Bytes of the events' records.
    pub bytes: u64,
    /// When the first and the last event were published, in milliseconds.
    pub first_time: i64,
    pub last_time: i64,
}

impl Positions {
    /// Adds the event at `offset`, greater than all before; `at` is the position of its entry in the file.
    pub fn push(&mut self, offset: u64, at: u32, len: u32, time: i64) {
        if self.view().last().is_none_or(|last| last + 1 != offset) {
            self.runs.push(Run { first: offset, index: self.at.len() as u32 });
        }
        if self.at.is_empty() {
            self.span.first_time = time;
        }
        self.at.push(at);
        self.span.bytes += u64::from(len);
        self.span.last_time = time;
    }

    pub fn view(&self) -> View<'_> {
        View { runs: &self.runs, at: &self.at }
    }
}

/// A topic's events in a segment, wherever the list is kept.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub runs: &'a [Run],
    pub at: &'a [u32],
}

impl<'a> View<'a> {
    pub fn first(self) -> Option<u64> {
        Some(self.runs.first()?.first)
    }

    pub fn last(self) -> Option<u64> {
        let run = self.runs.last()?;
        Some(run.first + (self.at.len() as u64 - u64::from(run.index)) - 1)
    }

    pub fn get(self, offset: u64) -> Option<u32> {
        self.from(offset).next().filter(|(found, _)| *found == offset).map(|(_, at)| at)
    }

    /// Offsets and positions from `offset` on, over gaps.
    pub fn from(self, offset: u64) -> impl Iterator<Item = (u64, u32)> + 'a {
        let mut run = self.runs.partition_point(|r| r.first <= offset).saturating_sub(1);
        let mut index = match self.runs.get(run) {
            Some(r) if r.first <= offset => {
                u64::from(r.index).saturating_add(offset - r.first).min(self.run_end(run) as u64) as usize
            }
            _ => 0,
        };
        std::iter::from_fn(move || {
            let at = *self.at.get(index)?;
            while index >= self.run_end(run) {
                run += 1;
            }
            let offset = self.runs[run].first + (index as u64 - u64::from(self.runs[run].index));
            index += 1;
            Some((offset, at))
        })
    }

    fn run_end(self, run: usize) -> usize {
        self.runs.get(run + 1).map_or(self.at.len(), |next| next.index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_step_over_gaps() {
        let mut positions = Positions::default();
        for offset in [3, 4, 5, 9, 10, 20] {
            positions.push(offset, offset as u32 * 100, 7, offset as i64);
        }
        let view = positions.view();
        assert_eq!((view.first(), view.last()), (Some(3), Some(20)));
        assert_eq!(view.get(4), Some(400));
        assert_eq!(view.get(6), None);
        assert_eq!(view.get(20), Some(2000));
        assert_eq!(view.get(21), None);
        let from = |offset| view.from(offset).map(|(o, _)| o).collect::<Vec<_>>();
        assert_eq!(from(0), [3, 4, 5, 9, 10, 20]);
        assert_eq!(from(5), [5, 9, 10, 20]);
        assert_eq!(from(6), [9, 10, 20]);
        assert_eq!(from(11), [20]);
        assert!(from(21).is_empty());
        assert_eq!(positions.span, Span { bytes: 42, first_time: 3, last_time: 20 });
        assert_eq!(Positions::default().view().from(1).next(), None);
    }
}
