//! What goes out over a connection, and how much of it may.

use super::frame::{self, WINDOW, flag};
use super::hpack;

/// No more is put together for the socket before it took some.
const OUTPUT_BYTES: usize = 64 << 10;

/// What goes out, and how much of it may.
pub struct Out {
    pub bytes: Vec<u8>,
    /// The window of the connection.
    pub window: i64,
    /// The window of a new stream.
    pub stream_window: i64,
    /// A stream waits until the socket took what is here.
    pub is_crowded: bool,
    /// The next block has to say that we refer to no table.
    pub is_table_due: bool,
    block: Vec<u8>,
}

impl Out {
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            window: WINDOW,
            stream_window: WINDOW,
            is_crowded: false,
            is_table_due: false,
            block: Vec::new(),
        }
    }

    /// Whether the socket has to take some first.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= OUTPUT_BYTES
    }

    /// Appends a header block that `fill` writes.
    pub fn block(&mut self, stream: u32, is_last: bool, fill: impl FnOnce(&mut Vec<u8>)) {
        self.block.clear();
        if std::mem::take(&mut self.is_table_due) {
            hpack::put_no_table(&mut self.block);
        }
        fill(&mut self.block);
        let flags = if is_last { flag::END_STREAM } else { 0 };
        frame::put_block(&mut self.bytes, stream, flags, &self.block);
    }
}
