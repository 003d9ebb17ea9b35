//! Yardstick and server in turn, so that a machine whose speed drifts moves both.
//!
//! The order is Y S Y S .. Y; each run of the server is compared with the mean of the yardstick's runs right
//! before and after it. A run in which others used the machine is marked and tried again.

use crate::args::Args;
use crate::clock::sleep_ms;
use crate::json::Line;
use crate::machine::wait_until_quiet;
use crate::sample::Sample;

/// One run of the server, and the yardstick around it.
struct Turn {
    server: Sample,
    yardstick: Option<Sample>,
    is_noisy: bool,
}

/// Does the same work on one side.
pub type Work<'a> = Box<dyn FnMut() -> Sample + 'a>;

/// Runs both, prints each run and the summary, and writes them where `--out` says.
pub fn measure(args: &Args, kind: &str, unit: &str, mut server: Work<'_>, mut yardstick: Option<Work<'_>>) {
    let runs: usize = args.number("runs", 3);
    let quiet: f64 = args.number("quiet", 0.0);
    let wait: f64 = args.number("max-wait", 30.0);
    let label = args.text("label", kind);
    let mut turns: Vec<Turn> = Vec::new();
    let attempts = if quiet > 0.0 { runs * 3 } else { runs };
    let mut run_yardstick = || {
        let sample = yardstick.as_mut().map(|work| {
            wait_until_quiet(quiet, wait);
            work()
        })?;
        println!("{label} yardstick: {}", sample.show(unit));
        sample.write(Line::new(&format!("{kind}-yardstick"), &label)).emit(args);
        Some(sample)
    };
    let mut before = run_yardstick();
    while turns.len() < attempts && turns.iter().filter(|turn| !turn.is_noisy).count() < runs {
        sleep_ms(200);
        wait_until_quiet(quiet, wait);
        let sample = server();
        let run = turns.len();
        let is_noisy = quiet > 0.0 && sample.cost.other_s > 0.3 * sample.cost.seconds;
        println!("{label} run{run}{}: {}", if is_noisy { " NOISY" } else { "" }, sample.show(unit));
        let line = Line::new(kind, &label).plain("run", run).plain("noisy", is_noisy);
        sample.write(line).emit(args);
        let after = run_yardstick();
        let around = before.as_ref().zip(after.as_ref()).map(|(before, after)| before.between(after));
        turns.push(Turn { server: sample, yardstick: around, is_noisy });
        before = after;
    }
    summarize(args, kind, &label, &turns);
}

fn summarize(args: &Args, kind: &str, label: &str, turns: &[Turn]) {
    let calm = turns.iter().filter(|turn| !turn.is_noisy).count();
    let counted: Vec<&Turn> = turns.iter().filter(|turn| calm == 0 || !turn.is_noisy).collect();
    let all = |value: fn(&Turn) -> Option<f64>| spread(counted.iter().filter_map(|turn| value(turn)));
    let sum = |value: fn(&Sample) -> i64| counted.iter().map(|turn| value(&turn.server)).sum::<i64>();
    let worst = counted.iter().filter_map(|turn| turn.yardstick.as_ref().map(|y| y.lost)).max().unwrap_or(0);
    let rows = [
        ("us", all(|t| Some(t.server.us))),
        ("per_s", all(|t| Some(t.server.per_s))),
        ("p50_ms", all(|t| Some(t.server.p50_ms))),
        ("p99_ms", all(|t| Some(t.server.p99_ms))),
        ("yardstick_us", all(|t| Some(t.yardstick.as_ref()?.us))),
        ("yardstick_per_s", all(|t| Some(t.yardstick.as_ref()?.per_s))),
        ("yardstick_p99_ms", all(|t| Some(t.yardstick.as_ref()?.p99_ms))),
        ("ratio_us", all(|t| Some(t.server.us / t.yardstick.as_ref()?.us))),
        ("ratio_per_s", all(|t| Some(t.server.per_s / t.yardstick.as_ref()?.per_s))),
        ("ratio_p99", all(|t| Some(t.server.p99_ms / t.yardstick.as_ref()?.p99_ms))),
    ];
    println!("{label} SUMMARY of {calm} calm runs of {}, min / median / max", turns.len());
    let mut line =
        Line::new(&format!("{kind}-summary"), label).plain("calm", calm).plain("runs", turns.len());
    for (name, found) in rows {
        if let Some([min, median, max]) = found {
            println!("  {name:18} {min:12.3} {median:12.3} {max:12.3}");
            line = line.number(name, median);
        }
    }
    line.plain("lost", sum(|s| s.lost))
        .plain("disordered", sum(|s| s.disordered as i64))
        .plain("errors", sum(|s| s.errors as i64))
        .plain("closed", sum(|s| s.closed as i64))
        .plain("units", sum(|s| s.units as i64))
        .plain("yardstick_lost", worst)
        .emit(args);
}

/// Smallest, median and largest.
pub fn spread(values: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    Some([*values.first()?, values[values.len() / 2], *values.last()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_yardstick_runs_before_between_and_after() {
        let order = RefCell::new(String::new());
        let side = |letter| {
            let order = &order;
            let work: Work<'_> = Box::new(move || {
                order.borrow_mut().push(letter);
                Sample { us: 1.0, ..Sample::default() }
            });
            work
        };
        let args = Args::parse(&["--runs".into(), "2".into()]);
        measure(&args, "test", "units", side('S'), Some(side('Y')));
        assert_eq!(*order.borrow(), "YSYSY");
    }

    #[test]
    fn the_spread_is_sorted_and_empty_without_numbers() {
        assert_eq!(spread([3.0, 1.0, f64::NAN, 2.0].into_iter()), Some([1.0, 2.0, 3.0]));
        assert_eq!(spread([f64::INFINITY].into_iter()), None);
    }
}
