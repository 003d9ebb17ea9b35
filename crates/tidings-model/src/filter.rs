//! Which events of a topic a reader wants: by key and by event name.
//!
//! Text form: names separated by `,`; a name may end in `*` and then matches every name it begins.

use crate::{Event, Key};

/// Names and key an event must match; an empty filter matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub key: Option<Key>,
    names: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

/// A filter that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("a filter has at most {0} names")]
    TooMany(usize),
    #[error("a name in a filter has 1 to 255 bytes and no control characters")]
    Name,
    #[error("`*` may only end a name")]
    Star,
}

impl Filter {
    pub const NAMES_MAX: usize = 64;

    /// `order.created,order.paid` or `order.*`; an empty text filters nothing.
    pub fn parse_names(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        filter.add_names(text)?;
        Ok(filter)
    }

    /// Adds the names of `text` to those already wanted.
    pub fn add_names(&mut self, text: &str) -> Result<(), FilterError> {
        for name in text.split(',').filter(|_| !text.is_empty()) {
            if self.names.len() == Self::NAMES_MAX {
                return Err(FilterError::TooMany(Self::NAMES_MAX));
            }
            self.names.push(Pattern::parse(name)?);
        }
        Ok(())
    }

    pub fn with_key(mut self, key: Option<Key>) -> Self {
        self.key = key;
        self
    }

    pub fn matches(&self, event: &Event) -> bool {
        self.matches_parts(event.key(), event.name())
    }

    /// As [`Filter::matches`], where only the key and the name are at hand.
    pub fn matches_parts(&self, key: Option<&str>, name: Option<&str>) -> bool {
        self.key.as_ref().is_none_or(|wanted| key == Some(wanted.as_str()))
            && (self.names.is_empty() || name.is_some_and(|n| self.names.iter().any(|p| p.matches(n))))
    }

    /// Whether every event passes.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.names.is_empty()
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, FilterError> {
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

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => &**exact == name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_exactly_or_by_prefix() {
        let filter = Filter::parse_names("paid,order.*").unwrap();
        assert!(filter.matches_parts(None, Some("paid")));
        assert!(filter.matches_parts(None, Some("order.created")));
        assert!(!filter.matches_parts(None, Some("paid.twice")));
        assert!(!filter.matches_parts(None, None));
        assert!(Filter::default().matches_parts(None, None));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert_eq!(Filter::parse_names("a*b"), Err(FilterError::Star));
        assert_eq!(Filter::parse_names("a,,b"), Err(FilterError::Name));
        assert_eq!(Filter::parse_names(&vec!["a"; 65].join(",")), Err(FilterError::TooMany(64)));
    }
}
