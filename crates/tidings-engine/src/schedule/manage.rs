//! Listing, moving and cancelling scheduled events: their owner's business, and an admin's.

use super::notice::{self, Happened};
use crate::{Error, Tidings};
use tidings_log::{Batch, Due, DuePlace, DuePut, DueQuery, Error as LogError, ReadMax};
use tidings_model::{Cursor, Position, Principal, RecordWriter, Timestamp, Topic, TopicName, Uuid};

/// Bytes of events in one page.
const PAGE_BYTES: usize = 4 << 20;
/// Events cancelled in one commit, and in one call.
const CANCEL_BATCH: usize = 1000;
const CANCEL_MAX: usize = 10_000;
/// Readings of the log in one call.
const CANCEL_READS_MAX: usize = 100;

/// Scheduled events in the order in which they are due.
#[derive(Debug)]
pub struct Scheduled {
    pub dues: Vec<Due>,
    /// Ask again behind this place; `None` when there are no more. A page may be short and not be the last.
    pub next: Option<DuePlace>,
    /// A position in `$schedule` from before this page was read. Whoever lists all pages and then follows
    /// `$schedule` from the first one's cursor misses nothing.
    pub cursor: Cursor,
}

/// How many scheduled events a call has cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    pub count: usize,
    /// One call has its bound: there may be more behind this place.
    pub next: Option<DuePlace>,
}

impl Tidings {
    /// Scheduled events of `topic`, or of all topics, that `who` may see: the own ones, an admin's all.
    pub async fn scheduled(
        &self,
        who: &Principal,
        topic: Option<&Topic>,
        after: Option<DuePlace>,
        max_events: usize,
    ) -> Result<Scheduled, Error> {
        // Read first: what changes from here on comes after the cursor.
        let cursor = Cursor::of(self.schedule_position());
        let Some(query) = query(who, topic) else {
            return Ok(Scheduled { dues: Vec::new(), next: None, cursor });
        };
        let max = ReadMax { events: max_events.clamp(1, self.limits().page_events), bytes: PAGE_BYTES };
        let _permit = self.reading().await?;
        let page = self.log().due(DueQuery { after, ..query }, max).await?;
        Ok(Scheduled { dues: page.dues, next: page.next, cursor })
    }

    fn schedule_position(&self) -> Position {
        let topic = TopicName::schedule();
        match self.log().bounds(&topic) {
            None => Position::before_all(topic),
            Some(bounds) => Position { topic, epoch: bounds.epoch, offset: bounds.tail, in_state: false },
        }
    }

    /// One scheduled event.
    ///
    /// # Errors
    /// If there is none with this id (any more), or `who` neither scheduled it nor is an admin.
    pub async fn scheduled_by_id(&self, who: &Principal, id: Uuid) -> Result<Due, Error> {
        let due = self.log().due_by_id(id).await?.ok_or(Error::ScheduledUnknown(id))?;
        if may_manage(who, &due) { Ok(due) } else { Err(Error::NotOwner) }
    }

    /// Moves a scheduled event to another time, also to one that has passed: then it fires at once. It keeps its
    /// id, and fires once whenever the move comes (I4).
    ///
    /// # Errors
    /// If there is none with this id (any more), or `who` neither scheduled it nor is an admin; if the time is
    /// further ahead than allowed.
    pub async fn move_scheduled(&self, who: &Principal, id: Uuid, to: Timestamp) -> Result<Due, Error> {
        self.check_ahead(to, 0)?;
        let mut due = self.scheduled_by_id(who, id).await?;
        due.at = to;
        RecordWriter::reschedule(&mut due.record, to);
        let notice = notice::of(&due, Happened::Moved);
        let put = DuePut { due: due.clone(), notice };
        self.change(Batch { due_take: vec![id], due_put: vec![put], ..Batch::default() }).await?;
        Ok(due)
    }

    /// Takes a scheduled event out before its time.
    ///
    /// # Errors
    /// If there is none with this id (any more), or `who` neither scheduled it nor is an admin.
    pub async fn cancel(&self, who: &Principal, id: Uuid) -> Result<Due, Error> {
        let due = self.scheduled_by_id(who, id).await?;
        self.change(self.without(std::slice::from_ref(&due))).await?;
        Ok(due)
    }

    /// Takes everything out that is scheduled for `topic` and that `who` may manage: a whole topic, or one key.
    /// One call cancels a bounded number, and looks at a bounded number of others on the way.
    pub async fn cancel_all(
        &self,
        who: &Principal,
        topic: &Topic,
        after: Option<DuePlace>,
    ) -> Result<Cancelled, Error> {
        let mut done = Cancelled { count: 0, next: None };
        let Some(query) = query(who, Some(topic)) else { return Ok(done) };
        // A place before all, so that a call that comes to nothing but races still says where to go on.
        let first = DuePlace { at: Timestamp::default().plus_millis(i64::MIN), order: i64::MIN };
        let mut query = DueQuery { after: after.or(Some(first)), ..query };
        let max = ReadMax { events: CANCEL_BATCH, bytes: PAGE_BYTES };
        for _ in 0..CANCEL_READS_MAX {
            let page = {
                let _permit = self.reading().await?;
                self.log().due(query.clone(), max).await?
            };
            match self.change(self.without(&page.dues)).await {
                Ok(()) => done.count += page.dues.len(),
                // One of them has fired or was cancelled meanwhile: the others are read again.
                Err(Error::ScheduledUnknown(_)) => continue,
                Err(error) => return Err(error),
            }
            query.after = page.next;
            if page.next.is_none() || done.count >= CANCEL_MAX {
                break;
            }
        }
        done.next = query.after;
        Ok(done)
    }

    /// What takes `dues` out, says so, and keeps what Broker's lists go on showing.
    fn without(&self, dues: &[Due]) -> Batch {
        let notices = dues.iter().filter_map(|due| notice::of(due, Happened::Cancelled));
        let kept = dues.iter().flat_map(|due| self.reach().cancelled(due));
        let appends = notices.chain(kept).collect();
        Batch { due_take: dues.iter().map(|due| due.id).collect(), appends, ..Batch::default() }
    }

    async fn change(&self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.log().commit(batch).await {
            Ok(_) => Ok(()),
            Err(LogError::DueUnknown(id)) => Err(Error::ScheduledUnknown(id)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What `who` may manage of `topic`; `None` where that is nothing.
fn query(who: &Principal, topic: Option<&Topic>) -> Option<DueQuery> {
    let owner = match (who.is_admin, who.id.as_deref()) {
        (true, _) => None,
        (false, None) => return None,
        (false, Some(id)) => Some(id.to_owned()),
    };
    let (name, key) = (topic.map(|t| t.name.clone()), topic.and_then(|t| t.key.clone()));
    Some(DueQuery { owner, topic: name, key, ..DueQuery::all() })
}

fn may_manage(who: &Principal, due: &Due) -> bool {
    who.is_admin || (due.owner.is_some() && due.owner.as_deref() == who.id.as_deref())
}
