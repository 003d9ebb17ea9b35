//! Refusals as Broker's clients read them: `{"error": TEXT, "code": WORD}`.

use super::ascii;
use crate::http::reply;
use crate::refusal::Refusal;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tidings_model::Code;

/// A refused request of Broker's interface.
#[derive(Debug)]
pub struct Denied {
    refusal: Refusal,
    /// Where it is not the code's own.
    status: Option<u16>,
}

impl Denied {
    pub fn new(code: Code, error: impl Into<String>) -> Self {
        Refusal::new(code, error).into()
    }

    /// Under a status that Broker's clients expect.
    pub fn with_status(code: Code, status: u16, error: impl Into<String>) -> Self {
        Self { status: Some(status), ..Self::new(code, error) }
    }
}

impl<R: Into<Refusal>> From<R> for Denied {
    fn from(refused: R) -> Self {
        Self { refusal: refused.into(), status: None }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let Refusal { code, detail, retry_after, .. } = self.refusal;
        let status = StatusCode::from_u16(self.status.unwrap_or(code.status())).expect("a status");
        let mut out = b"{\"error\":".to_vec();
        ascii::string(&mut out, &detail);
        out.extend_from_slice(b",\"code\":");
        ascii::string(&mut out, code.as_str());
        out.push(b'}');
        let mut response = reply::json(status, out);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
