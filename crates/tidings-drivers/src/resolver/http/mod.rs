//! Rows from an application's own endpoint, and messages to one.
//!
//! Owns: the request with its id and secret, and what each status means. The secret travels in the header
//! `X-Entity-Secret` and nowhere else.
//! Never: follows a redirect, asks a proxy, decides how long to wait: whoever asks drops the future.

mod body;
mod template;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use template::Template;
use tidings_engine::entities::{Answer, Error, PassThrough, Resolver, Rows, Secret};
use tidings_model::EntityKey;
use url::Url;

const SECRET: HeaderName = HeaderName::from_static("x-entity-secret");
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Connections that are kept for later.
const IDLE_MAX: usize = 16;

/// Where an entity's rows are.
#[derive(Clone)]
pub struct Settings {
    /// With `{id}` in its path or query.
    pub url: String,
    /// Whether the rows depend on the client's secret. Where they don't it is not sent.
    pub secret_matters: bool,
    /// The longest answer.
    pub body_bytes_max: usize,
}

/// What makes an endpoint useless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("not a URL: {0}")]
    Url(url::ParseError),
    #[error("an endpoint begins with http:// or https://, not {0}://")]
    Scheme(String),
    #[error("there is no {{id}} in the path or the query of the URL")]
    NoId,
    #[error("the HTTP client cannot start: {0}")]
    Client(String),
}

/// A client of applications' endpoints. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Http {
    client: Client,
}

impl Http {
    pub fn new() -> Result<Self, Invalid> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_WITHIN)
            .pool_max_idle_per_host(IDLE_MAX)
            .user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Invalid::Client(e.to_string()))?;
        Ok(Self { client })
    }

    /// Fetches an entity by GET. A JSON array is one row for each element, NDJSON one for each line, anything
    /// else that is JSON one row; 204 and 404 are no rows, 403 refuses, any other status is a failure.
    pub fn resolver(&self, settings: &Settings) -> Result<Arc<dyn Resolver>, Invalid> {
        let template = Template::parse(&settings.url)?;
        let Settings { secret_matters, body_bytes_max, .. } = *settings;
        Ok(Arc::new(Endpoint { client: self.client.clone(), template, secret_matters, body_bytes_max }))
    }

    /// Hands messages on by POST, byte for byte; any 2xx takes them.
    pub fn pass_through(&self, url: &str) -> Result<Arc<dyn PassThrough>, Invalid> {
        let url = template::endpoint(url)?;
        Ok(Arc::new(Hook { client: self.client.clone(), url }))
    }
}

struct Endpoint {
    client: Client,
    template: Template,
    secret_matters: bool,
    body_bytes_max: usize,
}

impl Resolver for Endpoint {
    fn secret_matters(&self) -> bool {
        self.secret_matters
    }

    fn fetch<'a>(&'a self, key: &'a EntityKey, secret: &'a Secret, out: Rows) -> Answer<'a> {
        Box::pin(async move {
            let Some(url) = self.template.with_id(key.id.as_str()) else { return Err(Error::Refused) };
            let response = send(self.client.get(url), secret).await?;
            match response.status() {
                StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
                StatusCode::FORBIDDEN => Err(Error::Refused),
                status if status.is_success() => {
                    let is_lines = body::is_lines(response.headers().get(CONTENT_TYPE));
                    let body = read(response, self.body_bytes_max).await?;
                    body::rows(body, is_lines, &out)
                }
                status => Err(Error::Failed(format!("the endpoint answered {status}"))),
            }
        })
    }
}

struct Hook {
    client: Client,
    url: Url,
}

impl PassThrough for Hook {
    fn take<'a>(&'a self, secret: &'a Secret, message: Bytes) -> Answer<'a> {
        Box::pin(async move {
            let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
            let status = send(request.body(message), secret).await?.status();
            if status.is_success() {
                return Ok(());
            }
            Err(Error::Failed(format!("the endpoint answered {status}")))
        })
    }
}

async fn send(request: RequestBuilder, secret: &Secret) -> Result<Response, Error> {
    let request = match secret.is_empty() {
        true => request,
        false => {
            // A secret that no header can carry is nobody's.
            let value = HeaderValue::from_bytes(secret.expose().as_bytes()).map_err(|_| Error::Refused)?;
            let mut value = value;
            value.set_sensitive(true);
            request.header(SECRET, value)
        }
    };
    request.send().await.map_err(failed)
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Bytes, Error> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        if body.len() + part.len() > bytes_max {
            return Err(Error::Failed(format!("the endpoint's answer is longer than {bytes_max} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(body.into())
}

/// Without the URL: there may be a password or an id in it.
fn failed(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::Failed(format!("{error}{cause}"))
}
