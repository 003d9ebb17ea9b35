//! Fan-out: many subscribers of one topic, each event to all of them.

use crate::args::Args;
use crate::clock::{now_ns, sleep_ns};
use crate::cost::Meter;
use crate::histogram::Histogram;
use crate::poll::Poll;
use crate::sample::Sample;
use crate::turns::{self, Work};
use crate::{publisher, subscriber};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

/// Sequences between two runs, so that a late arrival is not counted in the next.
const RUN_GAP: u64 = 1000;

/// How much is published, and how fast.
#[derive(Clone)]
struct Load {
    /// Events per second; 0: as fast as `window` allows.
    rate: f64,
    /// Events not yet delivered to everybody, at most.
    window: u64,
    publishers: usize,
    seconds: f64,
    events_max: u64,
}

/// One server under load.
struct Side {
    subscribe: subscriber::Plan,
    publish: publisher::Plan,
    pids: Vec<u32>,
    count: usize,
    /// Subscribers that each event reaches; all of them unless said otherwise.
    reach: Option<u64>,
    settle: f64,
    /// Connections are open only while their own side runs.
    is_apart: bool,
    poll: Poll,
    next_sequence: u64,
}

pub fn command(args: &Args) {
    let load = Load {
        rate: args.number("rate", 0.0),
        window: args.number("window", 16),
        publishers: args.number("pub-conns", 4),
        seconds: args.number("secs", 5.0),
        events_max: args.number("count", 5_000_000),
    };
    let mut server = Side {
        subscribe: subscriber::Plan::from_args(args),
        publish: publisher::Plan::from_args(args),
        pids: args.pids("pid"),
        count: args.number("subs", 1000),
        reach: args.optional("reach").map(|_| args.number("reach", 1)),
        settle: args.number("settle", 1.0),
        is_apart: args.is_set("apart"),
        poll: Poll::new(),
        next_sequence: 0,
    };
    let yardstick = args.optional("vs").map(|address| Side {
        subscribe: server.subscribe.at_yardstick(&address),
        publish: server.publish.at_yardstick(&address),
        pids: args.pids("vs-pid"),
        poll: Poll::new(),
        ..server
    });
    let mut work = |load: &Load| server.run(load);
    if !args.is_set("apart") {
        work(&Load { seconds: (load.seconds / 4.0).max(0.5), ..load.clone() }); // a warm-up that is not reported
    }
    let other = load.clone();
    let yardstick = yardstick.map(|mut side| -> Work<'_> { Box::new(move || side.run(&other)) });
    turns::measure(args, "fan", "deliveries", Box::new(|| work(&load)), yardstick);
}

impl Side {
    fn run(&mut self, load: &Load) -> Sample {
        if self.poll.subscribers.is_empty() {
            let mut at = 0;
            while at < self.count {
                // In parts, so that those already open are read while the rest connects.
                let to = (at + 500).min(self.count);
                let more = self.subscribe.open_all(at, to);
                self.poll.add(more);
                self.poll.round(0, |_| {});
                at = to;
            }
            self.poll.idle(self.settle);
        }
        let sample = self.fan(load);
        self.next_sequence += sample.published + sample.errors + RUN_GAP;
        if self.is_apart {
            self.poll = Poll::new();
        }
        sample
    }

    fn fan(&mut self, load: &Load) -> Sample {
        let open = self.poll.open_count() as u64;
        let count = self.reach.unwrap_or(open);
        for subscriber in &mut self.poll.subscribers {
            subscriber.next_sequence = 0;
        }
        let meter = Meter::start(&self.pids);
        let progress = Progress::new(load, meter.begun(), self.next_sequence, count);
        let (first, poll, publish) = (self.next_sequence, &mut self.poll, &self.publish);
        let mut latency = Histogram::default();
        let (mut disordered, mut closed, mut last_arrival) = (0, 0, now_ns());
        let publishers = if load.rate > 0.0 { 1 } else { load.publishers };
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..publishers).map(|_| scope.spawn(|| progress.publish(publish))).collect();
            loop {
                let before = latency.count;
                closed += poll.round(20, |arrival| {
                    if arrival.sequence >= first {
                        latency.add(arrival.now_ns.saturating_sub(arrival.sent_ns));
                        // Several publishers overtake each other before the server sees them.
                        let is_back = publishers == 1 && arrival.sequence < *arrival.next_sequence;
                        disordered += u64::from(is_back);
                        *arrival.next_sequence = arrival.sequence + 1;
                    }
                });
                if latency.count != before {
                    last_arrival = now_ns();
                    progress.delivered.store(latency.count, Relaxed);
                }
                let is_published = threads.iter().all(thread::ScopedJoinHandle::is_finished);
                let is_all = is_published && latency.count >= progress.acknowledged() * count;
                let silent_ms = (now_ns() - last_arrival) / 1_000_000;
                // Nothing for a while: what is missing is lost, or the server stands still.
                if is_all || closed >= open || silent_ms > if is_published { 1500 } else { 6000 } {
                    progress.stop.store(true, Relaxed);
                    break;
                }
            }
        });
        let seconds = (last_arrival.max(meter.begun() + 1) - meter.begun()) as f64 / 1e9;
        let published = progress.acknowledged();
        Sample {
            published,
            lost: (published * count) as i64 - latency.count as i64,
            disordered,
            errors: progress.errors.load(Relaxed),
            closed,
            ..Sample::new(latency.count, seconds, &latency, meter.stop())
        }
    }
}

