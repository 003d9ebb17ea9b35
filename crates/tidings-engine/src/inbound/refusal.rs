//! Why an inbound webhook is refused, or what is sent to it.

use super::record::SIGNING_FORM;
use tidings_model::Code;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    #[error("no inbound webhook has this id")]
    Unknown,
    #[error("there are {0} inbound webhooks already; no new one can be created")]
    Full(usize),
    #[error("`{field}` has 1 to 255 bytes without control characters")]
    Text { field: &'static str },
    #[error("an event name must not begin with `$`")]
    NameReserved,
    #[error("`key` has 8 to 128 visible ASCII characters without `:`, `secret` 24 to 128")]
    Basic,
    #[error("{SIGNING_FORM}")]
    Signing,
    /// Nobody is told which part was wrong.
    #[error("the key, the secret or the signature is not this webhook's, or the message is too old")]
    Unauthorized,
    #[error("too many messages; the next one in {retry_after_s} s")]
    TooMany { retry_after_s: u32 },
}

impl InboundError {
    pub fn code(&self) -> Code {
        match self {
            Self::Unknown => Code::InboundUnknown,
            Self::Full(_) => Code::InboundFull,
            Self::Text { .. } | Self::NameReserved | Self::Basic | Self::Signing => Code::ParameterInvalid,
            Self::Unauthorized => Code::CredentialsInvalid,
            Self::TooMany { .. } => Code::RateLimited,
        }
    }
}
