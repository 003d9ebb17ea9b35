//! The machine as a whole: who else uses it, and what it allows.

use crate::clock::{now_ns, seconds_since, sleep_ms};
use crate::process::tick_us;
use std::fs;

/// CPU time of all cores since the machine started.
#[derive(Clone, Copy, Default)]
pub struct Busy {
    pub busy_us: u64,
    /// What the hypervisor gave to others.
    pub steal_us: u64,
}

impl Busy {
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or("").split_whitespace().skip(1);
        let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
        let sum = |fields: &[usize]| fields.iter().filter_map(|i| ticks.get(*i)).sum::<u64>() * tick_us();
        Self { busy_us: sum(&[0, 1, 2, 5, 6]), steal_us: sum(&[7]) }
    }
}

/// TCP socket memory of the machine in bytes.
pub fn tcp_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or("");
    let pages = line.split_whitespace().skip_while(|word| *word != "mem").nth(1);
    pages.and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Waits until the machine uses less than `percent` of one core for 0.6 s, at most `seconds_max`.
pub fn wait_until_quiet(percent: f64, seconds_max: f64) {
    let begun = now_ns();
    let mut calm = 0;
    while percent > 0.0 && calm < 3 && seconds_since(begun) < seconds_max {
        let (before, at) = (Busy::now(), now_ns());
        sleep_ms(200);
        let used = (Busy::now().busy_us - before.busy_us) as f64 / 1e6 / seconds_since(at) * 100.0;
        calm = if used < percent { calm + 1 } else { 0 };
    }
}

/// Raises the number of files this process may open as far as allowed.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for one rlimit; a refusal leaves the old limit, which is good enough.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}
