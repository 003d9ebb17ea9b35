//! Why a text is no filter, and where in it.

use crate::Code;

/// A filter that can't be read. Characters are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("a filter has at most {0} names")]
    TooMany(usize),
    #[error("a name in a filter has 1 to 255 bytes and no control characters")]
    Name,
    #[error("`*` may only end a name")]
    Star,
    #[error("at character {at} of the filter: expected {expected}, found {found}")]
    Expected { at: usize, expected: &'static str, found: Box<str> },
    #[error("at character {at} of the filter: there is no field {found}, only {known}")]
    Field { at: usize, found: Box<str>, known: &'static str },
    #[error("at character {at} of the filter: it has at most {max} {what}")]
    Bound { at: usize, max: usize, what: &'static str },
    #[error("a filter has at most {0} bytes")]
    TooLong(usize),
}

impl FilterError {
    pub fn code(&self) -> Code {
        Code::FilterInvalid
    }

    /// The character of the expression where reading it ended, counted from 1.
    pub fn at(&self) -> Option<usize> {
        match self {
            Self::Expected { at, .. } | Self::Field { at, .. } | Self::Bound { at, .. } => Some(*at),
            Self::TooMany(_) | Self::Name | Self::Star | Self::TooLong(_) => None,
        }
    }
}
