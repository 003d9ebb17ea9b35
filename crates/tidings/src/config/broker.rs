//! Settings under `[broker]`, and Broker's own flags and variable.
//!
//! Owns: what a command line written for Broker means here. Whoever starts the program Broker's way gets
//! Broker's defaults where nothing else is set: open sign-up, all addresses, pages of localhost:3000.

use super::{ConfigError, Setting};
use serde::{Deserialize, Serialize};
use tidings_model::TopicName;

/// Settings under `[broker]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    /// Whether Broker's interface is there.
    pub enabled: bool,
    /// Topics that its users may see and insert into, beside those first used there.
    pub topics: Vec<String>,
}

impl Default for Broker {
    fn default() -> Self {
        Self { enabled: true, topics: Vec::new() }
    }
}

impl Broker {
    pub fn topics(&self) -> Result<Vec<TopicName>, ConfigError> {
        let parse = |text: &String| {
            TopicName::parse(text).map_err(|e| ConfigError::Value {
                said_by: "broker.topics".into(),
                what: format!("{text:?}: {e}"),
            })
        };
        self.topics.iter().map(parse).collect()
    }
}

/// The variable that names Broker's data directory.
pub const SAVE_PATH: &str = "SAVE_PATH";
/// Pages that Broker lets in by default.
pub const ORIGIN: &str = "http://localhost:3000";

/// Flags that are Broker's alone.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub expiry: Option<String>,
    pub connection: Option<String>,
    pub key_path: Option<String>,
    pub cert_path: Option<String>,
}

impl Flags {
    pub fn is_used(&self) -> bool {
        let Self { expiry, connection, key_path, cert_path } = self;
        [expiry, connection, key_path, cert_path].iter().any(|flag| flag.is_some())
    }

    /// What they set.
    pub fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let refuse = |flag: &str, what: &str| ConfigError::Value { said_by: flag.into(), what: what.into() };
        let mut settings = Vec::new();
        match self.connection.as_deref() {
            None | Some("http") => {}
            Some("https") => {
                let cert = self.cert_path.as_deref().unwrap_or("./broker.pem");
                let key = self.key_path.as_deref().unwrap_or("./broker.rsa");
                settings.push(Setting::flag("--cert-path", "http.tls.cert", [cert]));
                settings.push(Setting::flag("--key-path", "http.tls.key", [key]));
            }
            Some(_) => return Err(refuse("--connection", "either http or https")),
        }
        if let Some(seconds) = &self.expiry {
            let seconds: u64 = seconds.parse().map_err(|_| refuse("--expiry", "not a number of seconds"))?;
            settings.push(Setting::flag("--expiry", EXPIRY, [(seconds.saturating_mul(1000)).to_string()]));
        }
        Ok(settings)
    }
}

/// How long a user's token is good for.
const EXPIRY: &str = "users.token_ttl_ms";

/// Flags of Broker, as its README names them.
const FLAGS: &[&str] = &["port", "origin", "expiry", "secret", "connection", "key-path", "cert-path"];

/// A word of a command line, with two dashes if it is a flag of Broker's, which may stand after one.
pub fn with_two_dashes(word: String) -> String {
    match word.strip_prefix('-') {
        Some(flag) if FLAGS.contains(&flag.split('=').next().unwrap_or_default()) => format!("-{word}"),
        _ => word,
    }
}

/// A command line of Broker: flags only, each with its value behind `=` or as the next word.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<(Vec<Setting>, Flags), ConfigError> {
    let refuse =
        |said_by: &str, what: &str| ConfigError::Value { said_by: said_by.into(), what: what.into() };
    let (mut settings, mut flags) = (Vec::new(), Flags::default());
    let mut words = arguments.into_iter().map(with_two_dashes);
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let Some(flag) = name.strip_prefix("--").filter(|flag| FLAGS.contains(flag)) else {
            return Err(refuse(&name, &format!("no such flag; there are --{}", FLAGS.join(" --"))));
        };
        let value = value.or_else(|| words.next()).ok_or_else(|| refuse(&name, "a value is missing"))?;
        match flag {
            "port" => settings.push(Setting::flag("--port", "port", [value])),
            "origin" => settings.push(Setting::flag("--origin", "http.origins", [value])),
            "secret" => settings.push(Setting::flag("--secret", "auth.secrets", [value])),
            "expiry" => flags.expiry = Some(value),
            "connection" => flags.connection = Some(value),
            "key-path" => flags.key_path = Some(value),
            _ => flags.cert_path = Some(value),
        }
    }
    Ok((settings, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(String::from).collect()
    }

    #[test]
    fn flags_come_after_one_dash_or_two_with_or_without_an_equals_sign() {
        let (settings, flags) =
            parse(words("-port 1 --origin=o -expiry=5 --connection https -key-path k")).unwrap();
        assert_eq!((settings[0].place, settings[1].values[0].as_str()), ("port", "o"));
        let set: Vec<_> =
            flags.settings().unwrap().into_iter().map(|s| (s.place, s.values[0].clone())).collect();
        let expected = [("http.tls.cert", "./broker.pem"), ("http.tls.key", "k"), (EXPIRY, "5000")];
        assert_eq!(set, expected.map(|(place, value)| (place, value.to_owned())));
        for bad in ["--nope 1", "port", "--port", "-x"] {
            assert!(parse(words(bad)).is_err(), "{bad}");
        }
        assert!(Flags { connection: Some("ftp".into()), ..Flags::default() }.settings().is_err());
    }

    #[test]
    fn only_brokers_flags_get_a_second_dash() {
        let line = words("-port=1 -v --port 2 -secret -- x-port");
        let found: Vec<String> = line.into_iter().map(with_two_dashes).collect();
        assert_eq!(found, words("--port=1 -v --port 2 --secret -- x-port"));
    }
}
