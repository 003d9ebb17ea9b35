//! Idle connections: memory of each, and what keeping them costs.

use crate::args::{Args, die};
use crate::clock::{now_ns, seconds_since};
use crate::cost::Meter;
use crate::json::Line;
use crate::machine::tcp_memory;
use crate::poll::Poll;
use crate::process::{Usage, with_children};
use crate::subscriber::Plan;

pub fn command(args: &Args) {
    let plan = Plan::from_args(args);
    let counts = args.text("conns", "1000,10000");
    let settle: f64 = args.number("settle", 3.0);
    let hold: f64 = args.number("hold", 40.0);
    let label = args.text("label", "idle");
    let given = args.pids("pid");
    let pids = || if args.is_set("tree") { with_children(&given) } else { given.clone() };
    let base = Usage::with_share(&pids());
    let tcp_before = tcp_memory();
    println!("{label}: at first rss {:.1} MB, {} threads", base.rss_kb as f64 / 1024.0, base.threads);
    let mut poll = Poll::new();
    for count in counts.split(',') {
        let count: usize = count.parse().unwrap_or_else(|_| die(format!("--conns {count}")));
        let begun = now_ns();
        let from = poll.subscribers.len();
        for at in (from..count).step_by(500) {
            let more = plan.open_all(at, (at + 500).min(count));
            poll.add(more);
            poll.round(1, |_| {});
        }
        let connect_s = seconds_since(begun);
        let mut closed = poll.idle(settle);
        let meter = Meter::start(&pids());
        closed += poll.idle(hold);
        let cost = meter.stop();
        let usage = Usage::with_share(&pids());
        let each = |now: u64, before: u64| (now as f64 - before as f64) * 1024.0 / count as f64;
        let (rss, pss) = (each(usage.rss_kb, base.rss_kb), each(usage.pss_kb, base.pss_kb));
        let cpu_percent = 100.0 * cost.server_s() / cost.seconds;
        println!(
            "{label}: {count} connections ({connect_s:.1} s for the last {}): rss {:.1} MB, {rss:.0} B each (pss \
             {pss:.0}); {cpu_percent:.2}% of a core over {hold} s; {} threads; {closed} closed; kernel's TCP \
             memory +{} KB",
            count - from,
            usage.rss_kb as f64 / 1024.0,
            usage.threads,
            tcp_memory().saturating_sub(tcp_before) / 1024,
        );
        Line::new("idle-summary", &label)
            .plain("conns", count)
            .number("bytes_per_conn", rss)
            .number("bytes_per_conn_pss", pss)
            .number("rss_mb", usage.rss_kb as f64 / 1024.0)
            .number("cpu_percent", cpu_percent)
            .number("connect_s", connect_s)
            .plain("closed", closed)
            .emit(args);
    }
}
