//! Verifies a data directory that nobody has open, and repairs what can be repaired.
//!
//! Owns: reading every record once, and setting damaged parts aside. A damaged part is copied to `damaged/` and
//! its place filled, so that everything else keeps its position; who reads its offsets is answered `Trimmed`,
//! with the first offset behind the hole. Never: drops bytes without a copy.

use super::damage::Missing;
use super::entry::{Entry, filler};
use super::frame::{self, FRAME, HEAD};
use super::home::{self, Home, Segments};
use super::news::News;
use super::recover::check_side;
use super::scan::{Place, SegmentBytes, Tail};
use super::segment::make_sidecar;
use super::side::{self, Side};
use super::side_apply;
use super::sidecar::Sidecar;
use crate::Error;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub segments: usize,
    pub topics: usize,
    pub events: u64,
    pub bytes: u64,
    /// The remains of an unfinished write at the end; the next start cuts them. No damage.
    pub torn_bytes: u64,
    pub damage: Vec<Damage>,
    /// Offsets that no segment holds although they were not trimmed.
    pub missing: Vec<Missing>,
    /// Those that an earlier repair has set aside.
    pub lost: Vec<Missing>,
    /// Sidecars that did not fit and were made again.
    pub sidecars_made: usize,
    /// What is wrong with the side store.
    pub side: Option<String>,
    /// Whether damage was set aside and what could be rebuilt was.
    pub is_repaired: bool,
}

/// A stretch of a segment that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub at: u64,
    pub until: u64,
    /// Where a copy of it lies, once repaired.
    pub set_aside: Option<PathBuf>,
}

impl CheckReport {
    /// Whether nothing is wrong that a start would stumble over or that nobody knows of yet.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.missing.is_empty() && self.side.is_none()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, topics, events, bytes, .. } = self;
        writeln!(f, "{events} events of {topics} topics in {segments} segments, {bytes} bytes")?;
        if self.torn_bytes > 0 {
            writeln!(f, "{} bytes of an unfinished write at the end (no damage)", self.torn_bytes)?;
        }
        if self.sidecars_made > 0 {
            writeln!(f, "{} sidecars made again", self.sidecars_made)?;
        }
        for Damage { path, at, until, set_aside } in &self.damage {
            write!(f, "damaged: {} from byte {at} to {until}", path.display())?;
            match set_aside {
                Some(copy) => writeln!(f, ", set aside in {}", copy.display())?,
                None => writeln!(f)?,
            }
        }
        for Missing { topic, first, last, .. } in &self.missing {
            writeln!(f, "missing: topic {topic}, offsets {first} to {last}")?;
        }
        for Missing { topic, first, last, .. } in &self.lost {
            writeln!(f, "set aside by a repair before: topic {topic}, offsets {first} to {last}")?;
        }
        if let Some(what) = &self.side {
            writeln!(f, "side.db: {what}")?;
        }
        match (self.is_sound(), self.is_repaired) {
            (true, _) => write!(f, "sound"),
            (false, true) => write!(f, "repaired; the index is built again at the next start"),
            (false, false) => write!(f, "not sound"),
        }
    }
}

