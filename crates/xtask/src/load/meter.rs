//! Calls the load generator and reads what it found.

use super::row::{Row, Target};
use super::stage::{Process, Server, Stage, end_with_us};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// Nothing in the set takes longer; a call that does is ended.
const CALL_SECONDS_MAX: u64 = 1800;

/// One call: its options, built up word by word.
pub struct Call {
    words: Vec<String>,
    label: String,
}

/// The last summary of a call.
pub struct Found {
    pub label: String,
    summary: Value,
}

impl Call {
    pub fn new(command: &str, label: impl Into<String>) -> Self {
        Self { words: vec![command.into()], label: label.into() }
    }

    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.words.extend([format!("--{key}"), value.to_string()]);
        self
    }

    pub fn flag(mut self, key: &str) -> Self {
        self.words.push(format!("--{key}"));
        self
    }

    /// How long and how often, and whether it waits for a quiet machine.
    pub fn runs(self, stage: &Stage) -> Self {
        if stage.is_quick {
            return self.with("runs", 1).with("secs", 2);
        }
        self.with("runs", 3).with("secs", 5).with("quiet", 30).with("max-wait", 20)
    }

    pub fn server(self, server: &Server) -> Self {
        self.with("addr", server.process.address()).with("pid", server.process.pid())
    }

    pub fn beside(self, yardstick: &Process) -> Self {
        self.with("vs", yardstick.address()).with("vs-pid", yardstick.pid())
    }

    /// Publishes single events to `topic`, of 150 bytes unless said otherwise.
    pub fn publishing(self, server: &Server, topic: &str) -> Self {
        self.with("pub-path", format!("/v1/topics/{topic}/events"))
            .with("pub-header", format!("Authorization: Bearer {}", server.token))
            .with("body", r#"{"name":"x","data":"%P"}"#)
    }

    /// Subscribes to topic `t`, from now on.
    pub fn subscribing(self, server: &Server, protocol: &str) -> Self {
        let call =
            self.with("proto", protocol).with("header", format!("Authorization: Bearer {}", server.token));
        if protocol == "ws" {
            let frame = r#"{"op":"subscribe","ref":"1","topic":"t","from":"latest"}"#;
            return call.with("path", "/v1/ws").with("send", frame).with("ready", "subscribed");
        }
        if protocol == "grpc" {
            // There the path is the topic.
            return call.with("path", "t");
        }
        call.with("path", "/v1/topics/t/events?from=latest")
    }

    /// Runs it, its output going to ours, and returns its last summary.
    pub fn run(self, stage: &Stage) -> Result<Found> {
        let out = stage.fresh_path("found");
        let mut command = Command::new(&stage.loadgen);
        command.args(&self.words).args(["--label", &self.label]).arg("--out").arg(&out);
        let mut child = end_with_us(&mut command).spawn().context("cannot start loadgen")?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(CALL_SECONDS_MAX) {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if !status.success() {
            bail!("loadgen {}: {status}", self.label);
        }
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_summary = |line: &Value| line["kind"].as_str().is_some_and(|kind| kind.ends_with("-summary"));
        let summary = lines.rfind(is_summary).context("loadgen wrote no summary")?;
        Ok(Found { label: self.label, summary })
    }
}

impl Found {
    /// A number of the summary; none where it could not be taken.
    pub fn number(&self, key: &str) -> f64 {
        self.summary[key].as_f64().unwrap_or(f64::NAN)
    }

    /// What makes the figure worthless.
    pub fn faults(&self) -> Vec<String> {
        let names = ["lost", "disordered", "errors", "closed"];
        let counted = names.iter().filter_map(|name| Some((name, self.summary[*name].as_i64()?)));
        counted.filter(|(_, count)| *count != 0).map(|(name, count)| format!("{count} {name}")).collect()
    }

    fn note(&self) -> String {
        let mut notes = Vec::new();
        if self.summary["calm"] == 0 {
            notes.push("the machine was not quiet".to_owned());
        }
        match self.summary["yardstick_lost"].as_i64() {
            None | Some(0) => {}
            Some(lost) => notes.push(format!("yardstick lost {lost}")),
        }
        notes.join(", ")
    }

    /// One figure of the summary beside the yardstick's.
    pub fn row(&self, unit: &'static str, key: &str, yardstick: &str, ratio: &str, target: Target) -> Row {
        let optional = |key: &str| Some(self.number(key)).filter(|value| value.is_finite());
        Row {
            figure: self.label.clone(),
            unit,
            tidings: self.number(key),
            yardstick: optional(yardstick),
            ratio: optional(ratio),
            target,
            faults: self.faults(),
            note: self.note(),
        }
    }

    pub fn cost_row(&self, unit: &'static str, ratio_max: f64) -> Row {
        self.row(unit, "us", "yardstick_us", "ratio_us", Target::RatioAtMost(ratio_max))
    }

    pub fn latency_row(&self, ratio_max: f64) -> Row {
        let target = Target::RatioAtMost(ratio_max);
        let row = self.row("p99 ms", "p99_ms", "yardstick_p99_ms", "ratio_p99", target);
        Row { figure: format!("{} latency", self.label), ..row }
    }
}

/// How cost grows from one situation to another, as a factor, beside the yardstick's own growth between them.
pub fn growth(figure: &str, from: &Found, to: &Found, factor_max: f64) -> Row {
    let (tidings, yardstick) =
        (to.number("us") / from.number("us"), to.number("yardstick_us") / from.number("yardstick_us"));
    Row {
        figure: figure.into(),
        unit: "growth",
        tidings,
        yardstick: Some(yardstick),
        ratio: Some(tidings / yardstick),
        target: Target::RatioAtMost(factor_max),
        faults: [from.faults(), to.faults()].concat(),
        note: format!("{:.2} to {:.2} us", from.number("us"), to.number("us")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(us: f64, yardstick_us: f64, lost: i64) -> Found {
        let summary = serde_json::json!({ "us": us, "yardstick_us": yardstick_us, "lost": lost, "calm": 1 });
        Found { label: "x".into(), summary }
    }

    #[test]
    fn growth_is_what_the_yardstick_did_not_grow_by() {
        let row = growth("topics", &found(10.0, 5.0, 0), &found(24.0, 10.0, 0), 1.25);
        assert_eq!((row.tidings, row.yardstick, row.ratio), (2.4, Some(2.0), Some(1.2)));
        assert!(row.is_met());
        assert!(!growth("topics", &found(10.0, 5.0, 0), &found(10.0, 5.0, 1), 1.25).is_met());
        assert!(!growth("topics", &found(f64::NAN, 5.0, 0), &found(10.0, 5.0, 0), 1.25).is_met());
    }
}
