//! What has been read, on its way into the log.
//!
//! Owns: that small transactions share a commit, and that a commit is under way while the next rows are read.
//! Never: splits what belongs together; the reader has done that where it had to.

use super::position::Mark;
use super::visible::Visible;
use crate::source::{Desk, Fault, gather};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tidings_engine::Capture;
use tidings_model::{NewEvent, Timestamp};
use tokio::sync::mpsc;

/// As many bytes share a commit, if they are there already.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_EVENTS: usize = 4000;
/// Deliveries that wait while one is committed; whoever reads waits when it is full.
pub const QUEUE: usize = 256;

/// Events, and where the source stands once they are in the log.
#[derive(Debug)]
pub struct Delivery {
    pub events: Vec<NewEvent>,
    pub bytes: usize,
    pub mark: Mark,
    /// Where in the binary log it was read up to.
    pub file: String,
    pub end: u64,
    pub committed_at: Option<Timestamp>,
}

/// Commits what arrives, until the log refuses or nobody reads any more.
pub async fn commit_all(
    desk: &Desk,
    mark: &str,
    mut deliveries: mpsc::Receiver<Delivery>,
    mut visible: Visible,
) -> Fault {
    let mut kept = None;
    loop {
        let first = match kept.take() {
            Some(delivery) => Some(delivery),
            None => deliveries.recv().await,
        };
        let Some(mut batch) = first else {
            return Fault::lost("the connection to the database ended");
        };
        let (begun, mut count) = (Instant::now(), 1);
        while batch.bytes < BATCH_BYTES && batch.events.len() < BATCH_EVENTS {
            let Ok(next) = deliveries.try_recv() else { break };
            // What is large has a commit of its own: together they might be more than the log takes.
            if next.bytes > BATCH_BYTES {
                kept = Some(next);
                break;
            }
            count += 1;
            batch.bytes += next.bytes;
            batch.events.extend(next.events);
            batch.mark = next.mark;
            (batch.file, batch.end) = (next.file, next.end);
            batch.committed_at = next.committed_at.or(batch.committed_at);
        }
        let seen = visible.wait(visible.question(&batch));
        let pause = gather(batch.events.len()).filter(|_| count > 1 && kept.is_none());
        if let Err(fault) = commit(desk, mark, batch, seen, kept.is_none() && deliveries.is_empty()).await {
            return fault;
        }
        if let Some(pause) = pause {
            tokio::time::sleep_until((begun + pause).into()).await;
        }
    }
}

/// Commits one delivery once it is `seen`.
pub async fn commit(
    desk: &Desk,
    mark: &str,
    delivery: Delivery,
    seen: impl Future<Output = Result<(), Fault>>,
    is_last: bool,
) -> Result<(), Fault> {
    let position = delivery.mark.position.to_string();
    let value = serde_json::to_vec(&delivery.mark).expect("a position into memory");
    let capture = Capture {
        source: desk.name.as_str().into(),
        events: delivery.events,
        messages: Vec::new(),
        marks: vec![tidings_log::Mark { name: mark.to_owned(), value: Some(Bytes::from(value)) }],
    };
    desk.capture_once(seen, capture).await?;
    desk.report.position(position);
    let now = desk.tidings.clock().now();
    let lag = delivery.committed_at.filter(|_| !is_last).map(|at| now.as_millis() - at.as_millis());
    desk.report.lag(Some(Duration::from_millis(lag.unwrap_or(0).max(0) as u64)));
    Ok(())
}
