//! `tidings tail`: prints events as they come, and resumes where it was after a disconnect.

use super::Context;
use super::client::{self, Client, Failure, encode, topic_path};
use super::retry::Retry;
use super::sse::{Frame, Reader};
use super::token::duration;
use anyhow::{Result, anyhow, bail};
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Write as _;
use std::time::Duration;
use tidings::{Code, Filter, From, Topic};

/// A stream that is silent for longer is taken for dead; the server says something every 30 s.
const SILENCE_MAX: Duration = Duration::from_secs(90);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub client: client::Args,
    /// The topic, or `topic:key`
    #[arg(value_parser = |text: &str| Topic::parse(text))]
    topic: Topic,
    /// Where to begin: latest, earliest, state, a cursor, or a time (RFC 3339)
    #[arg(long, value_name = "WHERE", default_value = "latest", value_parser = from)]
    from: String,
    /// Print whole events as JSON, one a line, instead of their data
    #[arg(long)]
    json: bool,
    /// Only events of this name; several separated by commas, `*` at the end of one stands for anything
    #[arg(long, value_name = "NAMES")]
    name: Option<String>,
    /// Only events for which this holds, such as "data.total > 10 and not key == '7'"
    #[arg(long, value_name = "EXPRESSION", value_parser = filter)]
    filter: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// How long to go on trying while the server cannot be reached
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    retry: Duration,
}

/// What a frame of the stream means for the loop around it.
enum Next {
    GoOn,
    /// As many events as were asked for have been printed.
    Enough,
    /// The server ends the stream; connect again.
    Again,
}

#[derive(Deserialize)]
struct Close {
    code: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let client = Client::new(&args.client, context)?;
    let mut tail = Tail { args: &args, client: &client, cursor: None, wait: None, printed: 0 };
    let mut retry = Retry::new(args.retry);
    if args.count == Some(0) {
        return Ok(());
    }
    loop {
        let failure = match tail.connect().await {
            Ok(response) => match tail.follow(response, &mut retry).await? {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        match failure {
            // The server said when to come back; that is no failure.
            None => tokio::time::sleep(tail.wait.take().unwrap_or_default()).await,
            Some(failure) => retry.failed(failure, |text| eprintln!("tidings: {text}")).await?,
        }
    }
}

struct Tail<'a> {
    args: &'a Args,
    client: &'a Client,
    /// Behind what has been printed.
    cursor: Option<String>,
    /// When the server wants us back.
    wait: Option<Duration>,
    printed: u64,
}

impl Tail<'_> {
    async fn connect(&self) -> Result<Response, Option<Failure>> {
        let mut path = format!("{}/events?from={}", topic_path(&self.args.topic), encode(&self.args.from));
        if let Some(name) = &self.args.name {
            path.push_str(&format!("&name={}", encode(name)));
        }
        if let Some(filter) = &self.args.filter {
            path.push_str(&format!("&filter={}", encode(filter)));
        }
        let request = self.client.request(Method::GET, &path).map_err(|e| {
            let (code, detail) = (Code::Internal.to_string(), e.to_string());
            Some(Failure::Refused { code, detail, is_retryable: false })
        })?;
        let mut request = request.header("accept", "text/event-stream");
        if let Some(cursor) = &self.cursor {
            request = request.header("last-event-id", cursor);
        }
        self.client.send(request).await.map_err(Some)
    }

    /// Prints what comes. `Ok(Err(None))`: connect again at the server's request.
    async fn follow(
        &mut self,
        mut response: Response,
        retry: &mut Retry,
    ) -> Result<Result<(), Option<Failure>>> {
        let mut reader = Reader::default();
        let mut out = std::io::stdout().lock();
        loop {
            let chunk = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(Err(Some(self.lost("the stream ended")))),
                Ok(Err(error)) => return Ok(Err(Some(self.client.unreachable(&error)))),
                Err(_) => return Ok(Err(Some(self.lost("nothing came for too long")))),
            };
            retry.succeeded();
            reader.push(&chunk);
            while let Some(frame) = reader.next() {
                match self.take(frame, &mut out)? {
                    Next::GoOn => {}
                    Next::Enough => {
                        out.flush()?;
                        return Ok(Ok(()));
                    }
                    Next::Again => {
                        out.flush()?;
                        return Ok(Err(None));
                    }
                }
            }
            out.flush()?;
        }
    }

    fn take(&mut self, frame: Frame, out: &mut impl std::io::Write) -> Result<Next> {
        if let Some(ms) = frame.retry_ms {
            self.wait = Some(Duration::from_millis(ms));
        }
        let next = match (frame.event.as_deref(), frame.data.as_deref()) {
            (Some("$close"), data) => return self.closed(data.unwrap_or_default()),
            (Some("$gap"), data) => {
                eprintln!("tidings: gap: {}", data.unwrap_or_default());
                Next::GoOn
            }
            (Some("$live"), _) | (_, None) => Next::GoOn,
            (_, Some(event)) => {
                self.print(event, out)?;
                self.printed += 1;
                if self.args.count == Some(self.printed) { Next::Enough } else { Next::GoOn }
            }
        };
        // Only now: what stands before this cursor has been printed.
        if frame.id.is_some() {
            self.cursor = frame.id;
        }
        Ok(next)
    }

    fn print(&self, event: &str, out: &mut impl std::io::Write) -> Result<()> {
        if self.args.json {
            // The stream may fold an event over lines only where its JSON has them.
            return Ok(writeln!(out, "{}", event.replace('\n', " "))?);
        }
        let parsed: Event<'_> = serde_json::from_str(event).map_err(|e| {
            anyhow!("the server sent an event that cannot be read: {e} ({})", Code::JsonInvalid)
        })?;
        let data = parsed.data.map_or("null", RawValue::get);
        match serde_json::from_str::<String>(data) {
            Ok(text) => writeln!(out, "{text}")?,
            Err(_) => writeln!(out, "{}", data.replace('\n', " "))?,
        }
        Ok(())
    }

    fn closed(&self, data: &str) -> Result<Next> {
        let close: Close = serde_json::from_str(data)
            .map_err(|e| anyhow!("the server's farewell cannot be read: {e} ({})", Code::JsonInvalid))?;
        let known = Code::ALL.iter().find(|c| c.as_str() == close.code);
        let may_return = match known {
            Some(Code::TokenExpired) => self.client.makes_tokens(),
            Some(code) => code.retryable(),
            None => false,
        };
        if may_return {
            return Ok(Next::Again);
        }
        bail!("{} ({})", close.reason, close.code)
    }

    fn lost(&self, why: &str) -> Failure {
        self.client.lost(why)
    }
}

fn from(text: &str) -> Result<String> {
    From::parse(text)?;
    Ok(text.to_owned())
}

fn filter(text: &str) -> Result<String> {
    Filter::parse(text)?;
    Ok(text.to_owned())
}