/// Verifies every record of the log in `dir`; with `repair` sets damage aside and rebuilds what can be rebuilt.
///
/// `Err(Locked)` while the log is open.
pub fn check(dir: &Path, repair: bool) -> Result<CheckReport, Error> {
    let home = Home::open(dir)?;
    let segments = home.segments();
    segments.remove_temporary()?;
    let mut report = CheckReport::default();
    let mut db = open_side(&home, repair, &mut report)?;
    let mut walk = Walk {
        report,
        topics: HashMap::new(),
        tails: BTreeMap::new(),
        end: Place::default(),
        blank: Vec::new(),
        since_lost: None,
    };
    if let Some((side, _)) = &db {
        for row in side.stored()?.topics {
            walk.topics.insert(row.id, (row.name.as_str().to_owned(), row.ends.oldest));
        }
    }
    let numbers = segments.list()?;
    let mut changed = HashSet::new();
    for (at, number) in numbers.iter().enumerate() {
        let damage = walk.segment(&segments, *number, numbers.get(at + 1).copied())?;
        if repair && !damage.is_empty() {
            set_aside(&home, *number, damage, &mut walk.report)?;
            changed.insert(*number);
        }
    }
    let Walk { mut report, topics, tails, end, blank, .. } = walk;
    report.topics = tails.keys().filter(|id| topics.contains_key(id)).count();
    let mut known = HashSet::new();
    if let Some((side, _)) = &db {
        let stored = side.stored()?;
        if stored.applied > end && stored.applied.at > HEAD as u64 {
            let Place { segment, at } = stored.applied;
            report.side = Some(format!("the log went on to byte {at} of segment {segment}"));
        }
        known.extend(stored.segments);
    }
    for number in &numbers {
        let is_closed = known.contains(number) && segments.log(*number).exists();
        if is_closed
            && !sidecar_fits(&segments, *number)
            && (repair || !is_damaged(&report, &segments, *number))
        {
            make_sidecar(&segments, *number)?;
            report.sidecars_made += 1;
            changed.insert(*number);
        }
    }
    if repair && !report.is_sound() {
        for Place { segment, at } in blank {
            home::cut(&segments.log(segment), at).map_err(Error::io("cutting zeros off a segment"))?;
        }
        let (_, db) = db.as_mut().expect("a repair opens or makes the side store");
        rebuild(db, &home, &known, &changed, &tails)?;
        report.is_repaired = true;
    }
    Ok(report)
}

/// The side store, or `None` if it cannot be used. With `repair` a broken one is set aside and made anew.
fn open_side(
    home: &Home,
    repair: bool,
    report: &mut CheckReport,
) -> Result<Option<(Side, Connection)>, Error> {
    let path = home.side();
    let opened = Side::open(&path, 1).and_then(|(side, db)| {
        let verdict: String = db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(side::failed("checking the side store"))?;
        if verdict == "ok" {
            Ok((side, db))
        } else {
            Err(Error::Store { doing: "checking".into(), what: verdict })
        }
    });
    match opened {
        Ok((side, db)) => {
            let segments = home.segments();
            if let Err(e) = check_side(&segments, &segments.list()?, &side.stored()?) {
                report.side = Some(e.to_string());
            }
            Ok(Some((side, db)))
        }
        Err(e) => {
            report.side = Some(e.to_string());
            if !repair {
                return Ok(None);
            }
            let io = || Error::io("setting the side store aside");
            std::fs::create_dir_all(home.damaged()).map_err(io())?;
            std::fs::rename(&path, home.damaged().join("side.db")).map_err(io())?;
            for rest in ["side.db-wal", "side.db-shm"] {
                let _ = std::fs::rename(path.with_file_name(rest), home.damaged().join(rest));
            }
            Side::open(&path, 1).map(Some)
        }
    }
}

/// One pass over all segments.
struct Walk {
    report: CheckReport,
    /// Name and oldest offset of each topic, by id.
    topics: HashMap<u32, (String, u64)>,
    /// First and last offset seen of each topic.
    tails: BTreeMap<u32, (u64, u64)>,
    /// Where the last valid record ends.
    end: Place,
    /// Where zeros that were laid ahead begin.
    blank: Vec<Place>,
    /// Topics with an event behind the last entry that says that something is lost, if there is one.
    since_lost: Option<HashSet<u32>>,
}

