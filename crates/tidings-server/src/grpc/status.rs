//! A refusal as a gRPC status.
//!
//! Owns: which status goes with which code, and the metadata that carries what a status has no place for:
//! `tidings-code`, `tidings-index`, `retry-after`.

use crate::refusal::Refusal;
use tidings_model::Code;
use tonic::metadata::MetadataValue;
use tonic::{Code as Kind, Status};

/// The stable code, in the metadata of every refusal.
pub const CODE: &str = "tidings-code";

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(kind(refusal.code), refusal.detail);
        let metadata = status.metadata_mut();
        metadata.insert(CODE, MetadataValue::from_static(refusal.code.as_str()));
        if let Some(seconds) = refusal.retry_after {
            metadata.insert("retry-after", MetadataValue::from(seconds));
        }
        for (name, value) in refusal.extra {
            if let ("index", Some(index)) = (name, value.as_u64()) {
                metadata.insert("tidings-index", MetadataValue::from(index));
            }
        }
        status
    }
}

/// A refusal of the engine, as a call is answered.
pub fn of(error: impl Into<Refusal>) -> Status {
    error.into().into()
}

/// There is no such service or method.
pub fn no_method(path: &str) -> Status {
    let path: String = path.chars().take(100).collect();
    of(Refusal::new(Code::MethodNotAllowed, format!("there is no method {path}")))
}

/// What clients can do about a code decides its status.
fn kind(code: Code) -> Kind {
    match code {
        Code::ConnectionsFull | Code::TopicsFull | Code::UsersFull => Kind::ResourceExhausted,
        Code::MethodNotAllowed | Code::MediaTypeUnsupported => Kind::Unimplemented,
        Code::Internal | Code::LogCorrupt => Kind::Internal,
        Code::LogReadOnly => Kind::Unavailable,
        code => match code.status() {
            401 => Kind::Unauthenticated,
            403 => Kind::PermissionDenied,
            404 => Kind::NotFound,
            408 | 504 => Kind::DeadlineExceeded,
            409 => Kind::AlreadyExists,
            429 | 507 => Kind::ResourceExhausted,
            502 | 503 => Kind::Unavailable,
            400 | 413 => Kind::InvalidArgument,
            _ => Kind::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_says_something() {
        for code in Code::ALL {
            let status = of(Refusal::new(*code, "why"));
            assert!(!matches!(status.code(), Kind::Ok | Kind::Unknown), "{code}");
            assert_eq!(status.metadata().get(CODE).unwrap(), code.as_str());
        }
        assert_eq!(of(Refusal::new(Code::TokenMissing, "")).code(), Kind::Unauthenticated);
        assert_eq!(of(Refusal::new(Code::RateLimited, "")).code(), Kind::ResourceExhausted);
        assert_eq!(of(Refusal::new(Code::UserNameTaken, "")).code(), Kind::AlreadyExists);
    }
}
