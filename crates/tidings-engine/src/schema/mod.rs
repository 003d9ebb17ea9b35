//! JSON Schemas that an event's data must fulfil.
//!
//! Owns: compiling them once, which ones hold for an event, and the bounds on what that costs. Schemas come from
//! admins, for a topic's event names, and from publishers with each event, so none is trusted: nothing is
//! fetched, nothing recurses, and regular expressions take linear time. Never: changes an event.

mod bounds;
mod known;

pub(crate) use known::{Schemas, TopicSchemas};

use bounds::Cost;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use std::fmt::Write as _;
use tidings_model::Code;

/// Longest schema.
pub const BYTES_MAX: usize = 64 << 10;
/// Compiled size of one regular expression.
const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Bytes of data times parts of the schema that may be applied to each value in it.
const WORK_MAX: u64 = 50_000_000;
/// Beyond that it is said that the data does not fulfil the schema, and not where.
const EXPLAINED_WORK_MAX: u64 = 2_000_000;
/// What is said about a violation at most.
const TEXT_MAX: usize = 300;

/// Why a schema is not taken, or an event not under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema is not taken: {0}")]
    Invalid(String),
    #[error("the data does not fulfil its schema: {0}")]
    Violated(String),
}

impl SchemaError {
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::SchemaInvalid,
            Self::Violated(_) => Code::SchemaViolated,
        }
    }
}

/// A schema that data can be checked against.
pub(crate) struct Schema {
    validator: Validator,
    cost: Cost,
    /// About what it holds in memory.
    weight: usize,
}

impl Schema {
    /// Reads a schema from JSON text.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        check_length(text.len())?;
        let schema = serde_json::from_str(text).map_err(|e| SchemaError::Invalid(format!("no JSON: {e}")))?;
        Self::of(&schema)
    }

    /// Compiles a schema whose text is short enough.
    pub fn of(schema: &Value) -> Result<Self, SchemaError> {
        check_length(schema.to_string().len())?;
        if !schema.is_object() && !schema.is_boolean() {
            return Err(SchemaError::Invalid("it is neither an object nor true nor false".into()));
        }
        let cost = bounds::of(schema)?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().offline().with_pattern_options(patterns);
        let validator = options.build(schema).map_err(|e| SchemaError::Invalid(brief(&e)))?;
        let weight = 500 * cost.parts as usize + 3 * PATTERN_BYTES_MAX * cost.patterns as usize;
        Ok(Self { validator, cost, weight })
    }

    /// Whether `data` (JSON of `bytes`) fulfils it.
    pub fn check(&self, data: &Value, bytes: usize) -> Result<(), SchemaError> {
        let work = self.cost.fanned.saturating_mul(bytes as u64);
        if work > WORK_MAX {
            let text = format!("{bytes} bytes are too many to be checked against this schema");
            return Err(SchemaError::Violated(text));
        }
        if self.validator.is_valid(data) {
            return Ok(());
        }
        // Every alternative that fails is remembered until the text is made.
        if work > EXPLAINED_WORK_MAX {
            return Err(SchemaError::Violated("it is too large to say where".into()));
        }
        let error = self.validator.validate(data).err();
        Err(SchemaError::Violated(error.map_or_else(String::new, |e| brief(&e))))
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

fn check_length(bytes: usize) -> Result<(), SchemaError> {
    if bytes > BYTES_MAX {
        return Err(SchemaError::Invalid(format!("it has more than {BYTES_MAX} bytes")));
    }
    Ok(())
}

/// What is wrong and where, cut short: the text quotes the data, however large.
fn brief(error: &jsonschema::ValidationError<'_>) -> String {
    struct Cut(String);
    impl std::fmt::Write for Cut {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let room = TEXT_MAX.saturating_sub(self.0.len());
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            if text.len() > room { Err(std::fmt::Error) } else { Ok(()) }
        }
    }
    let mut cut = Cut(String::new());
    let place = error.instance_path().to_string();
    let place = &place[..place.floor_char_boundary(100)];
    let done = if place.is_empty() { write!(cut, "{error}") } else { write!(cut, "{place}: {error}") };
    if done.is_err() {
        cut.0.push_str("...");
    }
    cut.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, data: Value) -> Result<(), SchemaError> {
        let bytes = data.to_string().len();
        Schema::of(&schema)?.check(&data, bytes)
    }

    #[test]
    fn data_is_checked_and_what_is_wrong_is_said_with_its_place() {
        for draft in ["4", "6", "7"] {
            let schema = json!({
                "$schema": format!("http://json-schema.org/draft-0{draft}/schema#"),
                "definitions": {"n": {"type": "integer", "minimum": 1}},
                "type": "object", "required": ["n"], "properties": {"n": {"$ref": "#/definitions/n"}},
            });
            assert_eq!(check(schema.clone(), json!({"n": 1})), Ok(()));
            let error = check(schema.clone(), json!({"n": 0})).unwrap_err().to_string();
            assert!(error.contains("/n: ") && error.contains("minimum"), "{error}");
            assert!(check(schema, json!({})).unwrap_err().to_string().contains("\"n\""));
        }
        assert!(check(json!({"pattern": "^a+$"}), json!("aab")).is_err());
    }

    #[test]
    fn what_is_no_schema_or_needs_another_document_is_refused() {
        for bad in [
            json!(7),
            json!({"type": "no such type"}),
            json!({"$schema": "https://example.com/meta"}),
            json!({"$ref": "https://example.com/schema"}),
            json!({"pattern": "("}),
            json!({"pattern": "(a)\\1"}),
            json!({"pattern": "(a{1000}){1000}"}),
            json!({"enum": "x".repeat(BYTES_MAX)}),
        ] {
            let error = Schema::of(&bad).err().unwrap_or_else(|| panic!("{bad}"));
            assert_eq!(error.code(), Code::SchemaInvalid);
            assert!(error.to_string().len() < 600, "{error}");
        }
    }

    #[test]
    fn a_refusal_is_short_and_costs_little_however_large_the_data() {
        let long = json!({"a": "é".repeat(5000)});
        let error = check(json!({"properties": {"a": {"type": "integer"}}}), long).unwrap_err().to_string();
        assert!(error.len() < 500, "{error}");
        let many = Value::Array((0..100_000).map(|_| json!("x")).collect());
        let either = json!({"items": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]}});
        let error = check(either, many.clone()).unwrap_err().to_string();
        assert!(error.contains("too large to say"), "{error}");
        let parts: Vec<Value> = (0..200).map(|n| json!({"const": n})).collect();
        let error = check(json!({"items": {"not": {"anyOf": parts}}}), many).unwrap_err().to_string();
        assert!(error.contains("too many"), "{error}");
    }
}
