//! Every log passes the one suite.

use std::sync::Arc;
use tidings_log::conformance::{Maker, suite};
use tidings_log::embedded::Options;
use tidings_log::memory::{IdWindow, MemoryLog};
use tidings_log::{Clock, EmbeddedLog, Log, Observer};

struct Memory;

impl Maker for Memory {
    fn fresh(&mut self) {}

    fn open(&mut self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>, window: IdWindow) -> Arc<dyn Log> {
        Arc::new(MemoryLog::with_window(clock, observer, window))
    }

    fn is_durable(&self) -> bool {
        false
    }
}

struct Embedded {
    dir: tempfile::TempDir,
    segment_bytes: u32,
}

impl Maker for Embedded {
    fn fresh(&mut self) {
        self.dir = tempfile::tempdir().unwrap();
    }

    fn open(&mut self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>, ids: IdWindow) -> Arc<dyn Log> {
        let options = Options { segment_bytes: self.segment_bytes, ids, ..Options::default() };
        Arc::new(EmbeddedLog::open(self.dir.path(), options, clock, observer).unwrap())
    }

    fn is_durable(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_memory_log_conforms() {
    suite(&mut Memory).await;
}

#[tokio::test]
async fn the_embedded_log_conforms() {
    let segment_bytes = Options::default().segment_bytes;
    suite(&mut Embedded { dir: tempfile::tempdir().unwrap(), segment_bytes }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_conforms_where_committers_write() {
    let segment_bytes = Options::default().segment_bytes;
    suite(&mut Embedded { dir: tempfile::tempdir().unwrap(), segment_bytes }).await;
}

#[tokio::test]
async fn the_embedded_log_conforms_with_a_segment_per_commit() {
    suite(&mut Embedded { dir: tempfile::tempdir().unwrap(), segment_bytes: 1 }).await;
}
