//! Topics of which nobody is told for a moment.
//!
//! A source commits what its database has told while it asks whether others see it there: to sync and to ask take about
//! as long, and what waits for both waits for the longer one. Owns: what is kept back meanwhile, and that it is told in
//! its order afterwards, to live readers first. Never: hides anything from who reads the log.

use crate::feed::Feed;
use crate::{Capture, Error, Receipt, Services, Tidings};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tidings_log::Batch;
use tidings_model::{Event, Offset, TopicName};
use tokio::sync::Notify;

/// So long after what was held has been told, who follows the log is woken: until then the cores are for those who read
/// live.
const FOLLOW_AFTER: Duration = Duration::from_millis(1);

/// What is kept back.
#[derive(Default)]
pub(crate) struct Held {
    /// Of topics. Most of the time none, and then this is all that is looked at.
    count: AtomicUsize,
    topics: Mutex<HashMap<TopicName, Vec<News>>>,
    /// Rung when something was told that was held.
    told: Notify,
}

/// One call of the log's.
struct News {
    tail: Offset,
    events: Vec<Event>,
}

impl Held {
    fn topics(&self) -> MutexGuard<'_, HashMap<TopicName, Vec<News>>> {
        self.topics.lock().expect("no panic while holding the lock")
    }

    /// Keeps the news if its topic is held; `false` if it is not.
    pub fn keep(&self, topic: &TopicName, tail: Offset, events: &mut dyn Iterator<Item = Event>) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        match self.topics().get_mut(topic) {
            Some(news) => news.push(News { tail, events: events.collect() }),
            None => return false,
        }
        true
    }

    /// The topic's events are gone.
    pub fn forget(&self, topic: &TopicName) {
        if self.count.load(Ordering::SeqCst) > 0
            && let Some(news) = self.topics().get_mut(topic)
        {
            news.clear();
        }
    }

    fn begin(&self, topic: &TopicName) {
        let mut topics = self.topics();
        topics.entry(topic.clone()).or_default();
        self.count.store(topics.len(), Ordering::SeqCst);
    }

    /// What there is to tell; when there is nothing more, the topic is held no longer.
    fn take(&self, topic: &TopicName) -> Vec<News> {
        let mut topics = self.topics();
        let news = topics.get_mut(topic).map(std::mem::take).unwrap_or_default();
        if news.is_empty() {
            topics.remove(topic);
            self.count.store(topics.len(), Ordering::SeqCst);
        }
        news
    }
}

/// Keeps what is committed to some topics from those who read live, for as long as it lives.
pub struct Hold {
    tidings: Tidings,
    topics: Vec<TopicName>,
}

impl Hold {
    /// [`Tidings::capture`], while who follows the log is not woken either.
    pub async fn capture(&self, capture: Capture) -> Result<Receipt, Error> {
        let batch = Batch { is_followed_later: true, ..Batch::default() };
        self.tidings.capture_with(capture, batch).await
    }
}

impl Tidings {
    /// Those who read `topics` live are told of what is committed to them from now on when this is dropped. It is in the
    /// log all the same: whoever reads pages, State, or on from a cursor finds it.
    pub fn hold(&self, topics: impl IntoIterator<Item = TopicName>) -> Hold {
        let mut topics: Vec<TopicName> = topics.into_iter().collect();
        topics.sort();
        topics.dedup();
        topics.iter().for_each(|topic| self.hub().held.begin(topic));
        Hold { tidings: self.clone(), topics }
    }
}

/// Wakes who follows the log of what was held.
pub(crate) fn start(tidings: &Tidings, services: &Services) {
    let (tidings, stop) = (tidings.clone(), services.stop().clone());
    services.spawn("followers", async move {
        while stop.run_until_cancelled(tidings.hub().held.told.notified()).await.is_some() {
            tokio::time::sleep(FOLLOW_AFTER).await;
            tidings.log().follow();
        }
    });
}

impl Drop for Hold {
    fn drop(&mut self) {
        let hub = self.tidings.hub();
        for topic in &self.topics {
            // What comes while this is told is kept behind it.
            loop {
                let news = hub.held.take(topic);
                if news.is_empty() {
                    break;
                }
                for News { tail, events } in news {
                    hub.advance(topic, tail, &mut events.into_iter()).iter().for_each(Feed::wake_here);
                }
            }
        }
        hub.held.told.notify_one();
    }
}
