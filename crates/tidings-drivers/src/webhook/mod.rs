//! Carries webhooks out over HTTP.
//!
//! Owns: the connections, which are kept for the next one, and what an answer is. HTTP/1.1, since many receivers
//! stand behind nothing that speaks more. Never: follows a redirect, asks a proxy, reads an answer to its end, or
//! connects to a private address where that is not allowed.

mod resolve;

use bytes::BytesMut;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use resolve::Guard;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidings_engine::delivery::{Answer, Courier, Request, Sending, is_private};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Connections that are kept for later, for each receiver, and for how long.
const IDLE_MAX: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(20);
/// An answer that goes on beyond this is not read to its end, and its connection is given up.
const DRAIN_BYTES: usize = 64 << 10;

/// A courier over HTTP. Clones share connections.
///
/// A client is made for its first webhook: reading the system's certificates takes most of a server's start. Where
/// there are none, webhooks fail and say so, and the rest of the server works.
#[derive(Clone, Default)]
pub struct Webhooks {
    /// Looks up names, and takes public addresses only.
    guarded: Arc<OnceLock<Client>>,
    open: Arc<OnceLock<Client>>,
}

impl Webhooks {
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self, allow_private: bool) -> Result<&Client, String> {
        let place = if allow_private { &self.open } else { &self.guarded };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_WITHIN)
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_FOR);
        let client = if allow_private { client } else { client.dns_resolver(Arc::new(Guard)) };
        let client =
            client.build().map_err(|error| format!("the HTTP client cannot start: {}", cause(error)))?;
        Ok(place.get_or_init(|| client))
    }

    async fn post(&self, request: Request, until: Instant) -> Result<Answer, String> {
        let url = Url::parse(&request.url).map_err(|error| error.to_string())?;
        let client = self.client(request.allow_private)?;
        // An address is looked up nowhere, so the resolver does not see it.
        let literal: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(v4)) => Some(v4.into()),
            Some(Host::Ipv6(v6)) => Some(v6.into()),
            _ => None,
        };
        if !request.allow_private && literal.is_some_and(is_private) {
            return Err(resolve::REFUSED.into());
        }
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|error| error.to_string())?);
        }
        let sent = timeout_at(until, client.post(url).headers(headers).body(request.body).send()).await;
        let late = |_| format!("no answer within {} ms", request.timeout.as_millis());
        let mut response = sent.map_err(late)?.map_err(cause)?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(|text| text.chars().take(64).collect());
        let status = response.status().as_u16();
        // The status says it all: an answer that breaks off or hangs behind it is no failure.
        let mut body = BytesMut::new();
        let _ = timeout_at(until, read(&mut response, &mut body, request.answer_bytes)).await;
        Ok(Answer::Status { status, retry_after, body: body.freeze() })
    }
}

impl Courier for Webhooks {
    fn send(&self, request: Request) -> Sending<'_> {
        Box::pin(async move {
            let until = Instant::now() + request.timeout;
            self.post(request, until).await.unwrap_or_else(|why| Answer::Failed(why.into()))
        })
    }
}

/// Reads on until the end, so that the connection can be used again, and keeps the first `max` bytes.
async fn read(response: &mut Response, kept: &mut BytesMut, max: usize) {
    let mut read = 0;
    while let Ok(Some(part)) = response.chunk().await {
        let room = max - kept.len();
        kept.extend_from_slice(&part[..part.len().min(room)]);
        read += part.len();
        if read > DRAIN_BYTES {
            break;
        }
    }
}

/// The innermost cause, without the URL: there may be a secret in it.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
