//! Sends events in bounded requests, each acknowledged before the next.
//!
//! Owns: that every event arrives once although the server may be started again in between: each has an id,
//! and a request that was not acknowledged is sent again with the same ids, which the server remembers.

use super::client::{Client, Failure, topic_path};
use super::retry::Retry;
use anyhow::{Result, anyhow};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::time::Duration;
use tidings::Topic;

/// Events in one request, and bytes.
pub const BATCH_LINES: usize = 1000;
pub const BATCH_BYTES: u64 = 1 << 20;
/// A server that has not answered a request within this time is taken for gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Sender<'a> {
    client: &'a Client,
    retry: Retry,
    progress: Option<ProgressBar>,
    sent: u64,
}

impl<'a> Sender<'a> {
    pub fn new(client: &'a Client, retry: Duration) -> Self {
        let progress = std::io::stderr().is_terminal().then(bar);
        Self { client, retry: Retry::new(retry), progress, sent: 0 }
    }

    /// Sends `count` events as NDJSON that took `bytes` of the input; returns when they are durable.
    pub async fn send(
        &mut self,
        topic: &Topic,
        ndjson: Vec<u8>,
        count: u64,
        bytes: u64,
    ) -> Result<(), Failure> {
        let (path, body) = (format!("{}/events", topic_path(topic)), Bytes::from(ndjson));
        loop {
            match self.once(&path, body.clone()).await {
                Ok(()) => break,
                Err(failure) => self.retry.failed(failure, |text| say(self.progress.as_ref(), text)).await?,
            }
        }
        self.retry.succeeded();
        self.sent += count;
        if let Some(bar) = &self.progress {
            bar.set_message(self.sent.to_string());
            bar.inc(bytes);
        }
        Ok(())
    }

    async fn once(&self, path: &str, body: Bytes) -> Result<(), Failure> {
        let request = self.client.request(Method::POST, path).map_err(|e| Failure::Refused {
            code: tidings::Code::Internal.to_string(),
            detail: e.to_string(),
            is_retryable: false,
        })?;
        let request =
            request.header("content-type", "application/x-ndjson").timeout(ANSWER_TIMEOUT).body(body);
        let response = self.client.send(request).await?;
        // Read to the end: an answer that was cut is no acknowledgement.
        response.bytes().await.map(drop).map_err(|e| self.client.unreachable(&e))
    }

    /// Ends the progress bar and says how many events were acknowledged, whatever became of the rest.
    pub fn finish(self, to: &str) {
        if let Some(bar) = self.progress {
            bar.finish_and_clear();
        }
        let what = if self.sent == 1 { "event" } else { "events" };
        eprintln!("published {} {what}{to}", self.sent);
    }

    /// Adds to a failure which lines of the input it was about.
    pub fn explain(failure: Failure, first: u64, last: u64) -> anyhow::Error {
        match failure {
            Failure::Unreachable { .. } => anyhow!("{failure}; lines from {first} on are not acknowledged"),
            Failure::Refused { .. } if first == last => anyhow!("line {first}: {failure}"),
            Failure::Refused { .. } => anyhow!("lines {first} to {last}: {failure}"),
        }
    }
}

fn say(bar: Option<&ProgressBar>, text: &str) {
    match bar {
        Some(bar) => bar.println(format!("tidings: {text}")),
        None => eprintln!("tidings: {text}"),
    }
}

fn bar() -> ProgressBar {
    // Only a file has an end that is known beforehand.
    let file = std::io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let length = file.and_then(|f| f.metadata()).ok().filter(|m| m.is_file()).map(|m| m.len());
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:30} {percent:>3}% {msg} events, {elapsed}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {msg} events, {bytes}, {elapsed}"),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(ProgressStyle::with_template(template).expect("a valid template")).with_message("0")
}
