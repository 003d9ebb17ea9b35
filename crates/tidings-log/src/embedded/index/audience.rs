//! Finding events by the user they concern.
//!
//! Keyspace `audience`: (topic, 0) -> the run; (topic, 1, offset) for events that everyone sees, (topic, 2, length
//! of the id, id, offset) for each user that one is told to; the value says whether that user sees the row as it
//! is now, and the event's key. Only events that are routed are here: those of the *run* lie side by side, so that
//! for them the index says all; what lies before or after is read from the segments as it is.

use super::super::news::Told;
use super::changes::last_u64;
use super::{Index, StateAt, failed};
use crate::Error;
use std::collections::HashMap;
use std::iter::once;
use tidings_model::Routing;

const RUN: u8 = 0;
const EVERYONE: u8 = 1;
const USER: u8 = 2;

/// Offsets side by side whose events are all routed; the newest such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub since: u64,
    pub last: u64,
}

impl Run {
    pub fn of(offset: u64) -> Self {
        Self { since: offset, last: offset }
    }

    /// The newest run once `next` has followed.
    pub fn then(self, next: Self) -> Self {
        if next.since <= self.last + 1 && next.last >= self.since {
            Self { since: self.since.min(next.since), last: self.last.max(next.last) }
        } else if next.last > self.last {
            next
        } else {
            self
        }
    }

    pub fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.since.to_be_bytes());
        out[8..].copy_from_slice(&self.last.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let since = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        Some(Self { since, last: u64::from_be_bytes(bytes.get(8..)?.try_into().ok()?) })
    }
}

pub(super) fn run_key(topic: u32) -> Vec<u8> {
    prefix(topic, RUN)
}

fn prefix(topic: u32, kind: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.extend_from_slice(&topic.to_be_bytes());
    out.push(kind);
    out
}

fn everyone_key(topic: u32, offset: u64) -> Vec<u8> {
    let mut out = prefix(topic, EVERYONE);
    out.extend_from_slice(&offset.to_be_bytes());
    out
}

/// An id with its length before it: none is another's prefix.
fn user_key(topic: u32, user: &[u8], offset: u64) -> Vec<u8> {
    let mut out = prefix(topic, USER);
    out.push(user.len() as u8);
    out.extend_from_slice(user);
    out.extend_from_slice(&offset.to_be_bytes());
    out
}

/// What the index holds of a routed event.
pub(super) fn entries(
    topic: u32,
    offset: u64,
    routing: Routing<'_>,
    key: Option<&str>,
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let value = move |sees: bool| once(u8::from(sees)).chain(key.unwrap_or_default().bytes()).collect();
    let everyone = routing.is_everyones().then(|| (everyone_key(topic, offset), value(true)));
    let users = routing.users().map(move |(id, sees)| (user_key(topic, id, offset), value(sees)));
    everyone.into_iter().chain(users)
}

/// Where that lies.
pub(super) fn keys(topic: u32, offset: u64, told: &Told) -> impl Iterator<Item = Vec<u8>> {
    let everyone = told.is_everyone.then(|| everyone_key(topic, offset));
    everyone.into_iter().chain(told.users.iter().map(move |id| user_key(topic, id, offset)))
}

/// An event that concerns a user.
struct Concern {
    offset: u64,
    sees: bool,
    key: Box<[u8]>,
}

impl Index {
    /// Since where every event of the topic is found by user, and up to where.
    pub fn run(&self, topic: u32) -> Result<Option<Run>, Error> {
        self.store()?.run(topic)
    }

    /// Offsets within the run of the events that concern `user`, from `from` on, ascending.
    pub fn audience(
        &self,
        topic: u32,
        user: Option<&str>,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<u64, Error>> + use<>, Error> {
        Ok(self.concerns(topic, user, from)?.map(|found| found.map(|concern| concern.offset)))
    }

    fn concerns(
        &self,
        topic: u32,
        user: Option<&str>,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<Concern, Error>> + use<>, Error> {
        let store = self.store()?;
        let scan = |from: Vec<u8>, to: Vec<u8>| {
            store.audience.range(from..=to).map(|guard| {
                let (key, value) = guard.into_inner().map_err(failed("looking up an audience"))?;
                let (sees, own) = value.split_first().map_or((false, &[][..]), |(s, own)| (*s != 0, own));
                Ok(Concern { offset: last_u64(&key), sees, key: own.into() })
            })
        };
        let everyone = scan(everyone_key(topic, from), everyone_key(topic, u64::MAX));
        // An id that is too long is in no audience.
        let user = user.map(str::as_bytes).filter(|id| id.len() <= usize::from(u8::MAX));
        let own = user.map(|id| scan(user_key(topic, id, from), user_key(topic, id, u64::MAX)));
        Ok(merged(everyone, own.into_iter().flatten()))
    }

    /// State of a whole topic as far as it concerns `user`: of routed events only that user's and everyone's, of
    /// others all. `tail` is the topic's, and applied.
    pub fn state_of(&self, topic: u32, user: Option<&str>, tail: u64) -> Result<StateAt, Error> {
        let run = self.run(topic)?;
        let mut state = match run {
            Some(run) if run.since <= 1 && run.last >= tail => {
                let newest = self.store()?.marks(topic).unwrap_or_default().newest;
                StateAt { offsets: Vec::new(), newest }
            }
            _ => self.state_where(topic, |is_routed| !is_routed)?,
        };
        let mut newest: HashMap<Box<[u8]>, (u64, bool)> = HashMap::new();
        for concern in self.concerns(topic, user, 1)? {
            let Concern { offset, sees, key } = concern?;
            newest.insert(key, (offset, sees));
        }
        newest.remove(&[][..]);
        for (key, (offset, sees)) in newest {
            let is_newest = || -> Result<bool, Error> {
                let key = std::str::from_utf8(&key).unwrap_or_default();
                Ok(self.newest(topic, key)? == Some(offset))
            };
            if sees && is_newest()? {
                state.offsets.push(offset);
            }
        }
        state.offsets.sort_unstable();
        Ok(state)
    }
}

/// Both in the order of their offsets.
fn merged(
    one: impl Iterator<Item = Result<Concern, Error>>,
    other: impl Iterator<Item = Result<Concern, Error>>,
) -> impl Iterator<Item = Result<Concern, Error>> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(Ok(a)), Some(Ok(b))) if b.offset < a.offset => other.next(),
        (None, _) | (_, Some(Err(_))) => other.next(),
        _ => one.next(),
    })
}
