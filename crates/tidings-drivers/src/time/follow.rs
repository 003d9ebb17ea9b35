//! When servers are asked, and what counts while none answers.
//!
//! Servers are asked at the start, then every `every_ms`; while none answers, after a wait that grows up to that.
//! Every few seconds the machine's clock is compared with the steady one: when it was set, or the machine has
//! slept, the servers are asked at once, and if they are silent the machine is believed.

use super::clock::NtpClock;
use super::config::Config;
use super::query::{self, Failure};
use std::sync::Arc;
use std::time::Duration;
use tidings_log::{Clock as _, ClockState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The first wait after a failure.
const RETRY: Duration = Duration::from_secs(4);
/// How often the machine's clock is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A larger difference between the machine's and the steady clock from one look to the next is a step.
const STEP_NS: i64 = 500_000_000;
/// After so many waits of `every_ms` without an answer, that is said.
const STALE: u32 = 4;
/// A correction larger than this is said.
const NEWS_NS: i64 = 100_000_000;

impl NtpClock {
    /// Keeps the clock right until `stop`. Calls `changed` after each correction.
    pub async fn follow(self: Arc<Self>, config: Config, stop: CancellationToken, changed: impl Fn() + Send) {
        let every = Duration::from_millis(config.every_ms.max(1_000));
        let wait = RETRY.min(every);
        let mut follower =
            Follower { clock: self, config, every, wait, is_set: false, is_said: false, changed };
        let mut next = Instant::now();
        let mut looked = follower.clock.machine();
        loop {
            let machine = follower.clock.machine();
            let stepped = (machine.time - looked.time) - (machine.steady - looked.steady);
            let is_step = stepped.abs() > STEP_NS;
            looked = machine;
            if is_step {
                tracing::info!(step_ms = stepped / 1_000_000, "the machine's clock was set, or it has slept");
            }
            if is_step || Instant::now() >= next {
                let asked = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    asked = query::ask(&follower.clock, &follower.config) => asked,
                };
                next = Instant::now() + follower.take(asked, is_step);
            } else if !follower.is_set {
                follower.believe_machine();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next.min(Instant::now() + LOOK)) => {}
            }
        }
    }
}

struct Follower<F> {
    clock: Arc<NtpClock>,
    config: Config,
    every: Duration,
    /// Before the next try, if this one fails.
    wait: Duration,
    /// A server has set the clock, and the machine's was not set since.
    is_set: bool,
    /// It was said that no server answers; not again until one does, or the machine's clock is set.
    is_said: bool,
    changed: F,
}

impl<F: Fn()> Follower<F> {
    /// Acts on an answer, and says when to ask again.
    fn take(&mut self, asked: Result<query::Answer, Failure>, is_step: bool) -> Duration {
        match asked {
            Ok(answer) => {
                let was = self.clock.status().state;
                let ahead = self.clock.correct(answer.reading, ClockState::Servers);
                let (server, offset_ms) = (answer.server.to_string(), answer.offset / 1_000_000);
                if was != ClockState::Servers || ahead.abs() > NEWS_NS {
                    tracing::info!(%server, offset_ms, "the time follows {server}");
                } else {
                    tracing::debug!(%server, offset_ms, "the time was compared with {server}");
                }
                (self.changed)();
                (self.wait, self.is_set, self.is_said) = (RETRY.min(self.every), true, false);
                self.every
            }
            Err(failure) => {
                let why = failure.why.join("; ");
                let since = self.clock.status().since_answer.unwrap_or_default();
                if !self.is_set || is_step {
                    if self.is_said && !is_step {
                        tracing::debug!("still no time server can be believed: {why}");
                    } else {
                        tracing::warn!("no time server can be believed, the machine's clock counts: {why}");
                    }
                    (self.is_set, self.is_said) = (false, true);
                    self.believe_machine();
                } else if self.clock.status().state == ClockState::Servers && since > self.every * STALE {
                    let since_s = since.as_secs();
                    tracing::warn!(
                        since_s,
                        "no time server answers any more, the offset last known counts: {why}"
                    );
                    self.clock.fall_back();
                } else {
                    tracing::debug!("no time server can be believed at the moment: {why}");
                }
                let wait = if failure.is_sent_away { self.every } else { self.wait };
                self.wait = (self.wait * 2).min(self.every);
                wait
            }
        }
    }

    fn believe_machine(&self) {
        if self.clock.correct(self.clock.machine(), ClockState::Fallback).abs() > STEP_NS {
            (self.changed)();
        }
    }
}
