//! A commit that the replication stream has told, and that other sessions see.
//!
//! PostgreSQL sends a commit when it is in the write-ahead log, and lets others see it a moment later. Owns: waiting for
//! that moment, so that whoever gets an event and asks the database finds what the event says. Never: waits for long;
//! a transaction that waits for a synchronous standby is told before it is seen.

use super::sentence::failed;
use crate::source::Fault;
use crate::source::looks::Looks;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Waits until other sessions see the transactions `xids`, all of them committed.
pub async fn wait(client: &Client, xids: &[u32]) -> Result<(), Fault> {
    let mut looks = Looks::begin();
    while !xids.is_empty() {
        // A simple query is one way there and back; the other kind prepares itself first.
        let answer = client.simple_query("select pg_current_snapshot()").await.map_err(|e| failed(&e))?;
        let snapshot = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Snapshot::parse(row.get(0)?),
            _ => None,
        });
        let is_seen = snapshot.is_none_or(|snapshot| xids.iter().all(|xid| snapshot.sees(*xid)));
        if is_seen || !looks.again().await {
            break;
        }
    }
    Ok(())
}

/// What a session sees, by the low 32 bits of transaction numbers, which go round.
struct Snapshot {
    /// The first that has not begun.
    next: u32,
    running: Vec<u32>,
}

impl Snapshot {
    /// Of `xmin:xmax:running,running`, all in 64 bits.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':').skip(1);
        let low = |number: &str| number.parse::<u64>().ok().map(|number| number as u32);
        let next = low(parts.next()?)?;
        let running = parts.next()?.split(',').filter(|number| !number.is_empty());
        Some(Self { next, running: running.map(low).collect::<Option<_>>()? })
    }

    fn sees(&self, xid: u32) -> bool {
        (xid.wrapping_sub(self.next) as i32) < 0 && !self.running.contains(&xid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_is_neither_running_nor_to_come() {
        let snapshot = Snapshot::parse("10:14:10,12").unwrap();
        let seen: Vec<u32> = (8..16).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 13]);
        // After 2^32 the numbers begin again.
        let later = Snapshot::parse("4294967290:4294967300:4294967298").unwrap();
        assert!(later.sees(u32::MAX) && later.sees(3) && !later.sees(2) && !later.sees(4));
        assert!(Snapshot::parse("5:5:").unwrap().sees(4));
        assert!(Snapshot::parse("").is_none() && Snapshot::parse("1:x:").is_none());
    }
}
