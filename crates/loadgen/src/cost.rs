//! What a piece of work cost: the server's CPU, our own, everybody else's.

use crate::clock::{now_ns, seconds_since};
use crate::machine::Busy;
use crate::process::Usage;

/// Running costs since a moment.
pub struct Meter {
    pids: Vec<u32>,
    server: Usage,
    own: Usage,
    machine: Busy,
    begun: u64,
}

/// CPU seconds, and the server's memory at the end.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    pub seconds: f64,
    pub user_s: f64,
    pub system_s: f64,
    pub own_s: f64,
    pub other_s: f64,
    pub steal_s: f64,
    pub rss_mb: f64,
}

impl Meter {
    pub fn start(pids: &[u32]) -> Self {
        let (server, own) = (Usage::of(pids), Usage::of(&[std::process::id()]));
        Self { pids: pids.to_vec(), server, own, machine: Busy::now(), begun: now_ns() }
    }

    pub fn begun(&self) -> u64 {
        self.begun
    }

    pub fn stop(self) -> Cost {
        let seconds = seconds_since(self.begun);
        let (server, own) = (Usage::of(&self.pids), Usage::of(&[std::process::id()]));
        let machine = Busy::now();
        let s = |after: u64, before: u64| after.saturating_sub(before) as f64 / 1e6;
        let cost = Cost {
            seconds,
            user_s: s(server.user_us, self.server.user_us),
            system_s: s(server.system_us, self.server.system_us),
            own_s: s(own.cpu_us(), self.own.cpu_us()),
            other_s: 0.0,
            steal_s: s(machine.steal_us, self.machine.steal_us),
            rss_mb: server.rss_kb as f64 / 1024.0,
        };
        let known = cost.server_s() + cost.own_s;
        Cost { other_s: (s(machine.busy_us, self.machine.busy_us) - known).max(0.0), ..cost }
    }
}

impl Cost {
    pub fn server_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}
