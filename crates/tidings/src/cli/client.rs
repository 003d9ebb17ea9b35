//! A client of a running server over HTTP.
//!
//! Owns: where the server is, the token, and what an answer means. Never: retries; see `retry.rs`.

use super::token::Claims;
use super::{Context, Place};
use anyhow::{Result, anyhow};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tidings::{Code, DataSecret, Topic};

/// How long a token of our own making is valid; it is made anew when half of that has passed.
const TOKEN_TTL: Duration = Duration::from_secs(3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    pub place: Place,
    /// The server [env TIDINGS_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The token [env TIDINGS_TOKEN] [default: made from the secret in --data]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

pub struct Client {
    http: reqwest::Client,
    base: String,
    tokens: Tokens,
}

enum Tokens {
    Given(String),
    Made { secret: DataSecret, newest: Mutex<Option<(String, Instant)>> },
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing, or not everything, came back.
    #[error("cannot reach {base}: {why}")]
    Unreachable { base: String, why: String },
    #[error("{detail} ({code})")]
    Refused { code: String, detail: String, is_retryable: bool },
}

impl Failure {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { is_retryable, .. } => *is_retryable,
        }
    }
}

/// `application/problem+json`, as far as a user needs it.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: Option<String>,
    title: Option<String>,
}

impl Client {
    pub fn new(args: &Args, context: &Context) -> Result<Self> {
        let given = args.url.as_deref().or_else(|| context.variable("TIDINGS_URL"));
        let base = given.map_or_else(|| usual_url(context), |url| url.trim_end_matches('/').to_owned());
        let tokens = match args.token.as_deref().or_else(|| context.variable("TIDINGS_TOKEN")) {
            Some(token) => Tokens::Given(token.trim().to_owned()),
            None => {
                let secret = DataSecret::read(&context.config().data)
                    .map_err(|e| anyhow!("no --token, no TIDINGS_TOKEN, and {e} ({})", Code::TokenMissing))?;
                Tokens::Made { secret, newest: Mutex::default() }
            }
        };
        // A proxy is configured by environment variables, which only `main.rs` reads.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).build()?;
        Ok(Self { http, base, tokens })
    }

    /// A request with the token; `path` is already encoded.
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        Ok(self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.token()?))
    }

    /// Sends, and takes any status but success as a failure.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(refused(status, &body))
    }

    /// Sends, and reads the whole answer as JSON.
    pub async fn json<T: for<'a> Deserialize<'a>>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        serde_json::from_slice(&body).map_err(|e| Failure::Refused {
            code: Code::Internal.to_string(),
            detail: format!("the server's answer cannot be read: {e}"),
            is_retryable: false,
        })
    }

    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::Unreachable { base: self.base.clone(), why: root(error) }
    }

    /// The connection is of no use any more.
    pub fn lost(&self, why: &str) -> Failure {
        Failure::Unreachable { base: self.base.clone(), why: why.to_owned() }
    }

    /// Whether another token can be had when this one has ended.
    pub fn makes_tokens(&self) -> bool {
        matches!(self.tokens, Tokens::Made { .. })
    }

    fn token(&self) -> Result<String> {
        let (secret, newest) = match &self.tokens {
            Tokens::Given(token) => return Ok(token.clone()),
            Tokens::Made { secret, newest } => (secret, newest),
        };
        let mut newest = newest.lock().expect("no panic while holding the lock");
        if let Some((token, made)) = &*newest
            && made.elapsed() < TOKEN_TTL / 2
        {
            return Ok(token.clone());
        }
        let claims = Claims { admin: true, sub: Some("tidings-cli".into()), ..Claims::default() };
        let token = claims.sign(secret, TOKEN_TTL)?;
        *newest = Some((token.clone(), Instant::now()));
        Ok(token)
    }
}

/// The server that the same settings would start on this machine.
fn usual_url(context: &Context) -> String {
    let http = &context.config().http;
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", super::serve::reachable(http.listen))
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let known = Code::ALL.iter().find(|c| c.as_str() == problem.code);
            Failure::Refused {
                detail: problem.detail.or(problem.title).unwrap_or_else(|| status.to_string()),
                is_retryable: known.map_or(status.is_server_error(), |c| c.retryable()),
                code: problem.code,
            }
        }
        // Not from Tidings: perhaps a proxy whose upstream is just being started again.
        Err(_) => Failure::Refused {
            code: format!("http_{}", status.as_u16()),
            detail: format!("the server answered {status}"),
            is_retryable: matches!(status.as_u16(), 429 | 502 | 503 | 504),
        },
    }
}

/// The innermost cause: the outer ones only say that a request was being sent.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// `/v1/topics/TOPIC` with everything encoded that is not plain.
pub fn topic_path(topic: &Topic) -> String {
    format!("/v1/topics/{}", encode(&topic.to_string()))
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
