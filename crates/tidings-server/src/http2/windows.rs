//! How much either side may send (RFC 9113, section 5.2).
//!
//! Owns: what a client may make us keep of its bodies, and when it is told that there is room again.

use super::Answers;
use super::connection::Connection;
use super::frame::{self, Fault, Reason, WINDOW_MAX};
use super::receive::PROTOCOL;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a client may send on a stream beyond what was read, and on all streams of a connection.
pub const STREAM_WINDOW: i64 = 1 << 20;
pub const CONNECTION_WINDOW: i64 = 2 << 20;

impl<T: AsyncRead + AsyncWrite + Unpin, A: Answers> Connection<T, A> {
    /// Lets the client send as much again as was read of a stream's body.
    pub(super) fn give_back(&mut self, place: usize) {
        let Some(stream) = self.streams.at(place) else { return };
        let Some(inbox) = &stream.inbox else { return };
        let (read, is_left) = (inbox.take_read(), inbox.is_left());
        if stream.is_over && is_left {
            stream.inbox = None; // Nothing more comes of it.
        }
        self.credit += read;
        stream.credit += read;
        if stream.credit as i64 >= STREAM_WINDOW / 2 && !stream.is_over {
            stream.receive += stream.credit as i64;
            frame::put_window(&mut self.out.bytes, stream.id, std::mem::take(&mut stream.credit) as u32);
        }
    }

    pub(super) fn open_window(&mut self) {
        if self.credit as i64 >= CONNECTION_WINDOW / 4 {
            self.receive += self.credit as i64;
            frame::put_window(&mut self.out.bytes, 0, std::mem::take(&mut self.credit) as u32);
        }
    }

    /// The client gives every stream another window, those that are open included.
    pub(super) fn widen(&mut self, window: i64) -> Result<(), Fault> {
        let more = window - std::mem::replace(&mut self.out.stream_window, window);
        for stream in self.streams.all() {
            stream.send += more;
            if stream.send > WINDOW_MAX {
                return Err(Fault::Connection(Reason::FlowControl));
            }
        }
        self.streams.release();
        if window > WINDOW_MAX { Err(Fault::Connection(Reason::FlowControl)) } else { Ok(()) }
    }

    pub(super) fn window(&mut self, id: u32, payload: &[u8]) -> Result<(), Fault> {
        let more = i64::from(frame::number(payload)?) & WINDOW_MAX;
        if id == 0 {
            self.out.window += more;
            self.streams.release();
            return match self.out.window {
                _ if more == 0 => Err(PROTOCOL),
                window if window > WINDOW_MAX => Err(Fault::Connection(Reason::FlowControl)),
                _ => Ok(()),
            };
        }
        self.begun(id)?;
        let Some((place, stream)) = self.streams.find(id) else { return Ok(()) };
        stream.send += more;
        if more == 0 || stream.send > WINDOW_MAX {
            let reason = if more == 0 { Reason::Protocol } else { Reason::FlowControl };
            return Err(Fault::Stream(id, reason));
        }
        self.streams.release_one(place);
        Ok(())
    }
}
