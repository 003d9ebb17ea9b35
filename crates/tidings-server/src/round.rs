//! One round of the fan: what many readers are given alike is found out, and put into bytes, once.
//!
//! Owns: the newest stretch and its bytes in each style that was asked for. Never: writes, or knows a connection.

use crate::conn::{BACKLOG_BYTES_MAX, Style};
use crate::wire;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tidings_engine::{Entry, Stretch, Subscription, Track};

/// What readers at one place were given so far.
#[derive(Default)]
pub struct Round {
    stretch: Option<Stretch>,
    /// Who stands here goes step by step: readers differ in what they may get, it is too much for one write, or there
    /// is nothing.
    apart: Option<Track>,
    news: Vec<(Style, News)>,
}

/// What a reader is sent.
pub struct News {
    pub bytes: Bytes,
    /// Events.
    pub count: u64,
}

impl Round {
    /// What the reader of `subscription`, who stands at `track` or else where the subscription says, is sent next, and
    /// where it stands then. `None` if it has to go step by step.
    pub fn news(
        &mut self,
        track: Option<Track>,
        subscription: &Subscription,
        style: Style,
    ) -> Option<(&News, Track)> {
        if !matches!(style, Style::Ws | Style::Sse { is_single: true, .. }) {
            return None;
        }
        let from = track.or_else(|| subscription.track())?;
        if self.stretch.as_ref().is_none_or(|stretch| stretch.from != from) {
            if self.apart == Some(from) {
                return None;
            }
            let Some(stretch) = subscription.stretch(from) else {
                self.apart = Some(from);
                return None;
            };
            self.stretch = Some(stretch);
            self.news.clear();
        }
        let stretch = self.stretch.as_ref()?;
        let known = self.news.iter().position(|(own, _)| *own == style);
        let at = match known {
            Some(at) => at,
            None => {
                let Some(bytes) = encode(&stretch.entries, style) else {
                    // Found out once, like everything else here.
                    (self.apart, self.stretch) = (Some(from), None);
                    return None;
                };
                self.news.push((style, News { bytes, count: stretch.entries.len() as u64 }));
                self.news.len() - 1
            }
        };
        Some((&self.news[at].1, stretch.to))
    }
}

/// The bytes of all entries; `None` if they are more than one write should hold.
fn encode(entries: &[Arc<Entry>], style: Style) -> Option<Bytes> {
    let one = |entry| match style {
        Style::Sse { framing, .. } => wire::sse(entry, framing),
        _ => wire::ws(entry),
    };
    if let [entry] = entries {
        return Some(one(entry)).filter(|bytes| bytes.len() <= BACKLOG_BYTES_MAX);
    }
    let mut all = BytesMut::new();
    for entry in entries {
        all.extend_from_slice(&one(entry));
        if all.len() > BACKLOG_BYTES_MAX {
            return None;
        }
    }
    Some(all.freeze())
}
