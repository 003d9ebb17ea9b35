//! What processes use, from /proc.

use std::fs;

/// Sums over a set of processes.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub user_us: u64,
    pub system_us: u64,
    pub rss_kb: u64,
    pub pss_kb: u64,
    pub threads: u64,
}

impl Usage {
    /// CPU from /proc/PID/stat (ticks of 10 ms), resident memory from /proc/PID/status.
    pub fn of(pids: &[u32]) -> Self {
        let mut usage = Self::default();
        for pid in pids {
            let Some(fields) = stat(*pid) else { continue };
            let number = |i: usize| fields.get(i).and_then(|f: &String| f.parse::<u64>().ok()).unwrap_or(0);
            usage.user_us += number(11) * tick_us();
            usage.system_us += number(12) * tick_us();
            usage.threads += number(17);
            usage.rss_kb += kilobytes(&format!("/proc/{pid}/status"), "VmRSS:");
        }
        usage
    }

    /// The same with the proportional share of shared pages, which takes the kernel longer to find out.
    pub fn with_share(pids: &[u32]) -> Self {
        let pss_kb = pids.iter().map(|pid| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum();
        Self { pss_kb, ..Self::of(pids) }
    }

    pub fn cpu_us(&self) -> u64 {
        self.user_us + self.system_us
    }
}

/// Microseconds of one clock tick.
pub fn tick_us() -> u64 {
    // SAFETY: no preconditions; the answer is 100 on every Linux we know.
    1_000_000 / unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64
}

/// Every pid given and, transitively, its children.
pub fn with_children(pids: &[u32]) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>()
            && let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok())
        {
            parents.push((pid, parent));
        }
    }
    let mut all = pids.to_vec();
    let mut next = 0;
    while let Some(&own) = all.get(next) {
        for (pid, parent) in &parents {
            if *parent == own && !all.contains(pid) {
                all.push(*pid);
            }
        }
        next += 1;
    }
    all
}

/// The fields of /proc/PID/stat that follow the name, which may itself hold blanks and brackets.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = &text[text.rfind(')')? + 1..];
    Some(fields.split_whitespace().map(String::from).collect())
}

fn kilobytes(path: &str, field: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_knows_its_children() {
        let own = Usage::with_share(&[std::process::id()]);
        assert!(own.rss_kb > 100 && own.pss_kb > 0 && own.threads > 0);
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let all = with_children(&[std::process::id()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(all.contains(&child.id()));
    }
}
