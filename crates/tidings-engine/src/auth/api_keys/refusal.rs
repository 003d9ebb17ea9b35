//! Why an API key is not made or changed.

use tidings_model::{Code, KeyKind, Uuid};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    #[error("there is no API key {0}")]
    Unknown(Uuid),
    #[error("another API key has this name")]
    NameTaken,
    #[error("the `{field}` of an API key has 1 to 255 bytes, no control characters, no blank at either end")]
    Text { field: &'static str },
    #[error("API key {0} is already revoked")]
    Revoked(Uuid),
    #[error("there is no destination {0}")]
    Destination(Uuid),
    #[error("an API key of kind {kind} takes no {what}")]
    Kind { kind: KeyKind, what: &'static str },
    #[error("an API key has at most {max} topics for each direction, and as many destinations")]
    TooMany { max: usize },
    #[error("there are {0} API keys already; no new one can be created")]
    Full(usize),
    #[error("the caller did not come with an API key, from which a token could be made")]
    NotKey,
    #[error("the expiration has passed already")]
    Expired,
    #[error("the system has no randomness for a secret")]
    Randomness,
}

impl ApiKeyError {
    /// The stable word for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::KeyUnknown,
            Self::NameTaken => Code::KeyNameTaken,
            Self::Text { .. } | Self::TooMany { .. } | Self::Expired => Code::ParameterInvalid,
            Self::Revoked(_) => Code::KeyRevoked,
            Self::Destination(_) => Code::DestinationUnknown,
            Self::Kind { .. } => Code::KeyKind,
            Self::Full(_) => Code::KeysFull,
            Self::NotKey => Code::Forbidden,
            Self::Randomness => Code::Internal,
        }
    }
}
