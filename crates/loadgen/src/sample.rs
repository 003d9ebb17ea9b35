//! One run's result, whatever the work was: units done, what each cost, how long each took.

use crate::cost::Cost;
use crate::histogram::Histogram;
use crate::json::Line;

/// A unit is a delivery, an acknowledged publish, or an event of a stream.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub units: u64,
    pub per_s: f64,
    /// Server CPU microseconds for each unit.
    pub us: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    pub cost: Cost,
    pub published: u64,
    pub lost: i64,
    /// Deliveries whose sequence went back on their connection.
    pub disordered: u64,
    pub errors: u64,
    /// Connections that the server closed.
    pub closed: u64,
}

impl Sample {
    pub fn new(units: u64, seconds: f64, latency: &Histogram, cost: Cost) -> Self {
        Self {
            units,
            per_s: units as f64 / seconds.max(1e-9),
            us: cost.server_s() * 1e6 / units.max(1) as f64,
            p50_ms: latency.ms(0.5),
            p99_ms: latency.ms(0.99),
            p999_ms: latency.ms(0.999),
            max_ms: latency.max as f64 / 1e6,
            cost,
            ..Self::default()
        }
    }

    /// The mean of two runs, as far as runs are compared.
    pub fn between(&self, other: &Self) -> Self {
        let mean = |a: f64, b: f64| (a + b) / 2.0;
        Self {
            us: mean(self.us, other.us),
            per_s: mean(self.per_s, other.per_s),
            p50_ms: mean(self.p50_ms, other.p50_ms),
            p99_ms: mean(self.p99_ms, other.p99_ms),
            lost: self.lost.max(other.lost),
            ..self.clone()
        }
    }

    pub fn show(&self, unit: &str) -> String {
        let cost = &self.cost;
        let mut text = format!(
            "{} {unit} {:.0}/s | ms p50={:.2} p99={:.2} p99.9={:.2} max={:.2} | server {:.2}s cpu (user {:.2}) = \
             {:.2} us each, {:.0}% of a core, rss {:.1} MB | loadgen {:.2}s other {:.2}s steal {:.2}s",
            self.units,
            self.per_s,
            self.p50_ms,
            self.p99_ms,
            self.p999_ms,
            self.max_ms,
            cost.server_s(),
            cost.user_s,
            self.us,
            100.0 * cost.server_s() / cost.seconds.max(1e-9),
            cost.rss_mb,
            cost.own_s,
            cost.other_s,
            cost.steal_s,
        );
        let lost = (self.lost, self.disordered, self.errors, self.closed);
        if lost != (0, 0, 0, 0) {
            let (lost, disordered, errors, closed) = lost;
            text.push_str(&format!(" | LOST {lost} disordered {disordered} errors {errors} closed {closed}"));
        }
        text
    }

    pub fn write(&self, line: Line) -> Line {
        line.plain("units", self.units)
            .plain("published", self.published)
            .number("per_s", self.per_s)
            .number("us", self.us)
            .number("p50_ms", self.p50_ms)
            .number("p99_ms", self.p99_ms)
            .number("p999_ms", self.p999_ms)
            .number("max_ms", self.max_ms)
            .number("user_s", self.cost.user_s)
            .number("system_s", self.cost.system_s)
            .number("loadgen_s", self.cost.own_s)
            .number("other_s", self.cost.other_s)
            .number("steal_s", self.cost.steal_s)
            .number("rss_mb", self.cost.rss_mb)
            .plain("lost", self.lost)
            .plain("disordered", self.disordered)
            .plain("errors", self.errors)
            .plain("closed", self.closed)
    }
}
