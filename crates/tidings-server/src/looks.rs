//! What a connection hears beside its bytes: that the server stops, and now and then that it is time to look around.

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, Stream as _};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// So often a connection looks around within the time that a part of a request may take.
pub const PARTS: u32 = 4;
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Why a connection looks around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The server stops. Said again whenever it is asked.
    Stop,
    /// Some time has passed.
    Time,
}

/// What a connection hears that reads.
pub enum Heard {
    Bytes,
    /// No more come.
    End,
    Look(Look),
}

/// Room for what is read next, where little is expected.
const READ_BYTES: usize = 4 << 10;

/// Tells one connection's task. It is asked with everything that happens there, so the clock and the stop are looked at
/// only when they have something to say.
pub struct Looks {
    stop: CancellationToken,
    next: FuturesUnordered<Pin<Box<Next>>>,
}

type Next = dyn Future<Output = (Look, Interval)> + Send;

impl Looks {
    /// For a connection on which each part of a request must arrive `within` this time.
    pub fn new(stop: &CancellationToken, within: Duration) -> Self {
        let mut interval = tokio::time::interval((within / PARTS).max(EVERY_MIN));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval.reset(); // Otherwise the first is at once.
        let looks = Self { stop: stop.clone(), next: FuturesUnordered::new() };
        looks.begin(interval);
        looks
    }

    /// Whether the server stops.
    pub fn is_stop(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Reads on, unless there is something else to hear.
    pub async fn read<T: AsyncRead + Unpin>(&mut self, io: &mut T, input: &mut BytesMut) -> Heard {
        input.reserve(READ_BYTES);
        poll_fn(|cx| {
            if let Poll::Ready(read) = pin!(io.read_buf(input)).poll(cx) {
                return Poll::Ready(if read.is_ok_and(|count| count > 0) {
                    Heard::Bytes
                } else {
                    Heard::End
                });
            }
            self.poll(cx).map(Heard::Look)
        })
        .await
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Look> {
        let Poll::Ready(Some((look, interval))) = Pin::new(&mut self.next).poll_next(cx) else {
            return Poll::Pending;
        };
        self.begin(interval);
        Poll::Ready(look)
    }

    fn begin(&self, mut interval: Interval) {
        let stop = self.stop.clone();
        self.next.push(Box::pin(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => (Look::Stop, interval),
                _ = interval.tick() => (Look::Time, interval),
            }
        }));
    }
}
