//! One task a source: it connects, streams, and connects again, for as long as the process lives.
//!
//! Owns: the pauses between tries, the status, and what is said about a fault. A [`Driver`] knows only how its
//! database is spoken to.
//! Never: ends because of what a database does.

use super::looks::SILENT;
use super::{Fault, Settings, Table};
use crate::backoff::{Backoff, LONGEST};
use futures_util::FutureExt as _;
use std::future::Future;
use std::pin::pin;
use std::time::Instant;
use tidings_engine::{Capture, Services, SourceReport, Tidings, TopicSettings};
use tidings_log::Mark;
use tidings_model::{Code, Offset, Principal, TopicName};

/// How one kind of database is read in one mode.
pub trait Driver: Send + 'static {
    /// Connects, finds where it had got to, and streams until something breaks; says what did.
    ///
    /// It reports its state at the desk. Dropping the future ends the connection and loses nothing: what was not
    /// committed comes again in the next run.
    fn run(&mut self, desk: &Desk) -> impl Future<Output = Fault> + Send;
}

/// Where a driver hands in what it has found, and says how it is doing. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// The source's name.
    pub name: String,
    /// Where its database is.
    database: String,
    pub tidings: Tidings,
    pub report: SourceReport,
}

impl Desk {
    pub fn new(tidings: &Tidings, settings: &Settings) -> Self {
        let (name, database, kind) = (settings.name.clone(), settings.database(), settings.kind);
        let mode = settings.mode().as_str(kind);
        let report = tidings.sources().register(&name, kind.as_str(), mode, &database);
        Self { name, database, tidings: tidings.clone(), report }
    }

    /// Whether a topic has had any event, so that whoever follows it has to be told when it begins anew.
    pub fn has_events(&self, topic: &TopicName) -> bool {
        self.tidings.log().bounds(topic).is_some_and(|bounds| bounds.tail > Offset::ZERO)
    }

    /// Makes `topics` this source's own; those that it had beside them are anybody's again.
    pub async fn own(&self, topics: Vec<TopicName>) -> Result<(), Fault> {
        self.tidings.captured(&self.name, &topics).await.map_err(|error| match error.code() {
            Code::TopicCaptured => {
                Fault::setting(format!("{error}; set another `prefix`, or take the table out of `tables`"))
            }
            _ => refused(error),
        })
    }

    /// Makes the topics of `tables` this source's own, and lays what the settings say of each over it.
    pub async fn take(&self, topics: Vec<TopicName>, tables: &[Table]) -> Result<(), Fault> {
        self.own(topics.clone()).await?;
        for (topic, table) in topics.iter().zip(tables) {
            self.rule(topic, table).await?;
        }
        Ok(())
    }

    /// Lays what the source's settings say of a table over what is set for its topic.
    async fn rule(&self, topic: &TopicName, table: &Table) -> Result<(), Fault> {
        let refuse = |error: tidings_engine::Error| match error.code().retryable() {
            true => Fault::lost(error),
            false => Fault::setting(format!("the settings of table {}: {error}", table.name)),
        };
        let admin = Principal::admin();
        let (_, mut settings) = match self.tidings.topic(&admin, topic).await {
            Err(error) if error.code() == Code::TopicUnknown => (None, TopicSettings::default()),
            found => found.map_err(refuse)?,
        };
        let before = settings.clone();
        settings.row_rule = table.rows.clone().or(settings.row_rule);
        settings.filter_columns = table.filter.clone().or(settings.filter_columns);
        if settings != before {
            self.tidings.set_topic(&admin, topic, &settings).await.map_err(refuse)?;
        }
        Ok(())
    }

    /// Commits events and marks together: after `Ok` both are durable, after `Err` neither.
    pub async fn capture(&self, capture: Capture) -> Result<(), Fault> {
        let count = capture.events.len() + capture.messages.len();
        self.tidings.capture(capture).await.map_err(refused)?;
        self.report.captured(count);
        Ok(())
    }

    /// The same, but those who read live are told when `seen` has come true. Messages go to topics that are not the source's alone, so with these everything waits.
    pub async fn capture_once(
        &self,
        seen: impl Future<Output = Result<(), Fault>>,
        capture: Capture,
    ) -> Result<(), Fault> {
        let silent = |_| Err(Fault::lost("the database does not answer whether other sessions see a commit"));
        let seen = tokio::time::timeout(SILENT, seen).map(|seen| seen.unwrap_or_else(silent));
        let (count, mut seen) = (capture.events.len(), pin!(seen));
        // First the question: its answer comes while this thread syncs, and is read by the one that has synced.
        if let Some(seen) = seen.as_mut().now_or_never() {
            seen?;
            return self.capture(capture).await;
        }
        if !capture.messages.is_empty() {
            seen.await?;
            return self.capture(capture).await;
        }
        let held = self.tidings.hold(capture.events.iter().map(|event| event.topic.name.clone()));
        let captured = held.capture(capture).await;
        let seen = seen.await;
        drop(held);
        captured.map_err(refused)?;
        self.report.captured(count);
        seen
    }

    /// Commits a mark alone.
    pub async fn mark(&self, mark: Mark) -> Result<(), Fault> {
        let source = self.name.as_str().into();
        self.capture(Capture { source, marks: vec![mark], ..Capture::default() }).await
    }
}

fn refused(error: tidings_engine::Error) -> Fault {
    Fault::lost(format!("the log takes nothing: {error}"))
}

/// Runs `driver` until the services end.
pub fn supervise(driver: impl Driver, desk: Desk, services: &Services) {
    let stop = services.stop().clone();
    services.spawn("source", async move {
        stop.run_until_cancelled_owned(keep_running(driver, desk)).await;
    });
}

async fn keep_running(mut driver: impl Driver, desk: Desk) {
    let mut backoff = Backoff::default();
    let mut told = None;
    loop {
        let since = Instant::now();
        let fault = driver.run(&desk).await;
        backoff.lasted(since.elapsed());
        let random = getrandom::u32().unwrap_or(0);
        let pause = match &fault {
            Fault::Lost(why) => {
                desk.report.waiting(why);
                backoff.next(random)
            }
            Fault::Setting(what_to_do) => {
                desk.report.failed(what_to_do);
                LONGEST / 2 + (LONGEST / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
            }
        };
        if told.as_ref() != Some(&fault) {
            match &fault {
                Fault::Lost(why) => {
                    tracing::warn!(
                        source = desk.name,
                        database = desk.database,
                        why,
                        "a source is out of reach; trying again"
                    );
                }
                Fault::Setting(what_to_do) => {
                    tracing::error!(
                        source = desk.name,
                        database = desk.database,
                        what_to_do,
                        "a source cannot be captured as it is set"
                    );
                }
            }
            told = Some(fault);
        }
        tokio::time::sleep(pause).await;
    }
}
