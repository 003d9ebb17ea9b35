//! One task a source: it connects, streams, and connects again, for as long as the process lives.
//!
//! Owns: the pauses between tries, the status, and what is said about a fault. A [`Driver`] knows only how its
//! database is spoken to.
//! Never: ends because of what a database does.

use super::Fault;
use crate::backoff::{Backoff, LONGEST};
use std::future::Future;
use std::time::Instant;
use tidings_engine::{Services, SourceReport, Tidings};

/// How one kind of database is read in one mode.
pub trait Driver: Send + 'static {
    /// Connects, finds where it had got to, and streams until something breaks; says what did.
    ///
    /// It reports its state at the desk. Dropping the future ends the connection and loses nothing: what was not
    /// committed comes again in the next run.
    fn run(&mut self, desk: &Desk) -> impl Future<Output = Fault> + Send;
}

/// Where a driver hands in what it has found, and says how it is doing.
pub struct Desk {
    /// The source's name.
    pub name: String,
    pub tidings: Tidings,
    pub report: SourceReport,
}

impl Desk {
    pub fn new(tidings: &Tidings, name: &str, kind: &'static str, mode: &'static str) -> Self {
        let report = tidings.sources().register(name, kind, mode);
        Self { name: name.to_owned(), tidings: tidings.clone(), report }
    }
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
                    tracing::warn!(source = desk.name, why, "a source is out of reach; trying again");
                }
                Fault::Setting(what_to_do) => {
                    tracing::error!(
                        source = desk.name,
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
