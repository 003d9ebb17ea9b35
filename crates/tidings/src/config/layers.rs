//! Lays file, environment and flags over each other, one setting at a time, so that a refusal names who said it.

#[cfg(test)]
mod tests;

use super::broker;
use super::distance::distance;
use super::eventrelay::{self, Variables};
use super::{Config, ConfigError, check_secret, esink};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use tidings_engine::auth::SignUp;
use toml::{Table, Value};

/// How a setting is written in an environment variable or a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    /// `true` or `false`.
    Truth,
    /// Separated by commas in a variable, repeated as a flag.
    List,
}

/// Settings, by their place in `tidings.toml`. The variable is `TIDINGS_` and the place with `_` for `.`.
const SETTINGS: &[(&str, Kind)] = &[
    ("data", Kind::Text),
    ("log_level", Kind::Text),
    ("threads", Kind::Number),
    ("http.listen", Kind::Text),
    ("http.origins", Kind::List),
    ("http.proxies", Kind::List),
    ("http.tls.cert", Kind::Text),
    ("http.tls.key", Kind::Text),
    ("http.cookie", Kind::Text),
    ("http.metrics_public", Kind::Truth),
    ("http.ping_ms", Kind::Number),
    ("http.heartbeat_ms", Kind::Number),
    ("http.drain_ms", Kind::Number),
    ("http.retry_spread_ms", Kind::Number),
    ("grpc.off", Kind::Truth),
    ("grpc.listen", Kind::Text),
    ("grpc.tls.cert", Kind::Text),
    ("grpc.tls.key", Kind::Text),
    ("grpc.plaintext", Kind::Truth),
    ("grpc.client_ca", Kind::Text),
    ("limits.topics", Kind::Number),
    ("limits.api_keys", Kind::Number),
    ("limits.event_bytes", Kind::Number),
    ("limits.body_bytes", Kind::Number),
    ("limits.batch_events", Kind::Number),
    ("limits.stream_topics", Kind::Number),
    ("limits.pull_scan_events", Kind::Number),
    ("limits.page_events", Kind::Number),
    ("limits.page_events_default", Kind::Number),
    ("limits.connections", Kind::Number),
    ("limits.frame_bytes", Kind::Number),
    ("limits.write_timeout_ms", Kind::Number),
    ("limits.read_timeout_ms", Kind::Number),
    ("limits.ring_events", Kind::Number),
    ("limits.passing_events", Kind::Number),
    ("limits.passing_bytes", Kind::Number),
    ("limits.ring_bytes", Kind::Number),
    ("limits.schedule_ahead_ms", Kind::Number),
    ("limits.read_batch_events", Kind::Number),
    ("limits.read_batch_bytes", Kind::Number),
    ("limits.reads_at_once", Kind::Number),
    ("limits.entity_keys", Kind::Number),
    ("limits.entity_connections", Kind::Number),
    ("limits.entity_rows_bytes", Kind::Number),
    ("log.segment_bytes", Kind::Number),
    ("log.batch_bytes_max", Kind::Number),
    ("log.group_bytes_max", Kind::Number),
    ("log.queue_bytes_max", Kind::Number),
    ("log.unapplied_bytes_max", Kind::Number),
    ("log.block_cache_bytes", Kind::Number),
    ("log.ids_age_ms", Kind::Number),
    ("log.ids_events", Kind::Number),
    ("auth.secrets", Kind::List),
    ("auth.pem", Kind::List),
    ("auth.jwks", Kind::List),
    ("retention.every_ms", Kind::Number),
    ("bus.url", Kind::Text),
    ("bus.prefix", Kind::Text),
    ("entities.enabled", Kind::Truth),
    ("entities.path", Kind::Text),
    ("entities.auth", Kind::Text),
    ("entities.origins", Kind::List),
    ("entities.message_bytes", Kind::Number),
    ("entities.ping_ms", Kind::Number),
    ("entities.pong_ms", Kind::Number),
    ("entities.write_timeout_ms", Kind::Number),
    ("entities.pass_through", Kind::Text),
    ("entities.pass_through_timeout_ms", Kind::Number),
    ("eventrelay.enabled", Kind::Truth),
    ("rates.publish", Kind::Text),
    ("rates.other", Kind::Text),
    ("rates.relay_publish", Kind::Text),
    ("rates.relay_publish_passing", Kind::Text),
    ("rates.relay_create_topic", Kind::Text),
    ("rates.relay_other", Kind::Text),
    ("broker.enabled", Kind::Truth),
    ("broker.topics", Kind::List),
    ("inbound.max", Kind::Number),
    ("inbound.burst", Kind::Number),
    ("inbound.per_minute", Kind::Number),
    ("phoenix.enabled", Kind::Truth),
    ("phoenix.silence_ms", Kind::Number),
    ("limits.socket_channels", Kind::Number),
    ("limits.join_bytes", Kind::Number),
    ("limits.broker_list_events", Kind::Number),
    ("limits.broker_list_bytes", Kind::Number),
    ("limits.broker_frame_bytes", Kind::Number),
    ("limits.broker_view_bytes", Kind::Number),
    ("limits.destinations", Kind::Number),
    ("limits.queue_lent", Kind::Number),
    ("limits.webhooks_at_once", Kind::Number),
    ("limits.destination_open", Kind::Number),
    ("limits.destination_dead", Kind::Number),
    ("limits.destination_replays", Kind::Number),
    ("webhooks.retry_base_ms", Kind::Number),
    ("webhooks.retry_max_ms", Kind::Number),
    ("webhooks.max_attempts", Kind::Number),
    ("webhooks.timeout_ms", Kind::Number),
    ("webhooks.parallel", Kind::Number),
    ("webhooks.allow_private_addresses", Kind::Truth),
    ("webhooks.lease_ms", Kind::Number),
    ("webhooks.history", Kind::Truth),
    ("users.sign_up", Kind::Text),
    ("users.token_ttl_ms", Kind::Number),
    ("users.password_chars_min", Kind::Number),
    ("users.password_hash", Kind::Text),
    ("users.argon2_kib", Kind::Number),
    ("users.argon2_passes", Kind::Number),
    ("users.bcrypt_cost", Kind::Number),
    ("users.address_burst", Kind::Number),
    ("users.address_per_minute", Kind::Number),
    ("users.name_burst", Kind::Number),
    ("users.name_per_minute", Kind::Number),
    ("users.hashes_waiting", Kind::Number),
    ("users.max", Kind::Number),
    ("time.ntp", Kind::Truth),
    ("time.servers", Kind::List),
    ("time.every_ms", Kind::Number),
    ("time.timeout_ms", Kind::Number),
    ("time.step_max_ms", Kind::Number),
];

