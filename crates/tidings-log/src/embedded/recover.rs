//! Finds out, at the start, what the log holds.
//!
//! Owns: cutting a torn end, and zeros that were laid ahead of it, and refusing to open a damaged log. What is closed is taken from the side store;
//! only segments that it does not know yet are read, so a start takes as long with ten events as with ten
//! million. Never: cuts what was acknowledged.

use super::catalog::{Catalog, Ends, Topic};
use super::damage;
use super::entry::Entry;
use super::frame::{HEAD, Head};
use super::home::{self, Segments};
use super::positions::Positions;
use super::scan::{Place, SegmentBytes, Tail, published_ms};
use super::segment::Active;
use super::side::Stored;
use super::writer::create_segment;
use crate::Error;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tidings_model::{Epoch, TopicName};

/// The log as it was found.
pub struct Recovered {
    pub catalog: Catalog,
    /// Segments that the side store does not know; the last is written on, the others want closing.
    pub open: Vec<Arc<Active>>,
    /// Of the last one.
    pub file: Arc<File>,
    /// Where the segment before ended, if the last one does not say so itself yet.
    pub begin: Option<Place>,
    /// Segments that the side store knows but that are gone.
    pub gone: Vec<u32>,
    pub topic_id_max: u32,
    pub last_time: i64,
}

impl Recovered {
    /// Where the log ends.
    pub fn end(&self) -> Place {
        let active = self.open.last().expect("there is always one");
        Place { segment: active.number, at: active.end() }
    }
}

pub fn recover(segments: &Segments, stored: Stored) -> Result<Recovered, Error> {
    segments.remove_temporary()?;
    let mut numbers = segments.list()?;
    check_side(segments, &numbers, &stored)?;
    drop_blank(segments, &mut numbers)?;
    let known: BTreeSet<u32> = stored.segments.iter().copied().collect();
    let unknown: Vec<u32> = numbers.iter().copied().filter(|n| !known.contains(n)).collect();
    let gone = known.iter().copied().filter(|n| numbers.binary_search(n).is_err()).collect();

    let applied = stored.applied;
    let mut found = Found::new(stored);
    let mut open = Vec::new();
    let mut begin = None;
    for number in &unknown {
        let is_last = Some(number) == numbers.last();
        let (active, file) = found.segment(segments, *number, is_last)?;
        if is_last && active.end() == HEAD as u64 {
            begin = before(segments, &numbers, *number)?;
        }
        open.push((Arc::new(active), file));
    }
    if open.is_empty() {
        // Numbers never run backwards, also when cleaning has removed the segments at the end.
        let number = numbers.last().map_or(1, |last| last + 1).max(applied.segment);
        begin = before(segments, &numbers, number)?;
        let (head, file) = create_segment(segments, number)?;
        let active = Active::new(number, head.salt, file.clone(), HEAD as u64, HashMap::new());
        open.push((Arc::new(active), file));
    }
    let (topic_id_max, last_time) = (found.topic_id_max, found.last_time);
    let file = open.last().expect("there is one").1.clone();
    let open: Vec<_> = open.into_iter().map(|(active, _)| active).collect();
    let recovered = Recovered { catalog: found.catalog()?, open, file, begin, gone, topic_id_max, last_time };
    let end = recovered.end();
    // Nothing is lost with a segment that was made and never written.
    if end < applied && applied.at > HEAD as u64 {
        let what = format!(
            "acknowledged records are missing: the log went on to byte {} of segment {}",
            applied.at, applied.segment
        );
        return Err(Error::Corrupt { path: segments.log(end.segment), at: end.at, what });
    }
    Ok(recovered)
}

/// Refuses to go on without what only the side store or only the segments hold.
pub fn check_side(segments: &Segments, numbers: &[u32], stored: &Stored) -> Result<(), Error> {
    let path = segments.log(numbers.first().copied().unwrap_or(1));
    if numbers.is_empty() && stored.applied > Place::default() {
        return Err(Error::Corrupt { path, at: 0, what: "the segments are gone".to_owned() });
    }
    if stored.applied > Place::default() || !stored.segments.is_empty() {
        return Ok(());
    }
    let is_whole = numbers.iter().zip(1..).all(|(number, expected)| {
        *number == expected && read_head(&segments.log(*number)).is_none_or(|head| !head.is_rewritten)
    });
    if is_whole {
        return Ok(());
    }
    let what = "side.db is gone and the segments no longer hold all that was in it; restore it, \
        or let a check with repair rebuild what it can";
    Err(Error::Corrupt { path, at: 0, what: what.to_owned() })
}

/// Removes segments at the end that were made and never written.
fn drop_blank(segments: &Segments, numbers: &mut Vec<u32>) -> Result<(), Error> {
    while let Some(number) = numbers.last().copied() {
        let path = segments.log(number);
        let len = std::fs::metadata(&path).map_err(Error::io(format!("reading {}", path.display())))?.len();
        if len > HEAD as u64 {
            break;
        }
        segments.remove(number).map_err(Error::io(format!("removing {}", path.display())))?;
        numbers.pop();
    }
    Ok(())
}

