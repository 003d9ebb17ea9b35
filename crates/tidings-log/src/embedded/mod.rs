//! The log of a server that keeps its own data: segments of events, a side store, and an index.
//!
//! The way of a commit: `inbox` -> `writer` (`stage` decides and encodes a `group`, one write, one sync) ->
//! readers see it (`segment`, `catalog`) -> followers hear it (`feed`: `side`, `index`) -> the observer -> the
//! receipt. The way of a read: `catalog` -> `shelf` -> `segment` -> `blocks`. At the start: `recover`. In the
//! background: `keeper`, `clean`.
//!
//! Owns: the data directory while open. Never: needs anything but the segments to know what was acknowledged.

mod blocks;
mod catalog;
mod check;
mod clean;
mod damage;
pub mod disk;
mod entry;
mod feed;
mod frame;
mod group;
mod home;
mod inbox;
mod index;
mod keeper;
mod news;
mod open;
mod options;
mod overlay;
mod positions;
mod reader;
mod recover;
mod runway;
mod scan;
mod segment;
mod shelf;
mod side;
mod side_apply;
mod side_due;
mod sidecar;
mod stage;
mod writer;

pub use check::{CheckReport, Damage, check};
pub use damage::Missing;
pub use open::EmbeddedLog;
pub use options::Options;

use crate::{Answer, Batch, Bounds, Due, DuePage, DueQuery, Error, Found, Log, ReadMax, Receipt, State};
use bytes::Bytes;
use catalog::Topic;
use reader::Reader;
use tidings_model::{Event, Key, Offset, Timestamp, TopicName, Uuid};

impl EmbeddedLog {
    /// Runs a read that may block where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let reader = self.reader.clone();
        match tokio::runtime::Handle::try_current() {
            Err(_) => f(&reader),
            Ok(runtime) => match runtime.spawn_blocking(move || f(&reader)).await {
                Ok(result) => result,
                Err(e) => match e.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(Error::Closed),
                },
            },
        }
    }

    /// As [`EmbeddedLog::blocking`], about one topic; `empty` if there is no such topic.
    async fn of_topic<T: Send + 'static>(
        &self,
        name: &TopicName,
        empty: T,
        f: impl FnOnce(&Reader, &Topic) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.reader.catalog.get(name) {
            None => Ok(empty),
            Some(topic) => self.blocking(move |reader| f(reader, &topic)).await,
        }
    }

    /// Runs a read of the side store that sees everything acknowledged.
    async fn of_side<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let side = &self.reader.side.feed;
        side.wait(self.reader.catalog.look(|| side.pushed())).await?;
        self.blocking(f).await
    }

    /// Runs a read about one topic that needs the index and sees everything acknowledged, and its tail at
    /// the moment of asking; `empty` if there is no such topic.
    async fn of_index<T: Send + 'static>(
        &self,
        name: TopicName,
        empty: T,
        f: impl FnOnce(&Reader, &Topic, u64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (catalog, index) = (&self.reader.catalog, &self.reader.index.feed);
        let found = catalog.look(|| catalog.get(&name).map(|topic| (topic.tail(), topic, index.pushed())));
        let Some((tail, topic, number)) = found else { return Ok(empty) };
        index.wait(number).await?;
        self.blocking(move |reader| f(reader, &topic, tail)).await
    }
}