/// Every setting there is.
fn all() -> impl Iterator<Item = &'static (&'static str, Kind)> {
    SETTINGS.iter().chain(esink::SETTINGS)
}

/// Sections whose settings have names that are not ours.
const FILE_ONLY: [&str; 3] = ["databases", "sources", "topics"];

/// Settings that have a shorter name of their own. `port` changes the port of `http.listen` alone.
const SHORT: &[(&str, &str)] =
    &[("TIDINGS_PORT", "port"), ("TIDINGS_SECRET", "auth.secrets"), ("TIDINGS_BUS", "bus.url")];
/// Variables that are no settings of the server.
const OTHERS: &[&str] = &["TIDINGS_CONFIG", "TIDINGS_URL", "TIDINGS_TOKEN"];

/// One setting as a flag or variable says it.
#[derive(Debug, Clone)]
pub struct Setting {
    /// `--port`, `TIDINGS_PORT`: what an error names.
    pub said_by: String,
    /// The place in `tidings.toml`, or `port`.
    pub place: &'static str,
    /// Several only for lists.
    pub values: Vec<String>,
}

impl Setting {
    /// What a flag says.
    pub fn flag(
        flag: &str,
        place: &'static str,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { said_by: flag.to_owned(), place, values: values.into_iter().map(Into::into).collect() }
    }
}

/// Settings laid over each other so far.
#[derive(Default)]
pub struct Layers {
    table: Table,
    config: Config,
    /// Secrets that nothing overrides.
    extra_secrets: Vec<String>,
    /// Started as Broker is started.
    /// Started by something that only Broker has.
    is_brokers: bool,
    /// What EventRelay's variables say.
    relay: Variables,
    /// A port was named in our own words.
    has_port: bool,
    /// An address was named, not only a port.
    has_address: bool,
    /// Started as Esink is started, with what its environment says beside settings.
    esink: Option<esink::Environment>,
}

impl Layers {
    /// Lays a file over the defaults.
    pub fn file(mut self, path: &Path) -> Result<Self, ConfigError> {
        let source = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(source)?;
        let refuse = |e: toml::de::Error| {
            let at = e.span().map_or(0, |s| s.start).min(text.len());
            let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
            // The parser's own text runs over several lines and quotes the file.
            ConfigError::File { path: path.to_owned(), line, what: e.message().replace('\n', " ") }
        };
        self.config = toml::from_str(&text).map_err(refuse)?;
        self.table = toml::from_str(&text).map_err(refuse)?;
        self.has_address = self.has("http", "listen");
        self.has_port = self.has_address;
        let said_by = format!("{}: auth.secrets", path.display());
        self.config.auth.secrets.iter().try_for_each(|secret| check_given(&said_by, &secret.0))?;
        Ok(self)
    }