impl Walk {
    /// Verifies one segment and answers its damaged stretches.
    fn segment(
        &mut self,
        segments: &Segments,
        number: u32,
        next: Option<u32>,
    ) -> Result<Vec<(usize, usize)>, Error> {
        let is_last = next.is_none();
        let path = segments.log(number);
        self.report.segments += 1;
        let segment = match SegmentBytes::load(&path) {
            Ok(segment) => segment,
            Err(Error::Corrupt { .. }) => {
                let len = std::fs::metadata(&path).map_or(0, |m| m.len());
                if !is_last || len > HEAD as u64 {
                    self.damaged(&path, 0, len);
                    return Ok(vec![(0, len as usize)]);
                }
                return Ok(Vec::new());
            }
            Err(e) => return Err(e),
        };
        self.report.bytes += segment.len();
        let mut stretches = Vec::new();
        let mut at = HEAD;
        loop {
            at = self.records(&segment, at);
            match segment.tail(at) {
                Tail::Clean => break,
                Tail::Blank if ends_here(segments, next, Place { segment: number, at: at as u64 }) => {
                    self.report.bytes -= segment.len() - at as u64;
                    self.blank.push(Place { segment: number, at: at as u64 });
                    break;
                }
                Tail::Torn if is_last => {
                    self.report.torn_bytes = segment.len() - at as u64;
                    break;
                }
                _ => {
                    let mut until = segment.next_record(at);
                    while until.is_some_and(|until| until - at <= FRAME) {
                        until = until.and_then(|until| segment.next_record(until));
                    }
                    let until = until.unwrap_or(segment.bytes.len());
                    self.damaged(&path, at as u64, until as u64);
                    stretches.push((at, until));
                    at = until;
                }
            }
        }
        Ok(stretches)
    }

    fn damaged(&mut self, path: &Path, at: u64, until: u64) {
        self.report.damage.push(Damage { path: path.to_owned(), at, until, set_aside: None });
    }

    /// Verifies the valid records from `from` on, and answers where they end.
    fn records(&mut self, segment: &SegmentBytes, from: usize) -> usize {
        let mut end = from;
        for frame in segment.records(from) {
            for (_, entry) in segment.entries(&frame).flatten() {
                match entry {
                    Entry::Topic { id, name, .. } => {
                        self.topics.entry(id).or_insert_with(|| (name.to_owned(), 1));
                    }
                    Entry::TopicDropped { id } => {
                        self.topics.remove(&id);
                        self.report.missing.retain(|m| m.id != id);
                        self.report.lost.retain(|m| m.id != id);
                    }
                    Entry::Trim { topic, oldest, .. } => {
                        if let Some((_, known)) = self.topics.get_mut(&topic) {
                            *known = oldest.max(*known);
                        }
                    }
                    Entry::Event(event) => self.event(event.topic, event.offset),
                    Entry::Lost => self.since_lost = Some(HashSet::new()),
                    _ => {}
                }
            }
            end = frame.body.end;
            self.end = Place { segment: segment.head.number, at: end as u64 };
        }
        end
    }

    fn event(&mut self, id: u32, offset: u64) {
        self.report.events += 1;
        let seen = self.tails.entry(id).or_insert((offset, offset));
        if let Some((topic, oldest)) = self.topics.get(&id) {
            let expected = if *seen == (offset, offset) { *oldest } else { (seen.1 + 1).max(*oldest) };
            if expected < offset {
                let is_known = self.since_lost.as_ref().is_some_and(|topics| !topics.contains(&id));
                let list = if is_known { &mut self.report.lost } else { &mut self.report.missing };
                list.push(Missing { id, topic: topic.clone(), first: expected, last: offset - 1 });
            }
        }
        if let Some(topics) = &mut self.since_lost {
            topics.insert(id);
        }
        seen.1 = offset;
    }
}

/// Whether nothing is missing before the zeros at `end`: the next segment says where this one ended.
fn ends_here(segments: &Segments, next: Option<u32>, end: Place) -> bool {
    let Some(next) = next else { return true };
    let Ok(next) = SegmentBytes::load(&segments.log(next)) else { return false };
    let Some(first) = next.records(HEAD).next() else { return true };
    let entry = next.entries(&first).next();
    matches!(entry, Some(Ok((_, Entry::Begin { previous, end: at }))) if (Place { segment: previous, at }) == end)
}