impl Log for EmbeddedLog {
    fn commit(&self, batch: Batch) -> Answer<'_, Receipt> {
        Box::pin(self.inbox.submit(batch))
    }

    fn follow(&self) {
        self.reader.side.feed.rouse();
        self.reader.index.feed.rouse();
    }

    fn bounds(&self, topic: &TopicName) -> Option<Bounds> {
        self.reader.catalog.get(topic).map(|topic| topic.bounds())
    }

    fn topic_count(&self) -> usize {
        self.reader.catalog.len()
    }

    fn topics(&self, after: Option<&TopicName>, max: usize) -> Answer<'_, Vec<(TopicName, Bounds)>> {
        let page = self.reader.catalog.page(after, max);
        Box::pin(async move { Ok(page.iter().map(|t| (t.name.clone(), t.bounds())).collect()) })
    }

    fn read(&self, topic: &TopicName, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>> {
        let topic = self.reader.catalog.get(topic);
        Box::pin(async move {
            let Some(topic) = topic else { return Ok(Vec::new()) };
            let ends = topic.ends();
            if after.0 >= ends.tail && after.0.saturating_add(1) >= ends.oldest {
                return Ok(Vec::new());
            }
            self.blocking(move |reader| reader.read(&topic, after.0, max)).await
        })
    }

    fn read_key(&self, topic: &TopicName, key: &Key, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>> {
        let key = key.clone();
        Box::pin(self.of_index(topic.clone(), Vec::new(), move |r, t, _| r.read_key(t, &key, after.0, max)))
    }

    fn read_audience(
        &self,
        topic: &TopicName,
        user: Option<&str>,
        after: Offset,
        max: ReadMax,
    ) -> Answer<'_, Found> {
        let (topic, user) = (topic.clone(), user.map(str::to_owned));
        let read = move |r: &Reader, t: &Topic, tail| r.read_audience(t, user.as_deref(), after.0, tail, max);
        Box::pin(self.of_index(topic, Found::default(), read))
    }

    fn state_audience(&self, topic: &TopicName, user: Option<&str>) -> Answer<'_, State> {
        let (user, none) = (user.map(str::to_owned), State { offsets: Vec::new(), tail: Offset::ZERO });
        let read = move |r: &Reader, t: &Topic, tail| r.state_audience(t, user.as_deref(), tail);
        Box::pin(self.of_index(topic.clone(), none, read))
    }

    fn state(&self, topic: &TopicName, key: Option<&Key>) -> Answer<'_, State> {
        let (key, none) = (key.cloned(), State { offsets: Vec::new(), tail: Offset::ZERO });
        Box::pin(self.of_index(topic.clone(), none, move |r, t, tail| r.state(t, key.as_ref(), tail)))
    }

    fn read_at(&self, topic: &TopicName, offsets: &[Offset], max: ReadMax) -> Answer<'_, Vec<Event>> {
        let offsets = offsets.to_vec();
        Box::pin(self.of_index(topic.clone(), Vec::new(), move |r, t, _| r.read_at(t, &offsets, max)))
    }

    fn at_time(&self, topic: &TopicName, at: Timestamp) -> Answer<'_, Offset> {
        let topic = topic.clone();
        Box::pin(async move { self.of_topic(&topic, Offset::ZERO, move |r, t| r.at_time(t, at)).await })
    }

    fn at_size(&self, topic: &TopicName, bytes: u64) -> Answer<'_, Offset> {
        let topic = topic.clone();
        Box::pin(async move { self.of_topic(&topic, Offset::ZERO, move |r, t| r.at_size(t, bytes)).await })
    }

    fn due(&self, query: DueQuery, max: ReadMax) -> Answer<'_, DuePage> {
        Box::pin(self.of_side(move |reader| reader.side.due(&query, max)))
    }

    fn due_by_id(&self, id: Uuid) -> Answer<'_, Option<Due>> {
        Box::pin(self.of_side(move |reader| reader.side.due_by_id(id)))
    }

    fn due_next(&self) -> Answer<'_, Option<Timestamp>> {
        Box::pin(self.of_side(|reader| reader.side.due_next()))
    }

    fn mark(&self, name: &str) -> Answer<'_, Option<Bytes>> {
        let name = name.to_owned();
        Box::pin(self.of_side(move |reader| reader.side.mark(&name)))
    }

    fn registry(&self, kind: &str) -> Answer<'_, Vec<(String, Bytes)>> {
        let kind = kind.to_owned();
        Box::pin(self.of_side(move |reader| reader.side.registry(&kind)))
    }

    fn registry_page(&self, kind: &str, after: Option<&str>, max: usize) -> Answer<'_, Vec<(String, Bytes)>> {
        let (kind, after) = (kind.to_owned(), after.map(str::to_owned));
        Box::pin(self.of_side(move |reader| reader.side.registry_page(&kind, after.as_deref(), max)))
    }

    fn registered(&self, kind: &str, key: &str) -> Answer<'_, Option<Bytes>> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        Box::pin(self.of_side(move |reader| reader.side.registered(&kind, &key)))
    }

    fn read_only(&self) -> Option<String> {
        self.read_only.get().cloned()
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(self.shut())
    }
}
