//! One line of the report: a figure, the yardstick's beside it, and whether the target is met.

use std::fmt;

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Debug)]
pub struct Row {
    pub figure: String,
    pub unit: &'static str,
    pub tidings: f64,
    pub yardstick: Option<f64>,
    pub ratio: Option<f64>,
    pub target: Target,
    /// What makes the figure worthless: lost deliveries, closed connections, refused publishes.
    pub faults: Vec<String>,
    pub note: String,
}

impl Row {
    pub fn is_met(&self) -> bool {
        let ratio = self.ratio.unwrap_or(f64::NAN);
        // A figure that is no number meets nothing.
        let is_reached = match self.target {
            Target::RatioAtMost(bound) => ratio <= bound,
            Target::RatioAtLeast(bound) => ratio >= bound,
            Target::AtMost(bound) => self.tidings <= bound,
            Target::AtLeast(bound) => self.tidings >= bound,
        };
        is_reached && self.faults.is_empty()
    }

    fn verdict(&self) -> &'static str {
        if self.is_met() { "ok" } else { "MISS" }
    }

    fn cells(&self) -> [String; 7] {
        let optional = |value: Option<f64>| value.map_or(String::new(), show);
        let target = match self.target {
            Target::RatioAtMost(bound) => format!("ratio <= {bound}"),
            Target::RatioAtLeast(bound) => format!("ratio >= {bound}"),
            Target::AtMost(bound) => format!("<= {bound}"),
            Target::AtLeast(bound) => format!(">= {bound}"),
        };
        let remarks = self.faults.iter().chain(Some(&self.note).filter(|note| !note.is_empty()));
        let remarks = remarks.cloned().collect::<Vec<_>>().join(", ");
        let verdict = match remarks.as_str() {
            "" => self.verdict().into(),
            remarks => format!("{} ({remarks})", self.verdict()),
        };
        [
            self.figure.clone(),
            self.unit.into(),
            show(self.tidings),
            optional(self.yardstick),
            optional(self.ratio),
            target,
            verdict,
        ]
    }

    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "figure": self.figure, "unit": self.unit, "tidings": self.tidings, "yardstick": self.yardstick,
            "ratio": self.ratio, "target": self.cells()[5], "met": self.is_met(), "faults": self.faults,
            "note": self.note,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [figure, unit, tidings, yardstick, ratio, target, verdict] = self.cells();
        write!(f, "{figure}: {tidings} {unit}")?;
        if !ratio.is_empty() {
            write!(f, ", yardstick {yardstick}, ratio {ratio}")?;
        }
        write!(f, " (target {target}): {verdict}")
    }
}

/// Three significant places, or whole numbers where they are large.
fn show(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// All rows as a Markdown table that also reads well as plain text.
pub fn table(rows: &[Row]) -> String {
    let head = ["figure", "unit", "Tidings", "yardstick", "ratio", "target", ""].map(String::from);
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let is_number = (2..=4).contains(&column);
            let cell = if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text.push_str(&format!("| {cell} "));
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if (2..=4).contains(&column) { ':' } else { '-' };
                text.push_str(&format!("| {}{end} ", "-".repeat(width - 1)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tidings: f64, ratio: Option<f64>, target: Target) -> Row {
        let (figure, faults, note) = ("a figure".into(), vec![], String::new());
        Row {
            figure,
            unit: "us",
            tidings,
            yardstick: ratio.map(|r| tidings / r),
            ratio,
            target,
            faults,
            note,
        }
    }

    #[test]
    fn targets_are_met_by_numbers_on_the_right_side_and_without_faults() {
        assert!(row(2.0, Some(1.2), Target::RatioAtMost(1.25)).is_met());
        assert!(!row(2.0, Some(1.3), Target::RatioAtMost(1.25)).is_met());
        assert!(!row(2.0, None, Target::RatioAtMost(1.25)).is_met());
        assert!(!row(f64::NAN, None, Target::AtMost(1.0)).is_met());
        assert!(row(2.0, Some(0.8), Target::RatioAtLeast(0.75)).is_met());
        assert!(!row(2.0, None, Target::AtLeast(3.0)).is_met());
        let lost = Row { faults: vec!["3 lost".into()], ..row(2.0, Some(1.0), Target::RatioAtMost(1.25)) };
        assert!(!lost.is_met() && lost.to_string().ends_with("MISS (3 lost)"), "{lost}");
    }

    #[test]
    fn the_table_has_one_line_a_row_and_equal_columns() {
        let text = table(&[
            row(212_345.6, None, Target::AtLeast(2e5)),
            row(1.234, Some(1.2), Target::RatioAtMost(1.25)),
        ]);
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lengths.len(), 4);
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{text}");
        assert!(text.contains("212346") && text.contains("1.23"), "{text}");
    }
}
