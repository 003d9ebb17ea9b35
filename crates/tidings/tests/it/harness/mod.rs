//! Starts the real program, speaks to it as a client does, and leaves nothing behind.

pub mod entities;
mod program;
mod random;
mod server;
mod sse;
mod ws;

pub use program::{Done, Program, finish};
pub use random::Random;
pub use server::{Server, code, now_s};
pub use sse::Sse;
pub use ws::Ws;

use std::future::Future;
use std::time::Duration;

/// Longer than anything healthy takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Asks again and again until the answer is yes.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    soon(what, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