/// Where the segment before `number` ends.
fn before(segments: &Segments, numbers: &[u32], number: u32) -> Result<Option<Place>, Error> {
    let Some(previous) = numbers.iter().copied().rfind(|n| *n < number) else { return Ok(None) };
    let path = segments.log(previous);
    let len = std::fs::metadata(&path).map_err(Error::io(format!("reading {}", path.display())))?.len();
    Ok(Some(Place { segment: previous, at: len }))
}

fn read_head(path: &Path) -> Option<Head> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; HEAD];
    File::open(path).ok()?.read_exact_at(&mut head, 0).ok()?;
    Head::decode(&head)
}

/// What has been found so far.
struct Found {
    topics: HashMap<u32, (u32, String, Ends)>,
    topic_id_max: u32,
    last_time: i64,
}

impl Found {
    fn new(stored: Stored) -> Self {
        let topic =
            |row: super::side::TopicRow| (row.id, (row.epoch, row.name.as_str().to_owned(), row.ends));
        Self {
            topics: stored.topics.into_iter().map(topic).collect(),
            topic_id_max: stored.topic_id_max,
            last_time: stored.last_time,
        }
    }

    /// Reads a segment; cuts off zeros behind its end, and a torn end off the last one.
    fn segment(
        &mut self,
        segments: &Segments,
        number: u32,
        is_last: bool,
    ) -> Result<(Active, Arc<File>), Error> {
        let path = segments.log(number);
        let segment = SegmentBytes::load(&path)?;
        let mut end = HEAD;
        let mut topics: HashMap<u32, Positions> = HashMap::new();
        for frame in segment.records(HEAD) {
            for entry in segment.entries(&frame) {
                let (at, entry) = entry.map_err(|at| Error::Corrupt {
                    path: path.clone(),
                    at: at as u64,
                    what: "an unknown entry in a valid record".to_owned(),
                })?;
                self.entry(segments, at, entry, &mut topics)?;
            }
            end = frame.body.end;
        }
        let tail = segment.tail(end);
        let damaged = match tail {
            Tail::Damaged { until } => Some(until),
            Tail::Torn if !is_last => Some(segment.bytes.len()),
            _ => None,
        };
        if let Some(until) = damaged {
            let tails =
                self.topics.iter().map(|(id, (_, name, ends))| (*id, (name.clone(), ends.tail))).collect();
            let what = damage::describe(&segment, end, until, &tails);
            return Err(Error::Corrupt { path, at: end as u64, what });
        }
        let io = || Error::io(format!("opening {}", path.display()));
        let file = Arc::new(File::options().read(true).write(true).open(&path).map_err(io())?);
        if tail == Tail::Torn {
            let cut = segment.bytes.len() - end;
            tracing::warn!(segment = number, at = end, bytes = cut, "cut the remains of an unfinished write");
        }
        // That nothing is missing before zeros the next segment tells: see `check_previous`.
        home::cut(&path, end as u64).map_err(io())?;
        Ok((Active::new(number, segment.head.salt, file.clone(), end as u64, topics), file))
    }

    fn entry(
        &mut self,
        segments: &Segments,
        at: usize,
        entry: Entry<'_>,
        positions: &mut HashMap<u32, Positions>,
    ) -> Result<(), Error> {
        match entry {
            Entry::Event(event) => {
                let time = published_ms(event.record);
                self.last_time = self.last_time.max(time);
                positions.entry(event.topic).or_default().push(
                    event.offset,
                    at as u32,
                    event.record.len() as u32,
                    time,
                );
                if let Some((_, _, ends)) = self.topics.get_mut(&event.topic) {
                    ends.tail = ends.tail.max(event.offset);
                }
            }
            Entry::Topic { id, epoch, name } => {
                self.topic_id_max = self.topic_id_max.max(id);
                self.topics.entry(id).or_insert_with(|| (epoch, name.to_owned(), Ends::default()));
            }
            Entry::TopicDropped { id } => drop(self.topics.remove(&id)),
            Entry::Trim { topic, oldest, keep_state } => {
                if let Some((_, _, ends)) = self.topics.get_mut(&topic) {
                    ends.oldest = ends.oldest.max(oldest);
                    ends.state_floor = ends.state_floor.max(if keep_state { 0 } else { oldest });
                }
            }
            Entry::Begin { previous, end } => check_previous(segments, previous, end)?,
            Entry::DuePut { .. }
            | Entry::DueTaken { .. }
            | Entry::Mark { .. }
            | Entry::Registry { .. }
            | Entry::Lost => {}
        }
        Ok(())
    }

    fn catalog(self) -> Result<Catalog, Error> {
        let catalog = Catalog::default();
        for (id, (epoch, name, ends)) in self.topics {
            let name = TopicName::parse_captured(&name)
                .map_err(|e| Error::Store { doing: "reading topics".to_owned(), what: e.to_string() })?;
            catalog.insert(Arc::new(Topic::new(id, Epoch(epoch), name, ends)));
        }
        Ok(catalog)
    }
}

/// The segment before, if cleaning has not changed it, must be as long as it was when it was closed.
fn check_previous(segments: &Segments, previous: u32, end: u64) -> Result<(), Error> {
    let path = segments.log(previous);
    let Ok(file) = std::fs::metadata(&path) else { return Ok(()) };
    if file.len() < end && read_head(&path).is_some_and(|head| !head.is_rewritten) {
        let what = format!("the segment ends here, but went on to byte {end}");
        return Err(Error::Corrupt { path, at: file.len(), what });
    }
    Ok(())
}
