//! What all queues have in common: one task that connects, listens, publishes and connects again.
//!
//! Owns: the sinks, the status, pauses between tries, and which calls wait for what. A [`Queue`] knows only
//! how its server is spoken to.
//! Never: keeps a signal for later. While the queue is out of reach every call is answered with an error at
//! once; while a connection is being made, calls wait for how that ends.

use crate::backoff::Backoff;
use bytes::Bytes;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidings_engine::Services;
use tidings_engine::bus::{self, ANSWER_WITHIN, Answer, Bus, Error, News, Signal, Sink, Status};
use tidings_model::{EntityKey, TopicName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Signals that wait to be sent; whoever publishes more waits.
const REQUESTS_MAX: usize = 1024;
/// Signals that a session takes at once.
pub const BATCH_MAX: usize = 128;
/// A connection with everything subscribed must be there within this, or it counts as refused. Less than
/// [`ANSWER_WITHIN`], so that who waits for it hears why there is none.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A server that gives no sign of life for this long is taken for dead, on every queue.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Where the answer to a call goes. Dropped without one, the caller hears that the connection broke.
pub type Done = oneshot::Sender<Result<(), Error>>;

/// How one kind of server is spoken to.
pub trait Queue: Send + 'static {
    /// A connection. Dropping it closes it.
    type Session: Send;

    /// Why this server cannot carry a name, if so. The name begins with the prefix.
    fn objection(name: &str) -> Option<&'static str>;

    /// Connects and subscribes to all of `names`; after `Ok` the server has confirmed each.
    fn connect(&mut self, names: &[String]) -> impl Future<Output = Result<Self::Session, Error>> + Send;

    /// Does what the desk asks and hands it what arrives, until the connection breaks; says why it did.
    fn serve(&mut self, session: Self::Session, desk: &mut Desk) -> impl Future<Output = Error> + Send;
}

/// A signal to send.
pub struct Post {
    pub name: String,
    pub body: Bytes,
    pub done: Done,
}

/// A name to subscribe to.
pub struct Listen {
    pub name: String,
    entity: TopicName,
    sink: Option<Arc<dyn Sink>>,
    done: Done,
}

/// What a session is asked to do.
pub enum Work {
    Posts(Vec<Post>),
    /// To be given back to [`Desk::listens`] when the server has confirmed the subscription.
    Listen(Listen),
}

/// The task's side: calls that come in, sinks that signals go to.
pub struct Desk {
    posts: mpsc::Receiver<Post>,
    listens: mpsc::UnboundedReceiver<Listen>,
    ears: HashMap<String, Ear>,
    status: watch::Sender<Status>,
    ignored: Arc<AtomicU64>,
}

struct Ear {
    entity: TopicName,
    sinks: Vec<Arc<dyn Sink>>,
}

/// A bus over somebody's queue. Its task ends with it, or with the services.
pub struct QueueBus {
    prefix: String,
    objection: fn(&str) -> Option<&'static str>,
    posts: mpsc::Sender<Post>,
    /// Unbounded, but it carries one message for each entity there is.
    listens: mpsc::UnboundedSender<Listen>,
    status: watch::Receiver<Status>,
    ignored: Arc<AtomicU64>,
    _end: DropGuard,
}

impl QueueBus {
    pub(super) fn start<Q: Queue>(
        queue: Q,
        prefix: &str,
        services: &Services,
    ) -> Result<Arc<Self>, super::Error> {
        // A prefix is as good as the names that begin with it.
        if let Some(why) = (!prefix.is_empty()).then(|| Q::objection(&format!("{prefix}x"))).flatten() {
            return Err(super::Error::Prefix { prefix: prefix.to_owned(), why });
        }
        let (posts, posts_rx) = mpsc::channel(REQUESTS_MAX);
        let (listens, listens_rx) = mpsc::unbounded_channel();
        let (status, status_rx) = watch::channel(Status::Lost { since: Instant::now() });
        let ignored = Arc::new(AtomicU64::new(0));
        let desk = Desk {
            posts: posts_rx,
            listens: listens_rx,
            ears: HashMap::new(),
            status,
            ignored: Arc::clone(&ignored),
        };
        let end = services.stop().child_token();
        services.spawn("bus", run(queue, desk, end.clone()));
        Ok(Arc::new(Self {
            prefix: prefix.to_owned(),
            objection: Q::objection,
            posts,
            listens,
            status: status_rx,
            ignored,
            _end: end.drop_guard(),
        }))
    }

    /// Messages that were no signals, since the start.
    pub fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    fn name(&self, entity: &TopicName) -> Result<String, Error> {
        let name = format!("{}{}", self.prefix, entity.as_str());
        match (self.objection)(&name) {
            Some(why) => Err(Error::Name { entity: entity.clone(), why }),
            None => Ok(name),
        }
    }
}

