//! Tasks with a name and an end.
//!
//! Owns: the stop signal, and knowing which tasks still run. Never: restarts anything.

use std::future::Future;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where every background task of one Tidings is spawned. Cheap to clone.
#[derive(Clone, Default)]
pub struct Services {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Services {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends by itself; it watches [`Services::stop`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tracing::trace!(task = name, "starts");
        // Not wrapped: a wrapper would double the memory of every connection's task.
        self.tasks.spawn(task);
    }

    /// As [`Services::spawn`], for work that may lose its point before it is done.
    pub fn spawn_abortable(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        tracing::trace!(task = name, "starts");
        self.tasks.spawn(task).abort_handle()
    }

    /// Requested when everything shall end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Asks every task to end and waits for them; `false` if some did not within `limit`.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}