    /// Lays the environment over that. Variables that do not begin with `TIDINGS_` are not ours.
    pub fn environment<'a>(
        mut self,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let variables: Vec<(&str, &str)> = variables.into_iter().collect();
        let names_port =
            |name: &str| known(name).is_some_and(|(place, _)| matches!(place, "port" | "http.listen"));
        let has_port = variables.iter().any(|(name, _)| names_port(name));
        let is_told = has_port || self.has_address;
        self.relay = Variables::read(variables.iter().copied(), is_told)?;
        // First, so that our own variables win.
        let mut settings = self.relay.settings.clone();
        settings.extend(self.esinks(variables.iter().copied())?);
        for (name, value) in variables {
            if name == broker::SAVE_PATH {
                // First, so that our own variable wins whichever comes first.
                let data = Setting { said_by: name.into(), place: "data", values: vec![value.into()] };
                settings.insert(0, data);
                self.is_brokers = true;
            }
            if name == eventrelay::JWT_SECRET {
                check_secret(name, value)?;
                self.extra_secrets.push(value.to_owned());
            }
            if !name.starts_with("TIDINGS_") || OTHERS.contains(&name) {
                continue;
            }
            let (place, kind) = known(name).ok_or_else(|| unknown(name))?;
            let values = match kind {
                Kind::List => {
                    value.split(',').map(str::trim).filter(|v| !v.is_empty()).map(String::from).collect()
                }
                Kind::Text | Kind::Number | Kind::Truth => vec![value.to_owned()],
            };
            settings.push(Setting { said_by: name.to_owned(), place, values });
        }
        self.settings(settings)
    }

    /// Takes in what Esink's variables say; its settings are still to be laid.
    fn esinks<'a>(
        &mut self,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<Setting>, ConfigError> {
        let Some(mut found) = esink::read(variables)? else { return Ok(Vec::new()) };
        found.describe(&mut self.table);
        self.read("TABLE_NAMES")?;
        let settings = std::mem::take(&mut found.settings);
        self.esink = Some(found);
        Ok(settings)
    }

    /// Lays single settings over that. A pair of TLS files, and an address with its port, may come in any order.
    pub fn settings(mut self, mut settings: Vec<Setting>) -> Result<Self, ConfigError> {
        settings.sort_by_key(|s| (s.place == "port", s.place));
        for i in 0..settings.len() {
            self.set(&settings[i])?;
            // The certificate alone is not yet a whole setting; its key comes next in order.
            let key = match settings[i].place {
                "http.tls.cert" => "http.tls.key",
                "grpc.tls.cert" => "grpc.tls.key",
                _ => "",
            };
            let is_half = settings.get(i + 1).is_some_and(|next| next.place == key);
            if !is_half {
                self.read(&settings[i].said_by)?;
            }
        }
        Ok(self)
    }

    /// What is set so far.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The program was started by something that only Broker has, so Broker's defaults hold.
    pub fn started_as_broker(mut self) -> Self {
        self.is_brokers = true;
        self
    }

    fn has(&self, section: &str, word: &str) -> bool {
        self.table.get(section).and_then(Value::as_table).is_some_and(|table| table.contains_key(word))
    }

    /// Broker's defaults, where nothing else was said.
    fn go_brokers_way(&mut self) {
        if !self.is_brokers {
            return;
        }
        if !self.has_address {
            let all = std::net::Ipv4Addr::UNSPECIFIED.into();
            self.config.http.listen.set_ip(all);
            tracing::info!(
                "started as Broker is: listening on all addresses; --listen 127.0.0.1 limits that"
            );
        }
        if !self.has("users", "sign_up") {
            self.config.users.sign_up = SignUp::Open;
            tracing::warn!(
                "started with a flag or variable of Broker's: everybody may sign up; users.sign_up = \"closed\" stops that"
            );
        }
        if !self.has("http", "origins") {
            self.config.http.origins = vec![broker::ORIGIN.into()];
            tracing::info!(origin = broker::ORIGIN, "started as Broker is: pages of one origin may call");
        }
    }

    /// What is set in the end.
    pub fn finish(mut self) -> Config {
        self.go_brokers_way();
        if let Some(esink) = self.esink.take() {
            let has = |word| self.has("http", word);
            let said =
                esink::Said { address: self.has_address, port: has("listen"), origins: has("origins") };
            esink.apply(said, &mut self.config);
        }
        self.relay.finish(&mut self.config, self.has_port);
        self.config.auth.others.extend(self.extra_secrets.into_iter().map(super::SharedSecret));
        self.config
    }

    fn set(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        let refuse =
            |what: &str| ConfigError::Value { said_by: setting.said_by.clone(), what: what.to_owned() };
        let text = setting.values.first().map_or("", String::as_str);
        let (place, value) = match setting.place {
            "port" => {
                let port = text.parse().map_err(|_| refuse("a port is a number from 0 to 65535"))?;
                let address = SocketAddr::new(self.config.http.listen.ip(), port);
                ("http.listen", Value::String(address.to_string()))
            }
            "http.listen" => ("http.listen", Value::String(self.listen(text).map_err(|e| refuse(&e))?)),
            "grpc.listen" if text.parse::<SocketAddr>().is_err() => {
                return Err(refuse("not an IP address with a port, such as 127.0.0.1:50051"));
            }
            place => (place, value(place, setting).map_err(|e| refuse(&e))?),
        };
        if place == "auth.secrets" {
            setting.values.iter().try_for_each(|secret| check_given(&setting.said_by, secret))?;
        }
        let (mut table, mut rest) = (&mut self.table, place);
        while let Some((head, tail)) = rest.split_once('.') {
            let entry = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().expect("the file was read before");
            rest = tail;
        }
        table.insert(rest.to_owned(), value);
        self.has_address |= setting.place == "http.listen";
        let is_port = matches!(setting.place, "port" | "http.listen");
        self.has_port |= is_port && !eventrelay::is_ours(&setting.said_by);
        Ok(())
    }

    /// `ADDRESS:PORT`, or an address alone that keeps the port.
    fn listen(&self, text: &str) -> Result<String, String> {
        let port = self.config.http.listen.port();
        let alone = |ip: IpAddr| SocketAddr::new(ip, port);
        let address = text.parse().or_else(|_| text.parse().map(alone));
        address
            .map(|a: SocketAddr| a.to_string())
            .map_err(|_| "not an IP address, with or without a port".into())
    }

    fn read(&mut self, said_by: &str) -> Result<(), ConfigError> {
        let refuse = |e: toml::de::Error| ConfigError::Value {
            said_by: said_by.to_owned(),
            what: e.message().replace('\n', " "),
        };
        self.config = self.table.clone().try_into().map_err(refuse)?;
        Ok(())
    }
}

