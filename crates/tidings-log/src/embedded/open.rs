//! Opens an embedded log, runs its threads, and closes it.

use super::blocks::Blocks;
use super::clean::Cleaner;
use super::home::Home;
use super::inbox::Inbox;
use super::index::Index;
use super::keeper::{Chore, Keeper};
use super::news::News;
use super::options::Options;
use super::reader::Reader;
use super::recover::recover;
use super::runway::Runway;
use super::scan::Place;
use super::shelf::Shelf;
use super::side::Side;
use super::stage::Stage;
use super::writer::{Pace, Writer};
use crate::{Clock, Error, Observer};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use tidings_model::Timestamp;

/// The log of a server that keeps its own data.
///
/// Opened with [`EmbeddedLog::open`]. Dropping it closes it: what was accepted is still written.
pub struct EmbeddedLog {
    pub(super) inbox: Arc<Inbox>,
    pub(super) reader: Arc<Reader>,
    pub(super) read_only: Arc<OnceLock<String>>,
    /// `None` once closed.
    running: Arc<Mutex<Option<Running>>>,
}

struct Running {
    inbox: Arc<Inbox>,
    keeper: Arc<Keeper>,
    reader: Arc<Reader>,
    writer: JoinHandle<()>,
    keeping: JoinHandle<()>,
    followers: Vec<JoinHandle<()>>,
    /// Holds the lock of the directory.
    _home: Home,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, creating it if there is none. Blocks while it recovers, which takes no longer
    /// for a long log than for a short one.
    ///
    /// `Err(Locked)` if another process, or another log of this one, has it open; `Err(Format)` if it was
    /// written by a program that is not compatible; `Err(Corrupt)` if acknowledged records are damaged.
    pub fn open(
        dir: &Path,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let home = Home::open(dir)?;
        let segments = home.segments();
        let (side, applier) = Side::open(&home.side(), options.unapplied_bytes_max)?;
        let side = Arc::new(side);
        let recovered = recover(&segments, side.stored()?)?;
        let end = recovered.end();
        let index = Index::new(home.index(), side.identity()?, options.ids, options.unapplied_bytes_max);
        let index = Arc::new(index);
        side.feed.push(News::Opened(end), 0);
        index.feed.push(News::Opened(end), 0);
        for number in recovered.gone {
            side.feed.push(News::Removed { number }, 0);
        }

        let catalog = Arc::new(recovered.catalog);
        let shelf = Arc::new(Shelf::new(segments.clone(), side.clone(), recovered.open.clone()));
        let keeper = Arc::new(Keeper::default());
        let (active, former) = recovered.open.split_last().expect("there is always one");
        former.iter().for_each(|active| keeper.push(Chore::Seal(active.clone())));
        keeper.push(Chore::Clean);
        let inbox = Arc::new(Inbox::new(options.queue_bytes_max, options.batch_bytes_max));
        let read_only = Arc::new(OnceLock::new());
        let last_time = Timestamp::default().plus_millis(recovered.last_time);
        let (topics, window) = (recovered.topic_id_max, options.ids);
        let writer = Box::new(Writer {
            inbox: inbox.clone(),
            stage: Stage::new(&catalog, side.clone(), index.clone(), window, topics, last_time),
            catalog: catalog.clone(),
            shelf: shelf.clone(),
            side: side.clone(),
            index: index.clone(),
            keeper: keeper.clone(),
            clock,
            observer,
            read_only: read_only.clone(),
            tape: options.disk.tape(recovered.file),
            disk: options.disk,
            asked_for: active.number,
            active: active.clone(),
            begin: recovered.begin,
            segment_bytes: u64::from(options.segment_bytes.min(1 << 30)),
            group_bytes_max: options.group_bytes_max,
            runway: Runway::default(),
            spare: Vec::new(),
            pace: Pace::default(),
        });
        let cleaner = Cleaner {
            catalog: catalog.clone(),
            shelf: shelf.clone(),
            side: side.clone(),
            index: index.clone(),
            looked_at: Default::default(),
        };
        let reader = Reader {
            catalog,
            shelf: shelf.clone(),
            side: side.clone(),
            index: index.clone(),
            blocks: Blocks::new(options.block_cache_bytes),
        };
        let reader = Arc::new(reader);
        let following_segments = segments.clone();
        let running = Running {
            inbox: inbox.clone(),
            keeper: keeper.clone(),
            reader: reader.clone(),
            writer: thread("log-writer", move || writer.run())?,
            keeping: thread("log-keeper", move || keeper.run(cleaner))?,
            followers: vec![
                thread("log-side", move || {
                    side.follow(applier, &following_segments, |n| shelf.registered(n))
                })?,
                thread("log-index", move || index.follow(&segments))?,
            ],
            _home: home,
        };
        Ok(Self { inbox, reader, read_only, running: Arc::new(Mutex::new(Some(running))) })
    }

    /// Closes, off the runtime's threads if there is a runtime.
    pub(super) async fn shut(&self) -> Result<(), Error> {
        self.inbox.close();
        let running = self.running.clone();
        let stop = move || stop(&running);
        match tokio::runtime::Handle::try_current() {
            Err(_) => stop(),
            Ok(runtime) => runtime.spawn_blocking(stop).await.unwrap_or(()),
        }
        Ok(())
    }

    /// Waits until everything committed has reached the index and the side store, and nothing is left to be
    /// closed or cleaned.
    pub async fn settled(&self) -> Result<(), Error> {
        let keeper =
            self.running.lock().expect("no panic while holding the lock").as_ref().map(|r| r.keeper.clone());
        let Some(keeper) = keeper else { return Err(Error::Closed) };
        self.blocking(move |_| {
            keeper.wait_idle();
            Ok(())
        })
        .await?;
        for feed in [&self.reader.side.feed, &self.reader.index.feed] {
            feed.wait(feed.pushed()).await?;
        }
        Ok(())
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        stop(&self.running);
    }
}

/// Ends the threads in the order in which they feed each other, then gives back the directory.
fn stop(running: &Mutex<Option<Running>>) {
    // The lock is held until everything has ended: whoever closes second waits, too.
    let mut running = running.lock().expect("no panic while holding the lock");
    let Some(running) = running.take() else { return };
    running.inbox.close();
    join(running.writer);
    let index = &running.reader.index.feed;
    if index.applied() == 0 {
        // It is still being opened or built; it goes on where it was at the next start.
        index.close();
    }
    running.keeper.close();
    join(running.keeping);
    let active = running.reader.shelf.active();
    let end = Place { segment: active.number, at: active.end() };
    for feed in [&running.reader.side.feed, &running.reader.index.feed] {
        feed.push(News::Closed(end), 0);
        feed.close();
    }
    running.followers.into_iter().for_each(join);
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the log panicked; what it had acknowledged is safe");
    }
}

fn thread(name: &str, f: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new().name(name.to_owned()).spawn(f).map_err(Error::io(format!("starting {name}")))
}
