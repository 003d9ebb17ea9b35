//! Single publishes: keep-alive connections, each waits for the acknowledgement of its event.

use crate::args::{Args, die};
use crate::clock::{now_ns, seconds_since, sleep_ms};
use crate::cost::Meter;
use crate::histogram::Histogram;
use crate::publisher::Plan;
use crate::sample::Sample;
use crate::turns::{self, Work};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

/// Publishing to every topic once, before anything is measured, takes at most this long.
const WARM_UP_SECONDS_MAX: f64 = 60.0;

struct Side {
    plan: Plan,
    pids: Vec<u32>,
    connections: usize,
    next_sequence: AtomicU64,
}

pub fn command(args: &Args) {
    let seconds: f64 = args.number("secs", 4.0);
    let plan = Plan::from_args(args);
    let connections = args.number("conns", 64);
    let side = |plan, pids| Side { plan, pids, connections, next_sequence: AtomicU64::new(0) };
    let server = side(plan.clone(), args.pids("pid"));
    let yardstick = args.optional("vs").map(|a| side(plan.at_yardstick(&a), args.pids("vs-pid")));
    for side in std::iter::once(&server).chain(&yardstick) {
        let begun = now_ns();
        side.run(1.0);
        // A topic's first event creates it, which is not what is measured.
        while side.next_sequence.load(Relaxed) < side.plan.topics {
            if seconds_since(begun) > WARM_UP_SECONDS_MAX {
                die("not every topic could be reached in time");
            }
            side.run(1.0);
        }
    }
    let yardstick = yardstick.as_ref().map(|side| -> Work<'_> { Box::new(move || side.run(seconds)) });
    turns::measure(args, "pub", "acknowledged", Box::new(|| server.run(seconds)), yardstick);
}

impl Side {
    fn run(&self, seconds: f64) -> Sample {
        let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut latency = Histogram::default();
        let mut errors = 0;
        let mut cost = None;
        thread::scope(|scope| {
            let spawn = |_| {
                let builder = thread::Builder::new().stack_size(256 << 10);
                builder.spawn_scoped(scope, || self.publish(&go, &stop))
            };
            let threads: Vec<_> = (0..self.connections)
                .map(|i| spawn(i).unwrap_or_else(|error| die(format!("thread: {error}"))))
                .collect();
            sleep_ms(300);
            let meter = Meter::start(&self.pids);
            go.store(true, Relaxed);
            sleep_ms((seconds * 1e3) as u64);
            stop.store(true, Relaxed);
            cost = Some(meter.stop());
            for thread in threads {
                let (own, failed) = thread.join().expect("a publisher does not panic");
                latency.merge(&own);
                errors += failed;
            }
        });
        let cost = cost.unwrap_or_default();
        let sample = Sample::new(latency.count, cost.seconds, &latency, cost);
        Sample { published: latency.count, errors, ..sample }
    }

    fn publish(&self, go: &AtomicBool, stop: &AtomicBool) -> (Histogram, u64) {
        let (mut latency, mut errors) = (Histogram::default(), 0);
        let mut client = self.plan.open();
        while !go.load(Relaxed) {
            sleep_ms(1);
        }
        while !stop.load(Relaxed) {
            let begun = now_ns();
            match self.plan.publish(&mut client, self.next_sequence.fetch_add(1, Relaxed)) {
                Ok(()) => latency.add(now_ns() - begun),
                Err(error) => {
                    if errors == 0 {
                        eprintln!("publish: {error}");
                    }
                    errors += 1;
                    sleep_ms(10);
                    client = self.plan.open();
                }
            }
        }
        (latency, errors)
    }
}
