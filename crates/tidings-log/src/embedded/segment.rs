//! Segments as readers see them: the one being written, and closed ones.
//!
//! Owns: positions of visible events. Never: shows a byte that is not durable.

use super::blocks::Source;
use super::home::{self, Segments};
use super::positions::{Positions, Span, View};
use super::scan::{SegmentBytes, Tail};
use super::sidecar::Sidecar;
use crate::Error;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

/// A segment whose positions are in memory: the one being written, or one that was closed just now.
pub struct Active {
    pub number: u32,
    pub salt: u32,
    pub source: Source,
    /// Where its durable bytes end.
    end: AtomicU64,
    topics: RwLock<Topics>,
}

type Topics = HashMap<u32, Positions, BuildHasherDefault<IdHasher>>;

/// Spreads topic ids, which we give out ourselves one after another.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("topic ids are u32")
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Events of one topic with consecutive offsets, at these places in the active segment.
pub struct Placed<'a> {
    pub topic: u32,
    pub first: u64,
    /// Position and length of each.
    pub at: &'a [(u32, u32)],
    pub time: i64,
}

impl Active {
    pub fn new(number: u32, salt: u32, file: Arc<File>, end: u64, topics: HashMap<u32, Positions>) -> Self {
        let topics = RwLock::new(topics.into_iter().collect());
        Self { number, salt, source: Source::new(file), end: end.into(), topics }
    }

    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Makes what was written and synced up to `end` visible.
    pub fn publish<'a>(&self, end: u64, runs: impl Iterator<Item = Placed<'a>>) {
        let mut topics = self.topics.write().expect("no panic while holding the lock");
        self.end.store(end, Ordering::Release);
        for run in runs {
            let positions = topics.entry(run.topic).or_default();
            for (offset, (at, len)) in (run.first..).zip(run.at) {
                positions.push(offset, *at, *len, run.time);
            }
        }
    }

    pub fn sidecar(&self) -> Sidecar {
        let topics = self.topics.read().expect("no panic while holding the lock");
        Sidecar::new(self.salt, self.end(), topics.iter().map(|(id, positions)| (*id, positions)))
    }
}

/// A closed segment, opened for reading.
pub struct Sealed {
    pub number: u32,
    pub source: Source,
    pub sidecar: Sidecar,
}

impl Sealed {
    /// Opens a closed segment; `None` if it is gone. Makes its sidecar again if that is missing.
    pub fn load(segments: &Segments, number: u32) -> Result<Option<Self>, Error> {
        loop {
            let path = segments.log(number);
            let io = || Error::io(format!("opening {}", path.display()));
            let file = match File::open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                file => file.map_err(io())?,
            };
            let end = file.metadata().map_err(io())?.len();
            let head = read_head(&file).ok_or_else(|| Error::Corrupt {
                path: path.clone(),
                at: 0,
                what: "no segment head".to_owned(),
            })?;
            let fits = |sidecar: &Sidecar| sidecar.salt == head.salt && sidecar.end == end;
            let known = std::fs::read(segments.sidecar(number)).ok();
            let sidecar = match known.and_then(|bytes| Sidecar::decode(&bytes)).filter(fits) {
                Some(sidecar) => sidecar,
                None => match make_sidecar(segments, number) {
                    Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        return Ok(None);
                    }
                    made => made?,
                },
            };
            // Otherwise cleaning has replaced the file meanwhile.
            if fits(&sidecar) {
                return Ok(Some(Self { number, source: Source::new(Arc::new(file)), sidecar }));
            }
        }
    }
}

fn read_head(file: &File) -> Option<super::frame::Head> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; super::frame::HEAD];
    file.read_exact_at(&mut head, 0).ok()?;
    super::frame::Head::decode(&head)
}

/// Builds a closed segment's sidecar from its records.
pub fn make_sidecar(segments: &Segments, number: u32) -> Result<Sidecar, Error> {
    let path = segments.log(number);
    let segment = SegmentBytes::load(&path)?;
    let end = segment.records(0).last().map_or(super::frame::HEAD, |f| f.body.end);
    if segment.tail(end) != Tail::Clean {
        return Err(Error::Corrupt { path, at: end as u64, what: "an invalid record".to_owned() });
    }
    let topics = segment.positions(end);
    let sidecar = Sidecar::new(segment.head.salt, end as u64, topics.iter().map(|(id, p)| (*id, p)));
    let path = segments.sidecar(number);
    home::replace(&path, &sidecar.encode()).map_err(Error::io(format!("writing {}", path.display())))?;
    Ok(sidecar)
}

/// A segment that holds what a reader asked for.
#[derive(Clone)]
pub enum Holder {
    Open(Arc<Active>),
    Sealed(Arc<Sealed>),
}

impl Holder {
    pub fn number(&self) -> u32 {
        match self {
            Self::Open(active) => active.number,
            Self::Sealed(sealed) => sealed.number,
        }
    }

    pub fn source(&self) -> &Source {
        match self {
            Self::Open(active) => &active.source,
            Self::Sealed(sealed) => &sealed.source,
        }
    }

    /// Where its readable bytes end.
    pub fn end(&self) -> u64 {
        match self {
            Self::Open(active) => active.end(),
            Self::Sealed(sealed) => sealed.sidecar.end,
        }
    }

    pub fn view<T>(&self, topic: u32, f: impl FnOnce(View<'_>) -> T) -> T {
        match self {
            Self::Open(active) => {
                let topics = active.topics.read().expect("no panic while holding the lock");
                f(topics.get(&topic).map_or(View { runs: &[], at: &[] }, Positions::view))
            }
            Self::Sealed(sealed) => f(sealed.sidecar.view(topic)),
        }
    }

    pub fn span(&self, topic: u32) -> Span {
        match self {
            Self::Open(active) => {
                let topics = active.topics.read().expect("no panic while holding the lock");
                topics.get(&topic).map_or(Span::default(), |p| p.span)
            }
            Self::Sealed(sealed) => sealed.sidecar.span(topic),
        }
    }

    /// Offsets and positions of the topic's events from `offset` on, at most `max`.
    pub fn from(&self, topic: u32, offset: u64, max: usize) -> Vec<(u64, u32)> {
        self.view(topic, |view| view.from(offset).take(max).collect())
    }
}
