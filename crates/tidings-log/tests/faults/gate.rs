//! A disk that can be held.

use super::*;

/// A disk whose next sync waits until it is let through.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, std::sync::Condvar, AtomicUsize)>);

impl Gate {
    pub fn hold(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }

    pub fn waiting(&self) -> usize {
        self.0.2.load(Ordering::SeqCst)
    }
}

struct GateTape(Box<dyn Tape>, Gate);

impl Disk for Gate {
    fn tape(&self, file: Arc<File>) -> Box<dyn Tape> {
        Box::new(GateTape(RealDisk.tape(file), self.clone()))
    }
}

impl Tape for GateTape {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        let (held, changed, waiting) = &*self.1.0;
        let mut is_held = held.lock().unwrap();
        while *is_held {
            waiting.fetch_add(1, Ordering::SeqCst);
            is_held = changed.wait(is_held).unwrap();
        }
        drop(is_held);
        self.0.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}