fn value(place: &str, setting: &Setting) -> Result<Value, String> {
    let text = setting.values.first().map_or("", String::as_str);
    match all().find(|(own, _)| *own == place).map(|(_, kind)| kind) {
        Some(Kind::Number) => text.parse().map(Value::Integer).map_err(|_| "not a number".into()),
        Some(Kind::Truth) => text.parse().map(Value::Boolean).map_err(|_| "neither true nor false".into()),
        Some(Kind::List) => Ok(Value::Array(setting.values.iter().cloned().map(Value::String).collect())),
        Some(Kind::Text) => Ok(Value::String(text.to_owned())),
        None => Err(format!("no setting is called {place}")),
    }
}

/// A short secret of ours is bearable, none at all is not.
fn check_given(said_by: &str, secret: &str) -> Result<(), ConfigError> {
    match secret {
        "" => Err(ConfigError::Value { said_by: said_by.to_owned(), what: "the secret is empty".into() }),
        _ => Ok(()),
    }
}

fn variable(place: &str) -> String {
    format!("TIDINGS_{}", place.to_uppercase().replace('.', "_"))
}

fn known(name: &str) -> Option<(&'static str, Kind)> {
    let place = SHORT.iter().find(|(short, _)| *short == name).map(|(_, place)| *place);
    let kind = |place| all().find(|(own, _)| *own == place).map_or(Kind::Number, |(_, kind)| *kind);
    match place {
        Some(place) => Some((place, kind(place))),
        None => all().find(|(place, _)| variable(place) == name).copied(),
    }
}

fn unknown(name: &str) -> ConfigError {
    let begins = |section: &&&str| name.starts_with(&format!("{}_", variable(section)));
    match FILE_ONLY.iter().find(begins) {
        Some(section) => ConfigError::VariableOfFile { name: name.to_owned(), section },
        None => ConfigError::VariableUnknown { name: name.to_owned(), nearest: nearest(name) },
    }
}

fn nearest(name: &str) -> String {
    let all = all().map(|(place, _)| variable(place));
    let short = SHORT.iter().map(|(name, _)| *name).chain(OTHERS.iter().copied()).map(String::from);
    all.chain(short).min_by_key(|known| distance(name, known)).expect("there are settings")
}