impl Bus for QueueBus {
    fn publish(&self, signal: Signal) -> Answer<'_, ()> {
        Box::pin(within(async move {
            let name = self.name(&signal.0.entity)?;
            let (done, answer) = oneshot::channel();
            let post = Post { name, body: signal.0.to_json().into(), done };
            self.posts.send(post).await.map_err(|_| ended())?;
            answer.await.unwrap_or_else(|_| Err(broke()))
        }))
    }

    fn subscribe(&self, entity: &TopicName, sink: Arc<dyn Sink>) -> Answer<'_, ()> {
        // Not in the future: the sink is registered even if that is never polled.
        let (done, answer) = oneshot::channel();
        let sent = self.name(entity).and_then(|name| {
            let listen = Listen { name, entity: entity.clone(), sink: Some(sink), done };
            self.listens.send(listen).map_err(|_| ended())
        });
        Box::pin(within(async move {
            sent?;
            answer.await.unwrap_or_else(|_| Err(broke()))
        }))
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

impl Desk {
    /// The next thing to do. Cancel safe.
    pub async fn next(&mut self) -> Work {
        loop {
            let mut posts = Vec::new();
            tokio::select! {
                biased;
                Some(listen) = self.listens.recv() => {
                    if let Some(listen) = self.register(listen) {
                        return Work::Listen(listen);
                    }
                }
                n = self.posts.recv_many(&mut posts, BATCH_MAX) => {
                    if n == 0 {
                        // The bus was dropped; the task is about to end.
                        return std::future::pending().await;
                    }
                    // Nothing is kept for those who no longer wait.
                    posts.retain(|post| !post.done.is_closed());
                    if !posts.is_empty() {
                        return Work::Posts(posts);
                    }
                }
            }
        }
    }

    /// The subscription is there.
    pub fn listens(&self, listen: Listen) {
        let Listen { entity, name, done, .. } = listen;
        if done.send(Ok(())).is_err() {
            // Whoever asked gave up in between, as if it had failed.
            self.ears[&name].hear(News::Missed(entity));
        }
    }

    /// A message has come.
    pub fn hear(&self, name: &str, body: &[u8]) {
        let ear = self.ears.get(name);
        match (ear, EntityKey::from_json(body)) {
            (Some(ear), Ok(key)) if key.entity == ear.entity => ear.hear(News::Signal(Signal(key))),
            _ => self.ignore(name),
        }
    }

    /// A message has come that can be no signal.
    pub fn ignore(&self, name: &str) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(name, "a message on the queue is no signal");
    }

    /// Keeps the sink; gives the request back if its name is new.
    fn register(&mut self, mut listen: Listen) -> Option<Listen> {
        let sink = listen.sink.take()?;
        match self.ears.get_mut(&listen.name) {
            Some(ear) => {
                ear.sinks.push(sink);
                self.listens(listen);
                None
            }
            None => {
                let ear = Ear { entity: listen.entity.clone(), sinks: vec![sink] };
                self.ears.insert(listen.name.clone(), ear);
                Some(listen)
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.ears.keys().cloned().collect()
    }

    fn connected(&self) {
        tracing::info!("connected to the queue");
        self.status.send_replace(Status::Connected);
        for ear in self.ears.values() {
            ear.hear(News::Missed(ear.entity.clone()));
        }
    }

    fn lost(&self) {
        self.status.send_if_modified(|status| {
            let was_connected = *status == Status::Connected;
            if was_connected {
                *status = Status::Lost { since: Instant::now() };
            }
            was_connected
        });
    }

    /// Answers every call with `why`.
    async fn refuse(&mut self, why: &Error) {
        loop {
            tokio::select! {
                biased;
                Some(listen) = self.listens.recv() => {
                    // In the next connection from its start.
                    if let Some(listen) = self.register(listen) {
                        let _ = listen.done.send(Err(why.clone()));
                    }
                }
                Some(post) = self.posts.recv() => {
                    let _ = post.done.send(Err(why.clone()));
                }
                else => return std::future::pending().await,
            }
        }
    }
}

impl Ear {
    fn hear(&self, news: News) {
        self.sinks.iter().for_each(|sink| sink.hear(news.clone()));
    }
}

async fn run<Q: Queue>(queue: Q, desk: Desk, end: CancellationToken) {
    end.run_until_cancelled_owned(keep_connected(queue, desk)).await;
}

async fn keep_connected<Q: Queue>(mut queue: Q, mut desk: Desk) {
    let mut backoff = Backoff::default();
    let mut told = None;
    loop {
        let why = match tokio::time::timeout(CONNECT_WITHIN, queue.connect(&desk.names())).await {
            Ok(Ok(session)) => {
                let since = Instant::now();
                desk.connected();
                told = None;
                let why = queue.serve(session, &mut desk).await;
                backoff.lasted(since.elapsed());
                why
            }
            Ok(Err(why)) => why,
            Err(_) => Error::Unreachable("no connection in time".into()),
        };
        if told.as_ref() != Some(&why) {
            tracing::warn!(%why, "no connection to the queue; trying again");
            told = Some(why.clone());
        }
        desk.lost();
        let pause = backoff.next(getrandom::u32().unwrap_or(0));
        let _ = tokio::time::timeout(pause, desk.refuse(&why)).await;
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unreachable("no answer in time".into())),
    }
}

fn broke() -> bus::Error {
    Error::Unreachable("the connection broke".into())
}

fn ended() -> bus::Error {
    Error::Unreachable("the bus has ended".into())
}
