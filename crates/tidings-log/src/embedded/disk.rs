//! The three file operations that decide over durability, so that tests can make them fail.
//!
//! Owns: writing, syncing and cutting the segment that is being written. Never: opens, names or reads a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Gives out the writer's access to segment files.
pub trait Disk: Send + Sync + 'static {
    fn tape(&self, file: Arc<File>) -> Box<dyn Tape>;
}

/// One segment file as its writer sees it.
pub trait Tape: Send {
    /// Writes all of `bytes` at `at`. After `Err` any part of them may have been written.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// After `Ok` everything written so far survives a power cut. After `Err` nobody knows.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn tape(&self, file: Arc<File>) -> Box<dyn Tape> {
        Box::new(file)
    }
}

impl Tape for Arc<File> {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}
