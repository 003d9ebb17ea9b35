//! The data directory: what lies where, its format, and its lock.
//!
//! ```text
//! FORMAT            version of everything below
//! lock              held exclusively by the process that has the log open
//! segments/N.log    the events and every other change, in commit order
//! segments/N.idx    where each topic's events lie in N.log; made again when missing
//! side.db           topics, scheduled events, marks, registry; follows the segments
//! index/            keys, State, remembered ids; may be deleted, is built again from the segments
//! damaged/          what `check` with repair has set aside
//! ```

use crate::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The version of the data directory that this program reads and writes.
pub const FORMAT: u32 = 1;

/// A data directory, locked by this process for as long as this value lives.
pub struct Home {
    root: PathBuf,
    _lock: File,
}

impl Home {
    /// Creates the directory if needed, takes its lock, and checks its format.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let io = |doing: &str| Error::io(format!("{doing} {}", root.display()));
        std::fs::create_dir_all(root.join("segments")).map_err(io("creating"))?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io("opening the lock of"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: root.to_owned() }),
            Err(TryLockError::Error(e)) => return Err(io("locking")(e)),
        }
        let home = Self { root: root.to_owned(), _lock: lock };
        home.check_format()?;
        Ok(home)
    }

    fn check_format(&self) -> Result<(), Error> {
        let path = self.root.join("FORMAT");
        let known = format!("tidings-log {FORMAT}\n");
        match std::fs::read_to_string(&path) {
            Ok(found) if found == known => Ok(()),
            Ok(found) => Err(Error::Format { path, found: found.trim().to_owned(), known: FORMAT }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let io = || Error::io(format!("writing {}", path.display()));
                write_synced(&path, known.as_bytes()).map_err(io())?;
                sync_dir(&self.root).map_err(io())?;
                match self.root.canonicalize().map_err(io())?.parent() {
                    Some(parent) => sync_dir(parent).map_err(io()),
                    None => Ok(()),
                }
            }
            Err(e) => Err(Error::io(format!("reading {}", path.display()))(e)),
        }
    }

    pub fn segments(&self) -> Segments {
        Segments { dir: self.root.join("segments") }
    }

    pub fn side(&self) -> PathBuf {
        self.root.join("side.db")
    }

    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }
}

/// The directory of segments.
#[derive(Debug, Clone)]
pub struct Segments {
    dir: PathBuf,
}

impl Segments {
    pub fn log(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:010}.log"))
    }

    pub fn sidecar(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:010}.idx"))
    }

    /// Makes names that were added, replaced or removed survive a power cut.
    pub fn sync(&self) -> std::io::Result<()> {
        sync_dir(&self.dir)
    }

    /// Removes what unfinished replacements have left behind. Only while no other thread writes here.
    pub fn remove_temporary(&self) -> Result<(), Error> {
        let io = || Error::io(format!("removing temporary files of {}", self.dir.display()));
        for entry in std::fs::read_dir(&self.dir).map_err(io())? {
            let path = entry.map_err(io())?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                std::fs::remove_file(&path).map_err(io())?;
            }
        }
        Ok(())
    }

    /// The numbers of all segment files, ascending.
    pub fn list(&self) -> Result<Vec<u32>, Error> {
        let io = || Error::io(format!("listing {}", self.dir.display()));
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io())? {
            let path = entry.map_err(io())?.path();
            if path.extension().is_some_and(|e| e == "log") {
                numbers.extend(path.file_stem().and_then(|s| s.to_str()?.parse::<u32>().ok()));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes a segment and its sidecar; one that is gone already is no error.
    pub fn remove(&self, number: u32) -> std::io::Result<()> {
        for path in [self.log(number), self.sidecar(number)] {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Replaces `path` by a file with these bytes: after a crash it is the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Two threads may make the same file at once; each makes its own.
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", MADE.fetch_add(1, Ordering::Relaxed)));
    let temporary = PathBuf::from(name);
    write_synced(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

/// Cuts what lies behind the first `len` bytes; a file that is gone has nothing there.
pub fn cut(path: &Path, len: u64) -> std::io::Result<()> {
    let file = match File::options().write(true).open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if file.metadata()?.len() <= len {
        return Ok(());
    }
    file.set_len(len)?;
    file.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
