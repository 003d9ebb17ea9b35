//! Publishing over HTTP or gRPC: how a request is made, and whether it was acknowledged.

use crate::args::{Args, die};
use crate::clock::now_ns;
use crate::http::{self, Client};
use crate::marker::payload;
use crate::{h2, rpc};

/// How events are published. In path and body `%P` is the payload with its marker, `%S` the sequence, `%N` the
/// sequence modulo `--topics`.
#[derive(Clone)]
pub struct Plan {
    pub address: String,
    pub path: String,
    pub headers: Vec<String>,
    pub body: String,
    pub size: usize,
    pub topics: u64,
    /// Over gRPC, to this topic, instead of path and body.
    pub rpc: Option<String>,
}

/// A connection that events are published over.
pub enum Publisher {
    Http(Client),
    Rpc(h2::Client),
}

impl Plan {
    pub fn from_args(args: &Args) -> Self {
        Self {
            address: args.needed("addr"),
            path: args.text("pub-path", "/publish"),
            headers: args.all("pub-header"),
            body: args.text("body", "%P"),
            size: args.number("size", 150),
            topics: args.number("topics", 1).max(1),
            rpc: args.optional("pub-rpc"),
        }
    }

    pub fn at_yardstick(&self, address: &str) -> Self {
        Self {
            address: address.into(),
            path: "/".into(),
            headers: vec![],
            body: "%P".into(),
            size: self.size,
            topics: 1,
            rpc: None,
        }
    }

    pub fn open(&self) -> Publisher {
        let opened = match &self.rpc {
            None => Client::open(&self.address).map(Publisher::Http),
            Some(_) => h2::Client::open(&self.address, rpc::PUBLISH, &self.headers).map(Publisher::Rpc),
        };
        opened.unwrap_or_else(|error| die(format!("publisher: {error}")))
    }

    pub fn publish(&self, publisher: &mut Publisher, sequence: u64) -> std::io::Result<()> {
        let payload = payload(self.size, now_ns(), sequence % 100_000_000);
        let client = match publisher {
            Publisher::Http(client) => client,
            Publisher::Rpc(client) => {
                let topic = self.rpc.as_deref().unwrap_or_default();
                return client.call(&rpc::publish(topic, &format!("\"{payload}\""))).map(drop);
            }
        };
        let fill = |text: &str| {
            let topic = (sequence % self.topics).to_string();
            text.replace("%P", &payload).replace("%S", &sequence.to_string()).replace("%N", &topic)
        };
        let path = if self.path.contains('%') { &fill(&self.path) } else { &self.path };
        let request = http::post(&self.address, path, &self.headers, &fill(&self.body));
        let (status, body) = client.call(&request)?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        Err(std::io::Error::other(format!("{status} {}", String::from_utf8_lossy(&body))))
    }
}
