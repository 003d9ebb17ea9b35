//! A database that takes the question whether others see a commit, and does not answer.

use super::{Database, capture, source, status};
use std::time::{Duration, Instant};

/// A process that neither runs nor ends while this lives.
struct Frozen(i32);

impl Frozen {
    fn new(pid: i64) -> Self {
        let pid = i32::try_from(pid).expect("a process");
        // SAFETY: a signal to a process of this test's own database.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

#[tokio::test]
async fn a_question_without_an_answer_delays_what_is_told_and_is_asked_over_another_connection() {
    let db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    let mut live = server.sse("items", "from=earliest").await;
    db.run("insert into items values (1)").await;
    assert_eq!(live.event().await["data"]["id"], 1);
    let asked = "select pid::int8 from pg_stat_activity where query = 'select pg_current_snapshot()'";
    let frozen = Frozen::new(db.number(asked).await);
    let begun = Instant::now();
    db.run("insert into items values (2)").await;
    assert_eq!(live.event().await["data"]["id"], 2);
    assert!(begun.elapsed() > Duration::from_secs(2), "it did not wait: this run shows nothing");
    db.run("insert into items values (3)").await;
    assert_eq!(live.event().await["data"]["id"], 3);
    let found = status(&server).await;
    assert!(found["failures"].as_u64().unwrap() >= 1, "{found}");
    let log = server.log();
    assert!(log.contains("does not answer") && log.contains("a source is captured again"), "{log}");
    drop(frozen);
}
