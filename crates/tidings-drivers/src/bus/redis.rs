//! Redis as a bus: one channel of its publish and subscribe for each entity.
//!
//! Owns: one RESP3 connection that does both. Redis confirms a signal by counting who got it.

use super::link::{Desk, Queue, SILENCE_MAX, Work};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo as _, ProtocolVersion, PushInfo, PushKind, RedisError,
    Value,
};
use std::time::Duration;
use tidings_engine::bus::{ANSWER_WITHIN, Error};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Messages that have arrived and wait for the sinks. With more of them the connection begins anew, so that
/// everything is fetched instead.
const ARRIVED_MAX: usize = 16_384;
/// Signals whose answer is awaited.
const UNANSWERED_MAX: usize = 1024;
const PING_EVERY: Duration = SILENCE_MAX.checked_div(4).expect("not zero");

/// A Redis server to be found at an address.
pub struct Redis {
    client: Client,
}

/// A connection to it.
pub struct Session {
    connection: MultiplexedConnection,
    arrivals: mpsc::Receiver<PushInfo>,
    broken: CancellationToken,
}

impl Redis {
    pub fn new(url: &Url) -> Result<Self, super::Error> {
        // Only the kind of the error: the library's texts may hold parts of the URL.
        let refused = |e: RedisError| super::Error::Library(e.category().to_owned());
        let info = url.as_str().into_connection_info().map_err(refused)?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings)).map_err(refused)?;
        Ok(Self { client })
    }
}

impl Queue for Redis {
    type Session = Session;

    fn objection(_name: &str) -> Option<&'static str> {
        None
    }

    async fn connect(&mut self, names: &[String]) -> Result<Session, Error> {
        let (arrived, arrivals) = mpsc::channel(ARRIVED_MAX);
        let broken = CancellationToken::new();
        let breaks = broken.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection || arrived.try_send(push).is_err() {
                    breaks.cancel();
                }
                Ok::<(), std::convert::Infallible>(())
            });
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(failed)?;
        if !names.is_empty() {
            connection.subscribe(names).await.map_err(failed)?;
        }
        Ok(Session { connection, arrivals, broken })
    }

    async fn serve(&mut self, mut session: Session, desk: &mut Desk) -> Error {
        let mut unanswered: FuturesUnordered<BoxFuture<'static, Result<(), Error>>> = FuturesUnordered::new();
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Not biased: neither a flood of messages nor one of calls may starve the other.
            let step = tokio::select! {
                () = session.broken.cancelled() => Err(Error::Unreachable("the connection broke".into())),
                Some(push) = session.arrivals.recv() => {
                    hear(push, desk);
                    Ok(())
                }
                Some(done) = unanswered.next() => done,
                _ = ping.tick() => {
                    let mut connection = session.connection.clone();
                    unanswered.push(Box::pin(async move {
                        redis::cmd("PING").query_async::<Value>(&mut connection).await.map_err(failed)?;
                        Ok(())
                    }));
                    Ok(())
                }
                work = desk.next(), if unanswered.len() < UNANSWERED_MAX => match work {
                    Work::Posts(posts) => {
                        unanswered.extend(posts.into_iter().map(|post| {
                            let mut connection = session.connection.clone();
                            Box::pin(async move {
                                let mut publish = redis::cmd("PUBLISH");
                                publish.arg(&post.name).arg(&post.body[..]);
                                let done = publish.query_async::<Value>(&mut connection).await;
                                // Whoever asked may have given up.
                                let _ = post.done.send(done.map(|_| ()).map_err(failed));
                                Ok(())
                            }) as BoxFuture<'static, Result<(), Error>>
                        }));
                        Ok(())
                    }
                    Work::Listen(listen) => {
                        let done = session.connection.subscribe(&listen.name).await;
                        done.map(|()| desk.listens(listen)).map_err(failed)
                    }
                },
            };
            if let Err(why) = step {
                return why;
            }
        }
    }
}

fn hear(push: PushInfo, desk: &Desk) {
    if push.kind != PushKind::Message {
        return;
    }
    if let [Value::BulkString(name), Value::BulkString(body)] = &push.data[..]
        && let Ok(name) = std::str::from_utf8(name)
    {
        desk.hear(name, body);
    }
}

fn failed(error: RedisError) -> Error {
    let is_answer = !error.is_io_error() && !error.is_timeout() && !error.is_unrecoverable_error();
    let text = error.to_string();
    if is_answer { Error::Refused(text) } else { Error::Unreachable(text) }
}
