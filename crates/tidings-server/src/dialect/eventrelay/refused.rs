//! Refusals as EventRelay's clients read them: `{"errors": [TEXT]}`.

use crate::http::reply;
use crate::refusal::Refusal;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tidings_model::Code;

/// A refused request of EventRelay's interface.
#[derive(Debug)]
pub struct Refused {
    status: u16,
    error: String,
    retry_after: Option<u32>,
}

impl Refused {
    pub fn new(status: u16, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), retry_after: None }
    }
}

impl<R: Into<Refusal>> From<R> for Refused {
    fn from(refusal: R) -> Self {
        let refusal = refusal.into();
        let error = match refusal.code {
            Code::TokenMissing | Code::TokenInvalid => "Unauthorized".to_owned(),
            Code::TokenExpired | Code::TokenRevoked => format!("Unauthorized: {}", refusal.detail),
            _ => refusal.detail,
        };
        Self { status: refusal.code.status(), error, retry_after: refusal.retry_after }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("a status");
        let mut response = reply::json(status, json!({ "errors": [self.error] }).to_string());
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
