//! Arguments: `--key value`; a key may repeat; a key followed by another key or nothing is a flag.

use std::collections::HashMap;

pub struct Args(HashMap<String, Vec<String>>);

/// Ends the program with a message; this is a command-line tool, and its caller reads the exit code.
pub fn die(message: impl std::fmt::Display) -> ! {
    eprintln!("loadgen: {message}");
    std::process::exit(2)
}

impl Args {
    pub fn parse(words: &[String]) -> Self {
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(key) = word.strip_prefix("--") else { die(format!("unexpected argument {word}")) };
            let (key, value) = match key.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                None => (key, words.next_if(|w| !w.starts_with("--")).cloned().unwrap_or("1".into())),
            };
            all.entry(key.into()).or_default().push(value);
        }
        Self(all)
    }

    pub fn all(&self, key: &str) -> Vec<String> {
        self.0.get(key).cloned().unwrap_or_default()
    }

    pub fn optional(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(|values| values.last().cloned())
    }

    pub fn needed(&self, key: &str) -> String {
        self.optional(key).unwrap_or_else(|| die(format!("--{key} is needed")))
    }

    pub fn text(&self, key: &str, default: &str) -> String {
        self.optional(key).unwrap_or_else(|| default.into())
    }

    pub fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        let Some(text) = self.optional(key) else { return default };
        text.parse().unwrap_or_else(|_| die(format!("--{key}: not a number: {text}")))
    }

    pub fn is_set(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Process ids: the key may repeat, and a value may hold several.
    pub fn pids(&self, key: &str) -> Vec<u32> {
        let texts = self.all(key);
        let parts = texts.iter().flat_map(|text| text.split([',', ' '])).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().unwrap_or_else(|_| die(format!("--{key} {part}")))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_repeat_and_flags_take_no_value() {
        let words = ["--header", "a: 1", "--tree", "--header=b: --2", "--secs", "1.5", "--pid", "7,8"];
        let args = Args::parse(&words.map(String::from));
        assert_eq!(args.all("header"), ["a: 1", "b: --2"]);
        assert!(args.is_set("tree") && !args.is_set("secs2"));
        assert_eq!((args.number("secs", 4.0), args.number("runs", 3)), (1.5, 3));
        assert_eq!(args.pids("pid"), [7, 8]);
    }
}