fn is_damaged(report: &CheckReport, segments: &Segments, number: u32) -> bool {
    let path = segments.log(number);
    report.damage.iter().any(|damage| damage.path == path)
}

fn sidecar_fits(segments: &Segments, number: u32) -> bool {
    let Ok(segment) = SegmentBytes::load(&segments.log(number)) else { return true };
    let end = segment.bytes.len();
    let positions = segment.positions(end);
    let expected = Sidecar::new(segment.head.salt, end as u64, positions.iter().map(|(id, p)| (*id, p)));
    let found = std::fs::read(segments.sidecar(number)).ok().and_then(|bytes| Sidecar::decode(&bytes));
    found == Some(expected)
}

/// Copies damaged stretches to a place of their own and fills theirs with a record that says so.
fn set_aside(
    home: &Home,
    number: u32,
    stretches: Vec<(usize, usize)>,
    report: &mut CheckReport,
) -> Result<(), Error> {
    let path = home.segments().log(number);
    let io = || Error::io(format!("repairing {}", path.display()));
    let mut bytes = std::fs::read(&path).map_err(io())?;
    std::fs::create_dir_all(home.damaged()).map_err(io())?;
    for (at, until) in stretches.iter().rev() {
        let copy = home.damaged().join(format!("{number:010}-{at}-{until}.bin"));
        home::replace(&copy, &bytes[*at..*until]).map_err(io())?;
        for damage in &mut report.damage {
            if damage.path == path && damage.at == *at as u64 {
                damage.set_aside = Some(copy.clone());
            }
        }
    }
    home::sync_dir(&home.damaged()).map_err(io())?;
    let segments = home.segments();
    if stretches[0].0 == 0 {
        // Not even a head: nothing in it can be read.
        return segments.remove(number).and_then(|()| segments.sync()).map_err(io());
    }
    let salt = SegmentBytes::load(&path)?.head.salt;
    for (at, until) in stretches {
        match until - at {
            // Too short for a record: only possible at the end of the file.
            0..=FRAME => bytes.truncate(at),
            len => {
                let mut fill = Vec::with_capacity(len);
                frame::begin(&mut fill);
                filler(&mut fill, len - FRAME);
                frame::seal(&mut fill, 0, 0, salt);
                bytes[at..until].copy_from_slice(&fill);
            }
        }
    }
    home::replace(&path, &bytes).and_then(|()| segments.sync()).map_err(io())
}

/// Brings the side store in line with the segments as they are now, and lets go of the index.
fn rebuild(
    db: &mut Connection,
    home: &Home,
    known: &HashSet<u32>,
    changed: &HashSet<u32>,
    tails: &BTreeMap<u32, (u64, u64)>,
) -> Result<(), Error> {
    let segments = home.segments();
    let numbers = segments.list()?;
    let mut news: Vec<News> =
        known.iter().filter(|n| !numbers.contains(n)).map(|n| News::Removed { number: *n }).collect();
    // A side store that was made anew learns of all closed segments.
    let closed = &numbers[..numbers.len().saturating_sub(1)];
    let unknown = closed.iter().filter(|_| known.is_empty());
    for number in numbers.iter().filter(|n| known.contains(n) && changed.contains(n)).chain(unknown) {
        let sidecar = Arc::new(make_sidecar(&segments, *number)?);
        news.push(News::Rewritten { number: *number, sidecar });
    }
    side_apply::apply(db, &segments, &news)?;
    let mut end = Place::default();
    if let Some(last) = numbers.last()
        && let Ok(segment) = SegmentBytes::load(&segments.log(*last))
    {
        let at = segment.records(HEAD).last().map_or(HEAD, |f| f.body.end);
        end = Place { segment: *last, at: at as u64 };
    }
    side_apply::end_at(db, &segments, end, tails)?;
    match std::fs::remove_dir_all(home.index()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing the index")(e)),
        _ => Ok(()),
    }
}
