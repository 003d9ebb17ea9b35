//! What a request is answered with when it is refused: `application/problem+json` (RFC 9457).
//!
//! Owns: the form of an error over HTTP, and that what happened inside is logged once and not shown.
//! Never: decides what is refused.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use tidings_engine::auth::UserError;
use tidings_engine::inbound::InboundError;
use tidings_engine::{Error, auth, entities};
use tidings_model::{Code, EventError, FilterError, FromError, TopicError};

/// A refused request. `extra` are further members of the answer, such as `line`.
#[derive(Debug)]
pub struct Refusal {
    pub code: Code,
    pub detail: String,
    pub extra: Vec<(&'static str, Value)>,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

/// A resolver's own words are for whoever runs the server.
const NOT_FETCHED: &str = "fetching the rows failed; the server's log says more";

impl Refusal {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after = (code.retryable() && code.status() == 503).then_some(1);
        Self { code, detail: detail.into(), extra: Vec::new(), retry_after }
    }

    /// A query parameter or field that cannot be taken.
    pub fn parameter(detail: impl Into<String>) -> Self {
        Self::new(Code::ParameterInvalid, detail)
    }

    /// Something unexpected: logged here, and told to nobody.
    pub fn internal(error: impl Display) -> Self {
        tracing::error!(%error, "a request failed for a reason within the server");
        Self::new(Code::Internal, "something unexpected happened; the server's log says more")
    }

    /// Why an entity's rows cannot be had.
    pub fn of_rows(error: &entities::Error) -> Self {
        let detail =
            if error.code() == Code::ResolverFailed { NOT_FETCHED.into() } else { error.to_string() };
        Self::new(error.code(), detail)
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.push((name, value.into()));
        self
    }
}

/// What `work` answers; where it panics, what `refuse` makes of that. A panic is a broken invariant within one request:
/// the others go on.
pub async fn guarded<T>(work: impl Future<Output = T>, refuse: impl FnOnce(Refusal) -> T) -> T {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| refuse(Refusal::internal("a handler panicked")))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = error.code();
        let index = match &error {
            Error::Event { index, .. }
            | Error::Schema { index, .. }
            | Error::EventTooLarge { index, .. }
            | Error::ScheduleTooFar { index, .. } => Some(*index),
            _ => None,
        };
        let refusal = match code {
            Code::Internal => Self::internal(&error),
            // The log's own words name files and drivers; they are for whoever runs the server.
            Code::LogReadOnly => Self::new(code, "a write has failed; the log takes no more until a restart"),
            Code::ResolverFailed => Self::new(code, NOT_FETCHED),
            Code::BusUnavailable => Self::new(
                code,
                "the queue between the servers is out of reach: readers at this server were told, others perhaps not",
            ),
            Code::LogCorrupt => {
                tracing::error!(%error, "a request met a damaged record");
                Self::new(code, "a record on disk is damaged; the server's log says which")
            }
            _ => Self::new(code, error.to_string()),
        };
        let refusal = match error {
            Error::User(UserError::TooMany { retry_after_s })
            | Error::Inbound(InboundError::TooMany { retry_after_s }) => {
                Self { retry_after: Some(retry_after_s), ..refusal }
            }
            _ => refusal,
        };
        index.into_iter().fold(refusal, |refusal, index| refusal.with("index", index))
    }
}

impl From<EventError> for Refusal {
    fn from(error: EventError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<UserError> for Refusal {
    fn from(error: UserError) -> Self {
        Error::User(error).into()
    }
}

impl From<auth::Refused> for Refusal {
    fn from(refused: auth::Refused) -> Self {
        match refused {
            auth::Refused::Engine(error) => error.into(),
            refused => Self::new(refused.code(), refused.to_string()),
        }
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        Self::new(Code::TopicInvalid, error.to_string())
    }
}

impl From<FromError> for Refusal {
    fn from(error: FromError) -> Self {
        Self::new(Code::CursorInvalid, error.to_string())
    }
}

impl From<FilterError> for Refusal {
    fn from(error: FilterError) -> Self {
        let refusal = Self::new(error.code(), error.to_string());
        error.at().into_iter().fold(refusal, |refusal, at| refusal.with("character", at))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).expect("codes have valid statuses");
        let mut problem = Map::new();
        problem.insert("type".into(), "about:blank".into());
        problem.insert("title".into(), status.canonical_reason().unwrap_or("Error").into());
        problem.insert("status".into(), status.as_u16().into());
        problem.insert("code".into(), self.code.as_str().into());
        problem.insert("detail".into(), self.detail.into());
        problem.extend(self.extra.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let mut response = Response::new(Body::from(Value::Object(problem).to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
