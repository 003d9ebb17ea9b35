//! One flat JSON object per line, for programs that read our results.

use crate::args::{Args, die};
use std::io::Write;

pub struct Line(String);

impl Line {
    pub fn new(kind: &str, label: &str) -> Self {
        Self(String::new()).text("kind", kind).text("label", label)
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        let escaped: String = value.chars().flat_map(escape).collect();
        self.raw(key, &format!("\"{escaped}\""))
    }

    /// Whole numbers and truths as they print.
    pub fn plain(self, key: &str, value: impl std::fmt::Display) -> Self {
        self.raw(key, &value.to_string())
    }

    /// A number with three places; what is no number becomes `null`.
    pub fn number(self, key: &str, value: f64) -> Self {
        let text = if value.is_finite() { format!("{value:.3}") } else { "null".into() };
        self.raw(key, &text)
    }

    fn raw(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&format!("\"{key}\":{value}"));
        self
    }

    /// Appends the line to the file named by `--out`, if there is one.
    pub fn emit(self, args: &Args) {
        let Some(path) = args.optional("out") else { return };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{}}}", self.0)) {
            die(format!("{path}: {error}"));
        }
    }
}

fn escape(c: char) -> Vec<char> {
    match c {
        '"' | '\\' => vec!['\\', c],
        c if c.is_control() => format!("\\u{:04x}", c as u32).chars().collect(),
        c => vec![c],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object() {
        let line = Line::new("fan", "a\"b").number("us", 1.25).plain("lost", 0).number("p99", f64::NAN);
        assert_eq!(line.0, r#"{"kind":"fan","label":"a\"b","us":1.250,"lost":0,"p99":null"#);
    }
}
