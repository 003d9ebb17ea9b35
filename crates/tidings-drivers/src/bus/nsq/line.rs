//! One connection to nsqd: its introduction, and words with a time limit.

use super::frame::{self, Frame, Frames};
use crate::bus::link::SILENCE_MAX;
use serde::Deserialize;
use std::io;
use std::time::Duration;
use tidings_engine::bus::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// How often nsqd shall give a sign of life.
const HEARTBEAT_MS: u64 = SILENCE_MAX.as_millis() as u64 / 2;
/// nsqd's answers to the introduction, and its willingness to take bytes.
const WORD_WITHIN: Duration = Duration::from_secs(3);

/// A connection that has introduced itself.
pub struct Line {
    frames: Frames<OwnedReadHalf>,
    output: OwnedWriteHalf,
    in_flight_max: usize,
}

/// What nsqd answers to `IDENTIFY`, as far as it matters here.
#[derive(Deserialize)]
struct Welcome {
    max_rdy_count: usize,
    #[serde(default)]
    auth_required: bool,
}

impl Line {
    pub async fn open(address: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let (input, output) = stream.into_split();
        let mut line = Self { frames: Frames::new(input), output, in_flight_max: 1 };
        // Without its output buffer nsqd sends a message at once, with it up to a quarter of a second later.
        let introduction = serde_json::json!({
            "client_id": "tidings",
            "hostname": "tidings",
            "user_agent": concat!("tidings/", env!("CARGO_PKG_VERSION")),
            "feature_negotiation": true,
            "heartbeat_interval": HEARTBEAT_MS,
            "output_buffer_size": -1,
            "output_buffer_timeout": -1,
        });
        let words = [frame::MAGIC, &frame::identify(introduction.to_string().as_bytes())].concat();
        let answer = line.ask(&words).await?;
        let welcome: Welcome = serde_json::from_slice(&answer)
            .map_err(|_| Error::Refused("the answer to IDENTIFY is not nsqd's".into()))?;
        if welcome.auth_required {
            return Err(Error::Refused("this nsqd wants AUTH, which is not supported".into()));
        }
        line.in_flight_max = welcome.max_rdy_count.max(1);
        Ok(line)
    }

    /// Makes this connection one that receives.
    pub async fn subscribe(&mut self, topic: &str, channel: &str, in_flight: usize) -> Result<(), Error> {
        let answer = self.ask(&frame::subscribe(topic, channel)).await?;
        if answer != frame::OK {
            return Err(Error::Refused("the answer to SUB is not OK".into()));
        }
        self.send(&frame::ready(in_flight.min(self.in_flight_max))).await
    }

    /// Writes whole commands. Not cancel safe.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match timeout(WORD_WITHIN, self.output.write_all(bytes)).await {
            Ok(done) => done.map_err(unreachable),
            Err(_) => Err(Error::Unreachable("nsqd takes no more bytes".into())),
        }
    }

    /// The next frame. Cancel safe.
    pub async fn next(&mut self) -> Result<Frame, Error> {
        match timeout(SILENCE_MAX, self.frames.next()).await {
            Ok(frame) => frame.map_err(unreachable),
            Err(_) => Err(Error::Unreachable("nsqd is silent".into())),
        }
    }

    async fn ask(&mut self, words: &[u8]) -> Result<bytes::Bytes, Error> {
        self.send(words).await?;
        loop {
            let frame = timeout(WORD_WITHIN, self.frames.next()).await;
            match frame.map_err(|_| Error::Unreachable("no answer from nsqd".into()))? {
                Ok(Frame::Response(text)) if text == frame::HEARTBEAT => self.send(frame::NOP).await?,
                Ok(Frame::Response(text)) => return Ok(text),
                Ok(Frame::Error(text)) => return Err(Error::Refused(text)),
                Ok(Frame::Message(..)) => {
                    return Err(Error::Refused("a message in place of an answer".into()));
                }
                Err(error) => return Err(unreachable(error)),
            }
        }
    }
}

fn unreachable(error: io::Error) -> Error {
    Error::Unreachable(error.to_string())
}
