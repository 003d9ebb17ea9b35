//! Why a user is not made, changed or let in.

use super::user::{HASH_BYTES_MAX, NAME_BYTES_MAX};
use tidings_model::Code;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("users cannot sign up here")]
    SignUpClosed,
    #[error("only an admin may give grants, an id or a hash")]
    AdminOnly,
    #[error("another user has this name")]
    NameTaken,
    #[error("a user's name has 1 to {NAME_BYTES_MAX} bytes")]
    NameLength,
    #[error("a user's name {0}")]
    Name(&'static str),
    #[error("a password has at least {min} characters")]
    PasswordShort { min: usize },
    #[error("a password has at most {max} bytes")]
    PasswordLong { max: usize },
    #[error("there is no user of this name with this password")]
    Credentials,
    #[error("an admin has revoked this user")]
    Revoked,
    #[error("there is no such user")]
    Unknown,
    #[error("this token is not that of a user")]
    NotUser,
    #[error(
        "the hash is neither argon2 in PHC form nor bcrypt, has more than {HASH_BYTES_MAX} bytes, or costs too much"
    )]
    Hash,
    #[error("there are {0} users already; no new one can be created")]
    Full(usize),
    #[error("the system has no memory or randomness for a password's hash")]
    Resources,
    #[error("too many attempts; try again in {retry_after_s} s")]
    TooMany { retry_after_s: u32 },
}

impl UserError {
    pub(crate) const NAME_CONTROL: Self = Self::Name("has no control characters");
    pub(crate) const NAME_BLANK: Self = Self::Name("has no blank at either end");

    /// The stable word for it.
    pub fn code(&self) -> Code {
        match self {
            Self::SignUpClosed => Code::SignUpClosed,
            Self::AdminOnly => Code::Forbidden,
            Self::NameTaken => Code::UserNameTaken,
            Self::Name(_) | Self::NameLength => Code::UserNameInvalid,
            Self::PasswordShort { .. } | Self::PasswordLong { .. } => Code::PasswordInvalid,
            Self::Credentials => Code::CredentialsInvalid,
            Self::Revoked => Code::UserRevoked,
            Self::Unknown | Self::NotUser => Code::UserUnknown,
            Self::Hash => Code::HashUnsupported,
            Self::Full(_) => Code::UsersFull,
            Self::Resources => Code::Internal,
            Self::TooMany { .. } => Code::RateLimited,
        }
    }
}
