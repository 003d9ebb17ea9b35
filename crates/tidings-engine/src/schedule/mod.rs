//! Scheduled events: each fires on time and once.
//!
//! Owns: the wait for the next due time (`mod`), listing, moving and cancelling (`manage`), and what is said
//! about it in `$schedule` (`notice`). Firing is one commit that takes the event out of the schedule and appends
//! it, so a crash between the two cannot happen, and a cancel that came first wins (I4).

mod manage;
mod notice;

pub use manage::{Cancelled, Scheduled};
pub(crate) use notice::scheduled;

use crate::{Error, Services, Tidings};
use notice::Happened;
use std::time::Duration;
use tidings_log::{Append, Batch, Due, DueQuery, Error as LogError, ReadMax};

/// Events fired in one commit.
const FIRE_MAX: ReadMax = ReadMax { events: 1000, bytes: 1 << 20 };
/// The longest wait without looking at the clock: it may be set anew without telling.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The wait after a failed commit.
const RETRY: Duration = Duration::from_millis(500);

pub(crate) fn start(tidings: &Tidings, services: &Services) {
    let (tidings, stop) = (tidings.clone(), services.stop().clone());
    services.spawn("schedule", async move {
        loop {
            let wait = match tidings.fire_due().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "scheduled events could not be fired, trying again");
                    RETRY
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tidings.hub().due.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    });
}

impl Tidings {
    /// The clock was set forward or back: what is due is looked at anew.
    pub fn clock_changed(&self) {
        self.hub().due.notify_one();
    }

    /// Fires everything that is due and answers how long nothing else will be.
    pub(crate) async fn fire_due(&self) -> Result<Duration, Error> {
        loop {
            let now = self.clock().now();
            let due = self.log().due(DueQuery::until(now), FIRE_MAX).await?.dues;
            if due.is_empty() {
                let next = self.log().due_next().await?;
                return Ok(next.map_or(WAIT_MAX, |at| {
                    Duration::from_millis((at.as_millis() - now.as_millis()).max(1) as u64).min(WAIT_MAX)
                }));
            }
            let count = due.len();
            match self.log().commit(fired(due)).await {
                Ok(_) => self.counters().fired(count),
                // Cancelled or moved in between: look again.
                Err(LogError::DueUnknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn fired(due: Vec<Due>) -> Batch {
    let notices: Vec<Append> = due.iter().filter_map(|due| notice::of(due, Happened::Fired)).collect();
    let due_take = due.iter().map(|due| due.id).collect();
    let events = due.into_iter().map(|due| Append { topic: due.topic, record: due.record });
    // Notices behind the events: neighbours of one topic are stored and told together.
    Batch { due_take, appends: events.chain(notices).collect(), ..Batch::default() }
}
