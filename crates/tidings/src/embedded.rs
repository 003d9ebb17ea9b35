//! A hub inside another program: the log in a directory, and no socket.
//!
//! Owns: opening and closing in the right order. Never: authenticates; the embedding program says who asks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::{Hub, Services, Tidings};
use tidings_log::embedded::{EmbeddedLog, Options};
use tidings_log::{Clock, Error, SystemClock};
use tidings_model::Limits;

/// How long background tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);
/// How often retention is applied.
const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// A running hub over a directory. Dereferences to the [`Tidings`] handle, which may be cloned freely.
pub struct Embedded {
    tidings: Tidings,
    services: Services,
}

impl Embedded {
    /// Opens the log in `dir`, which is created if it is not there, and starts the schedule and retention.
    ///
    /// # Errors
    /// When another process uses the directory, or when what lies there cannot be read.
    pub async fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let clock = Arc::new(SystemClock);
        Self::open_with(dir, Options::default(), Limits::default(), clock, RETENTION_EVERY).await
    }

    /// As [`Embedded::open`], with everything that can be set.
    pub async fn open_with(
        dir: impl AsRef<Path>,
        options: Options,
        limits: Limits,
        clock: Arc<dyn Clock>,
        retention_every: Duration,
    ) -> Result<Self, Error> {
        let hub = Arc::new(Hub::new(&limits));
        let (dir, observer, log_clock) = (dir.as_ref().to_owned(), Arc::clone(&hub), Arc::clone(&clock));
        let open = move || EmbeddedLog::open(&dir, options, log_clock, observer);
        let log = tokio::task::spawn_blocking(open).await.expect("opening does not panic")?;
        let tidings = Tidings::new(Arc::new(log), hub, clock, limits);
        let settings = async {
            tidings.load_reach().await?;
            tidings.load_rules().await?;
            tidings.load_schemas().await?;
            tidings.load_captured().await
        };
        settings.await.map_err(|error| reading("the topics' settings", error))?;
        tidings.load_destinations().await.map_err(|error| reading("destinations", error))?;
        let services = Services::new();
        tidings.start(&services, retention_every);
        Ok(Self { tidings, services })
    }

    /// The handle: publish, schedule, cancel, read, subscribe.
    pub fn tidings(&self) -> &Tidings {
        &self.tidings
    }

    /// Where the background tasks of this hub run.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Ends the background tasks and lets go of the directory. What was acknowledged is durable in any case.
    pub async fn close(self) -> Result<(), Error> {
        self.close_within(DRAIN).await
    }

    /// As [`Embedded::close`], and tasks may take until `limit` to end.
    pub async fn close_within(self, limit: Duration) -> Result<(), Error> {
        if !self.services.drain(limit).await {
            tracing::warn!("some connections or tasks did not end in time");
        }
        self.tidings.log().close().await
    }
}

/// What was stored cannot be read.
fn reading(what: &str, error: tidings_engine::Error) -> Error {
    match error {
        tidings_engine::Error::Log(error) => error,
        error => Error::Store { doing: format!("reading {what}"), what: error.to_string() },
    }
}

impl std::ops::Deref for Embedded {
    type Target = Tidings;

    fn deref(&self) -> &Tidings {
        &self.tidings
    }
}
