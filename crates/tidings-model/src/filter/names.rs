//! Event names as a filter lists them: each exact, or ending in `*`.

use super::FilterError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let (stem, is_prefix) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if stem.contains('*') {
            return Err(FilterError::Star);
        }
        if text.is_empty() || stem.len() > 255 || stem.chars().any(char::is_control) {
            return Err(FilterError::Name);
        }
        Ok(if is_prefix { Self::Prefix(stem.into()) } else { Self::Exact(stem.into()) })
    }

    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => &**exact == name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}
