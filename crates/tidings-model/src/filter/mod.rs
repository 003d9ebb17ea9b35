//! Which events of a topic a reader wants: by key, by event name, and by an expression over all it holds.
//!
//! Names: separated by `,`; a name may end in `*` and then matches every name it begins. Expressions have
//! their language documented at [`Filter::parse`].
//! Owns: reading, printing and evaluating filters. Never: recurses as deep as a text says, or takes a text
//! that cannot be read for a filter that lets everything pass.

mod decimal;
mod error;
mod expression;
mod field;
mod json;
mod names;
mod parse;
mod print;
mod reader;
mod value;

pub use error::FilterError;

use crate::{Event, Key};
use expression::Expression;
use names::Pattern;
use std::sync::Arc;

/// What an event must match; an empty filter matches everything. Cheap to clone: an expression is shared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub key: Option<Key>,
    names: Vec<Pattern>,
    expression: Option<Arc<Expression>>,
}

impl Filter {
    pub const NAMES_MAX: usize = 64;
    /// Bytes of an expression.
    pub const EXPRESSION_BYTES_MAX: usize = 8192;
    /// Brackets and `not` within each other.
    pub const DEPTH_MAX: usize = 32;
    /// Comparisons of an expression.
    pub const TERMS_MAX: usize = 64;
    /// Comparisons with `contains` in `data` and `context`: each may go through all of it.
    pub const SEARCHES_MAX: usize = 8;
    /// Values in all lists of an expression.
    pub const VALUES_MAX: usize = 1024;
    /// Parts of a path into JSON.
    pub const PATH_MAX: usize = 16;

    /// Reads an expression, such as `data.total > 10 and (name == 'paid' or not key in ['7', '8'])`.
    ///
    /// # Language
    /// Comparisons are joined with `not`, `and` and `or`, which bind in this order, and with brackets.
    /// A comparison is a field, an operator and a value; spaces around the operator may be left out.
    ///
    /// * **Fields**: `topic` (as the event's JSON has it), `topic_name` (without the key), `key` (also
    ///   `topic_identifier`), `id`, `name`, `source`, `user` (also `user_key`), `offset`, `occurred_at`,
    ///   `available_at`, `published_at`, `deleted`, `group_key`, `reference_key`, `trace_key`,
    ///   `anonymous_key`, `data_schema`, `prev_id`, `verified`, `data` and `context`.
    /// * **Paths** go on from `data` and `context`: `data.cart.total`, `data.items[0].sku`,
    ///   `data['first name']`. `data.0` is `data[0]`: the element of an array, or the member of this name.
    ///   Names with other characters than letters, digits, `_`, `-`, `$` and `@` stand in brackets and quotes.
    /// * **Operators**: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in [..]`, `contains`, `starts_with`.
    /// * **Values**: texts in single or double quotes with the escapes of JSON and `\'`; numbers as in JSON;
    ///   `true`, `false`, `null`; `'2026-01-31'::DATE` and `'2026-01-31T12:00:00Z'::DATETIME`. In a list,
    ///   a word without quotes is a text.
    ///
    /// # Meaning
    /// * Values of different kinds are never equal and in no order: `"10"` is not `10`. A field that is
    ///   absent is `null`. A comparison is true or false and nothing between: `!=` is exactly `not` with
    ///   `==`, so it holds where the field is absent; the orderings do not.
    /// * Texts are compared by their code points. Case counts: in texts, in fields and in paths. It does not
    ///   in `and`, `or`, `not`, operators, `true`, `false`, `null` and after `::`.
    /// * Numbers are compared by all their digits, never rounded: 64-bit integers, and 0.1 is 0.10.
    /// * A `DATE` is compared with the day in UTC, a `DATETIME` with the millisecond; both with times of the
    ///   event and with texts in `data` and `context` that are RFC 3339 dates or times. For the event's own
    ///   times, a text value may leave out `::`.
    /// * `contains` asks for a part of a text, or for an element of an array. `starts_with` is for texts.
    ///   Arrays and objects are equal to nothing.
    /// * Of members with one name the last one counts.
    ///
    /// # Errors
    /// With the place and what was expected there. An own field with a value of a kind it never has is an
    /// error too, as such a comparison is a mistake. An empty text is no expression.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let expression = Some(Arc::new(parse::expression(text)?));
        Ok(Self { expression, ..Self::default() })
    }

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
            && self.expression.as_ref().is_none_or(|expression| expression.matches(event))
    }

    /// Whether the key and the name pass, whatever an expression says.
    pub fn matches_parts(&self, key: Option<&str>, name: Option<&str>) -> bool {
        self.key.as_ref().is_none_or(|wanted| key == Some(wanted.as_str()))
            && (self.names.is_empty() || name.is_some_and(|n| self.names.iter().any(|p| p.matches(n))))
    }

    /// The expression, printed so that it reads back as the same; it may be longer than what was read.
    pub fn expression(&self) -> Option<String> {
        self.expression.as_ref().map(ToString::to_string)
    }

    /// Whether every event passes.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.names.is_empty() && self.expression.is_none()
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
