//! Writers that stamp what they write, and whether each stamp has come once and in order.

use crate::harness::now_s;
use serde_json::Value;
use std::collections::HashSet;

/// Each writer's stamps begin at its number times this.
const STAMPS: i64 = 1_000_000_000;

/// What one writer has committed: the stamps of its inserts and updates in order, and how many rows it deleted.
#[derive(Default)]
pub struct Ledger {
    pub stamps: Vec<i64>,
    pub deleted: usize,
}

impl Ledger {
    /// The number before a writer's first stamp.
    pub fn before(writer: u64) -> i64 {
        writer as i64 * STAMPS
    }

    pub fn extend(&mut self, more: Self) {
        self.stamps.extend(more.stamps);
        self.deleted += more.deleted;
    }
}

/// What a run draws its chances from: `IT_SEED`, or the time.
pub fn seed() -> u64 {
    let seed = std::env::var("IT_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(now_s);
    println!("seed {seed}");
    seed
}

/// Each stamp has come once, those of a writer in its own order, and each row that was deleted; no transaction is torn
/// apart where the events name theirs.
pub fn check(ledgers: &[Ledger], all: &[Value], seed: u64) {
    let stamps: Vec<i64> =
        all.iter().filter(|e| e["name"] != "delete").filter_map(|e| e["data"]["stamp"].as_i64()).collect();
    for (writer, ledger) in ledgers.iter().enumerate() {
        let before = Ledger::before(writer as u64);
        let range = before + 1..before + STAMPS;
        let found: Vec<i64> = stamps.iter().copied().filter(|stamp| range.contains(stamp)).collect();
        assert_eq!(found, ledger.stamps, "writer {writer}, seed {seed}");
    }
    let gone = |e: &&Value| e["name"] == "delete" && e["context"]["reason"] != "key_changed";
    let deleted: usize = ledgers.iter().map(|ledger| ledger.deleted).sum();
    assert_eq!(all.iter().filter(gone).count(), deleted, "seed {seed}");
    let count: usize = ledgers.iter().map(|ledger| ledger.stamps.len()).sum();
    println!("{count} changes, {deleted} deleted");
    assert!(count > 100, "hardly anything was written: this run shows nothing");
    let (mut seen, mut last) = (HashSet::new(), Value::Null);
    for transaction in all.iter().map(|event| &event["context"]["transaction"]).filter(|t| !t.is_null()) {
        if *transaction != last {
            assert!(seen.insert(transaction.to_string()), "{transaction} comes in two parts, seed {seed}");
            last = transaction.clone();
        }
    }
}
