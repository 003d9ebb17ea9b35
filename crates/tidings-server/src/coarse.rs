//! A timer for request heads that costs nothing while heads arrive in time.
//!
//! The HTTP library arms a timer before each request's head and drops it when the head is there. In the
//! runtime's timer wheel that is a lock and an entry twice a request. Here it is only a deadline that is
//! looked at whenever the connection is polled, and `listen` polls each connection now and then.

use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Deadlines that are noticed late by at most the time between two polls.
#[derive(Clone, Copy)]
pub struct Coarse;

struct Deadline(Instant);

impl Timer for Coarse {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline(deadline))
    }
}

impl Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
