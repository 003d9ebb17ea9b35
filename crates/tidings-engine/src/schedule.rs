//! Fires scheduled events, on time and once.
//!
//! Owns: the wait for the next due time. Firing is one commit that takes the event out of the schedule and
//! appends it, so a crash between the two cannot happen, and a cancel that came first wins (I4).

use crate::{Error, Services, Tidings};
use std::time::Duration;
use tidings_log::{Append, Batch, Due, Error as LogError};
use tidings_model::{Principal, Timestamp, Uuid};

/// Events fired in one commit.
const FIRE_MAX: usize = 1000;
/// The longest wait without looking at the clock: it may be set anew.
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
    /// Fires everything that is due and answers how long nothing else will be.
    pub(crate) async fn fire_due(&self) -> Result<Duration, Error> {
        loop {
            let now = self.clock().now();
            let due = self.log().due(now, FIRE_MAX).await?;
            if due.is_empty() {
                let next = self.log().due_next().await?;
                return Ok(next.map_or(WAIT_MAX, |at| {
                    Duration::from_millis((at.as_millis() - now.as_millis()).max(1) as u64).min(WAIT_MAX)
                }));
            }
            let batch = Batch {
                due_take: due.iter().map(|d| d.id).collect(),
                appends: due.into_iter().map(|d| Append { topic: d.topic, record: d.record }).collect(),
                ..Batch::default()
            };
            match self.log().commit(batch).await {
                Ok(done) => self.counters().fired(done.appended.len()),
                // Cancelled in between: look again.
                Err(LogError::DueUnknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Scheduled events that `who` may see, in the order in which they are due.
    pub async fn scheduled(&self, who: &Principal, max: usize) -> Result<Vec<Due>, Error> {
        let far = Timestamp::default().plus_millis(i64::MAX);
        let mut all = self.log().due(far, max).await?;
        all.retain(|due| may_manage(who, due));
        Ok(all)
    }

    /// One scheduled event.
    ///
    /// # Errors
    /// If there is none with this id (any more), or `who` neither scheduled it nor is an admin.
    pub async fn scheduled_by_id(&self, who: &Principal, id: Uuid) -> Result<Due, Error> {
        let due = self.log().due_by_id(id).await?.ok_or(Error::ScheduledUnknown(id))?;
        if may_manage(who, &due) { Ok(due) } else { Err(Error::NotOwner) }
    }

    /// Takes a scheduled event out before its time.
    ///
    /// # Errors
    /// If there is none with this id (any more), or `who` neither scheduled it nor is an admin.
    pub async fn cancel(&self, who: &Principal, id: Uuid) -> Result<Due, Error> {
        let due = self.scheduled_by_id(who, id).await?;
        let appends = self.reach().cancelled(&due);
        match self.log().commit(Batch { due_take: vec![id], appends, ..Batch::default() }).await {
            Ok(_) => Ok(due),
            Err(LogError::DueUnknown(id)) => Err(Error::ScheduledUnknown(id)),
            Err(error) => Err(error.into()),
        }
    }
}

fn may_manage(who: &Principal, due: &Due) -> bool {
    who.is_admin || (due.owner.is_some() && due.owner.as_deref() == who.id.as_deref())
}
