//! Queues as buses: NATS, NSQ and Redis behind the engine's [`Bus`].
//!
//! Owns: which URL means which queue, and the names on it: the prefix, then the entity's name. A message is
//! `{"entity":"items","id":"100"}` on all of them.
//! Never: prints a URL; there may be a password in it.

mod link;
mod nats;
mod nsq;
mod redis;

pub use link::QueueBus;

use std::sync::Arc;
use tidings_engine::Services;
use url::Url;

/// A queue to connect to.
#[derive(Clone)]
pub struct Settings {
    /// `nats://`, `tls://` (NATS over TLS), `nsq://`, `redis://` or `rediss://` (over TLS), user and password
    /// where there are any, host and port.
    pub url: String,
    /// Begins every name on the queue.
    pub prefix: String,
}

/// What makes settings useless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("not a URL: {0}")]
    Url(url::ParseError),
    #[error("a queue begins with nats://, tls://, nsq://, redis:// or rediss://, not {0}://")]
    Scheme(String),
    #[error("there is no host in the URL")]
    Host,
    #[error("user, password and path have no meaning in an nsq:// URL")]
    NsqExtras,
    #[error("the queue refuses the prefix {prefix}: {why}")]
    Prefix { prefix: String, why: &'static str },
    #[error("a URL that the client library refuses: {0}")]
    Library(String),
}

/// The bus that the settings name. It connects in the background; it need not succeed, now or ever.
pub fn open(settings: &Settings, services: &Services) -> Result<Arc<QueueBus>, Error> {
    let url = Url::parse(&settings.url).map_err(Error::Url)?;
    if !url.has_host() {
        return Err(Error::Host);
    }
    let prefix = &settings.prefix;
    match url.scheme() {
        "nats" | "tls" => QueueBus::start(nats::Nats::new(&url), prefix, services),
        "nsq" => QueueBus::start(nsq::Nsq::new(&url)?, prefix, services),
        "redis" | "rediss" => QueueBus::start(redis::Redis::new(&url)?, prefix, services),
        other => Err(Error::Scheme(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str, prefix: &str) -> Error {
        let settings = Settings { url: url.into(), prefix: prefix.into() };
        open(&settings, &Services::new()).err().expect("it is refused")
    }

    #[tokio::test]
    async fn a_useless_url_or_prefix_is_refused_without_repeating_a_password() {
        for (url, prefix) in [
            ("nats//h", ""),
            ("amqp://me:hush@h:1", ""),
            ("nsq://me:hush@h:4150", ""),
            ("nsq://h:4150/hush", ""),
            ("redis://:hush@h:1/no-number", ""),
            ("nsq://h:4150", "käse."),
            ("nats://me:hush@h", "two words."),
            ("nats://h", ".a"),
        ] {
            let text = refusal(url, prefix).to_string();
            assert!(!text.contains("hush"), "{text}");
        }
    }
}
