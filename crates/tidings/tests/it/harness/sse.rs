//! A small client for server-sent events, independent of the program's own.

use super::{Server, soon};
use reqwest::{Method, Response};
use serde_json::Value;
use std::collections::VecDeque;

#[derive(Debug, Clone, Default)]
pub struct Frame {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
    pub retry: Option<u64>,
}

pub struct Sse {
    response: Response,
    text: Vec<u8>,
    frames: VecDeque<Frame>,
    /// The newest cursor of what was taken out with [`Sse::next`].
    pub cursor: Option<String>,
}

impl Sse {
    pub async fn open(server: &Server, path: &str, token: &str, cursor: Option<&str>) -> Self {
        let response = Self::try_open(server, path, token, cursor).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self::of(response, cursor)
    }

    pub async fn try_open(
        server: &Server,
        path: &str,
        token: &str,
        cursor: Option<&str>,
    ) -> reqwest::Result<Response> {
        let mut request = server.request(Method::GET, path, token).header("accept", "text/event-stream");
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        request.send().await
    }

    pub fn of(response: Response, cursor: Option<&str>) -> Self {
        Self { response, text: Vec::new(), frames: VecDeque::new(), cursor: cursor.map(Into::into) }
    }

    /// The next frame; `None` when the stream has ended or broken.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                if frame.id.is_some() {
                    self.cursor.clone_from(&frame.id);
                }
                return Some(frame);
            }
            let chunk = soon("a frame", self.response.chunk()).await.ok()??;
            self.text.extend_from_slice(&chunk);
            self.parse();
        }
    }

    fn parse(&mut self) {
        let Some(end) = self.text.windows(2).rposition(|two| two == b"\n\n") else { return };
        let whole: Vec<u8> = self.text.drain(..end + 2).collect();
        let whole = String::from_utf8(whole).expect("frames are UTF-8");
        for block in whole.split("\n\n").filter(|b| !b.is_empty()) {
            let mut frame = Frame::default();
            for line in block.lines() {
                match line.split_once(": ").unwrap_or((line, "")) {
                    ("id", id) => frame.id = Some(id.into()),
                    ("event", event) => frame.event = Some(event.into()),
                    ("retry", ms) => frame.retry = Some(ms.parse().expect("milliseconds")),
                    ("data", data) => {
                        let before = frame.data.take().map_or(String::new(), |d| d + "\n");
                        frame.data = Some(before + data);
                    }
                    ("" | ":", _) => {}
                    _ => assert!(line.starts_with(':'), "not a line of SSE: {line:?}"),
                }
            }
            if frame.id.is_some() || frame.data.is_some() || frame.retry.is_some() {
                self.frames.push_back(frame);
            }
        }
    }

    /// The next event, in passing over frames that are none; `None` when the stream has ended.
    pub async fn try_event(&mut self) -> Option<Value> {
        loop {
            let frame = self.next().await?;
            let is_own = frame.event.as_ref().is_some_and(|e| e.starts_with('$'));
            assert!(frame.event.as_deref() != Some("$gap"), "a gap: {frame:?}");
            if let (Some(data), false) = (&frame.data, is_own) {
                return Some(serde_json::from_str(data).expect("an event is JSON"));
            }
        }
    }

    pub async fn event(&mut self) -> Value {
        self.try_event().await.expect("the stream goes on")
    }

    /// Reads on to a frame of the server's own.
    pub async fn own(&mut self, name: &str) -> Value {
        loop {
            let frame = self.next().await.unwrap_or_else(|| panic!("the stream ended without {name}"));
            if frame.event.as_deref() == Some(name) {
                return serde_json::from_str(frame.data.as_deref().unwrap_or("null")).expect("JSON");
            }
        }
    }

    /// Whether the server has ended the stream after this.
    pub async fn is_over(&mut self) -> bool {
        self.next().await.is_none()
    }
}
