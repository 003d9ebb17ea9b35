//! What an operator, or a test, may choose about an embedded log.

use super::disk::{Disk, RealDisk};
use crate::memory::IdWindow;
use std::sync::Arc;

/// Settings of an [`super::EmbeddedLog`]; the default suits a server.
#[derive(Clone)]
pub struct Options {
    /// A segment is closed once it is at least this long. At most 1 GiB.
    pub segment_bytes: u32,
    /// A larger batch is refused with `BatchTooLarge`.
    pub batch_bytes_max: usize,
    /// Batches written with one sync take about this much together; a larger batch goes alone.
    pub group_bytes_max: usize,
    /// Accepted but unwritten batches; a further `commit` waits for room.
    pub queue_bytes_max: usize,
    /// What the index and the side store have yet to take in; the writer waits before it passes this.
    pub unapplied_bytes_max: usize,
    /// Blocks of segments that readers share.
    pub block_cache_bytes: usize,
    /// How long client-given ids are remembered.
    pub ids: IdWindow,
    /// What the writer writes to; replaced by tests that break it.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            segment_bytes: 32 * MIB as u32,
            batch_bytes_max: 16 * MIB,
            group_bytes_max: 4 * MIB,
            queue_bytes_max: 32 * MIB,
            unapplied_bytes_max: 16 * MIB,
            block_cache_bytes: 8 * MIB,
            ids: IdWindow::default(),
            disk: Arc::new(RealDisk),
        }
    }
}