/// What publishers and the reading thread know of each other.
struct Progress<'a> {
    load: &'a Load,
    begun: u64,
    first_sequence: u64,
    subscribers: u64,
    started: AtomicU64,
    done: AtomicU64,
    errors: AtomicU64,
    delivered: AtomicU64,
    stop: AtomicBool,
}

impl<'a> Progress<'a> {
    fn new(load: &'a Load, begun: u64, first_sequence: u64, subscribers: u64) -> Self {
        Self {
            load,
            begun,
            first_sequence,
            subscribers,
            started: AtomicU64::new(0),
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn acknowledged(&self) -> u64 {
        self.done.load(Relaxed) - self.errors.load(Relaxed)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Relaxed) || now_ns() >= self.begun + (self.load.seconds * 1e9) as u64
    }

    fn publish(&self, plan: &publisher::Plan) {
        let mut client = plan.open();
        while let Some(number) =
            if self.load.rate > 0.0 { self.next_by_rate() } else { self.next_by_window() }
        {
            if let Err(error) = plan.publish(&mut client, self.first_sequence + number) {
                if self.errors.fetch_add(1, Relaxed) == 0 {
                    eprintln!("publish: {error}");
                }
                client = plan.open();
            }
            self.done.fetch_add(1, Relaxed);
        }
    }

    /// Waits for the moment of the next event.
    fn next_by_rate(&self) -> Option<u64> {
        let number = self.started.load(Relaxed);
        if self.is_over() || number >= self.load.events_max {
            return None;
        }
        let due = self.begun + (number as f64 * 1e9 / self.load.rate) as u64;
        sleep_ns(due.saturating_sub(now_ns()));
        self.started.fetch_add(1, Relaxed);
        Some(number)
    }

    /// Waits until the window has room.
    fn next_by_window(&self) -> Option<u64> {
        let mut tries = 0u32;
        while !self.is_over() {
            let number = self.started.load(Relaxed);
            if number >= self.load.events_max {
                return None;
            }
            if number * self.subscribers < self.delivered.load(Relaxed) + self.load.window * self.subscribers
            {
                if self.started.compare_exchange(number, number + 1, Relaxed, Relaxed).is_ok() {
                    return Some(number);
                }
                continue;
            }
            tries += 1;
            if tries > 3 { sleep_ns(50_000) } else { thread::yield_now() }
        }
        None
    }
}
