//! One clock for every process of the machine.

/// CLOCK_MONOTONIC in nanoseconds.
#[inline]
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub fn sleep_ns(ns: u64) {
    std::thread::sleep(std::time::Duration::from_nanos(ns));
}

pub fn sleep_ms(ms: u64) {
    sleep_ns(ms * 1_000_000);
}

pub fn seconds_since(begun_ns: u64) -> f64 {
    (now_ns() - begun_ns) as f64 / 1e9
}
