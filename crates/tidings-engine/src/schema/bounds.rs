//! What checking against a schema may cost, found out by looking at the schema.
//!
//! Owns: the rules that keep that finite. A schema refers only to itself and never in a circle, so that it can be
//! laid out flat; then each of its parts is applied at most once to each value of the data. Never: validates.

use super::SchemaError;
use serde_json::Value;
use std::collections::HashMap;

/// Parts of a schema laid out flat.
const PARTS_MAX: u64 = 10_000;
/// Parts within parts, references followed.
const DEPTH_MAX: usize = 64;
/// Regular expressions; each takes memory of its own.
const PATTERNS_MAX: u64 = 64;
/// Parts that a regular expression counts as.
const PATTERN_PARTS: u64 = 10;

/// Keywords whose schemas are applied to each of many values.
const FANS: &[&str] = &[
    "items",
    "additionalItems",
    "contains",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];
/// Keywords that look at what others have looked at, again.
const AGAIN: &[&str] = &["unevaluatedItems", "unevaluatedProperties"];
/// Keywords that would name another document, or a place in this one by other means than its path.
const ELSEWHERE: &[&str] = &["$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef", "$recursiveAnchor"];

/// How much work one check is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// All parts.
    pub parts: u64,
    /// Those that may be applied to each value of the data.
    pub fanned: u64,
    pub patterns: u64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.parts = self.parts.saturating_add(other.parts);
        self.fanned = self.fanned.saturating_add(other.fanned);
        self.patterns = self.patterns.saturating_add(other.patterns);
    }
}

/// The cost of `schema`.
///
/// # Errors
/// When it refers elsewhere or to itself in a circle, or is too large.
pub fn of(schema: &Value) -> Result<Cost, SchemaError> {
    let mut walk = Walk { root: schema, known: HashMap::new() };
    let cost = walk.cost(schema, 0)?;
    if cost.parts > PARTS_MAX {
        return Err(SchemaError::Invalid(format!("it has more than {PARTS_MAX} parts, references laid out")));
    }
    if cost.patterns > PATTERNS_MAX {
        return Err(SchemaError::Invalid(format!("it has more than {PATTERNS_MAX} regular expressions")));
    }
    Ok(cost)
}

struct Walk<'a> {
    root: &'a Value,
    /// By reference; `None` while it is being found out.
    known: HashMap<&'a str, Option<(Cost, usize)>>,
}

impl<'a> Walk<'a> {
    fn cost(&mut self, value: &'a Value, depth: usize) -> Result<Cost, SchemaError> {
        self.walk(value, depth).map(|(cost, _)| cost)
    }

    /// The cost of a part, and how deep it goes.
    fn walk(&mut self, value: &'a Value, depth: usize) -> Result<(Cost, usize), SchemaError> {
        if depth > DEPTH_MAX {
            return Err(SchemaError::Invalid(format!("it is more than {DEPTH_MAX} parts deep")));
        }
        let (mut cost, mut below) = (Cost { parts: 1, ..Cost::default() }, 0);
        match value {
            Value::Array(all) => {
                for part in all {
                    let (more, deep) = self.walk(part, depth + 1)?;
                    cost.add(more);
                    below = below.max(deep + 1);
                }
            }
            Value::Object(members) => {
                let mut rounds = 1;
                for (name, part) in members {
                    let (mut more, mut deep) = self.walk(part, depth + 1)?;
                    if let ("$ref", Value::String(to)) = (name.as_str(), part) {
                        let (target, far) = self.target(to, depth + 1)?;
                        more.add(target);
                        deep = deep.max(far);
                    }
                    if ELSEWHERE.contains(&name.as_str()) && !part.is_object() {
                        return Err(SchemaError::Invalid(format!("`{name}` is not taken")));
                    }
                    if name == "$id" && part.is_string() && depth > 0 {
                        return Err(SchemaError::Invalid("`$id` may stand at the top only".into()));
                    }
                    if name == "pattern" && part.is_string() {
                        more.add(Cost { parts: 0, fanned: PATTERN_PARTS, patterns: 1 });
                    }
                    if name == "patternProperties" {
                        let patterns = part.as_object().map_or(0, |all| all.len() as u64);
                        more.add(Cost { parts: 0, fanned: PATTERN_PARTS.saturating_mul(patterns), patterns });
                    }
                    if FANS.contains(&name.as_str()) {
                        more.fanned = more.fanned.max(more.parts);
                    }
                    rounds += u64::from(AGAIN.contains(&name.as_str()));
                    cost.add(more);
                    below = below.max(deep + 1);
                }
                cost.parts = cost.parts.saturating_mul(rounds);
                cost.fanned = cost.fanned.saturating_mul(rounds);
            }
            _ => {}
        }
        Ok((cost, below))
    }

    fn target(&mut self, to: &'a str, depth: usize) -> Result<(Cost, usize), SchemaError> {
        let found = match self.known.get(to) {
            Some(Some((cost, deep))) => (*cost, *deep),
            Some(None) => {
                return Err(SchemaError::Invalid(format!("`$ref` {} leads in a circle", brief(to))));
            }
            None => {
                let pointer = to.strip_prefix('#').filter(|p| p.is_empty() || p.starts_with('/'));
                // A pointer with an escape of URLs would be read in two ways.
                let pointer = pointer.filter(|p| !p.contains('%'));
                let part = pointer.and_then(|pointer| self.root.pointer(pointer)).ok_or_else(|| {
                    let to = brief(to);
                    SchemaError::Invalid(format!(
                        "`$ref` {to} is no path to a part of this schema, like #/$defs/x"
                    ))
                })?;
                self.known.insert(to, None);
                let found = self.walk(part, depth)?;
                self.known.insert(to, Some(found));
                found
            }
        };
        if depth + found.1 > DEPTH_MAX {
            return Err(SchemaError::Invalid(format!("it is more than {DEPTH_MAX} parts deep")));
        }
        Ok(found)
    }
}

fn brief(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_laid_out_and_what_fans_out_counts_for_each_value() {
        let cost = of(&json!({"type": "object", "properties": {"a": {"type": "string"}}})).unwrap();
        assert_eq!((cost.parts, cost.fanned, cost.patterns), (5, 0, 0));
        let cost = of(&json!({"items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"type": "string"}}})).unwrap();
        assert_eq!((cost.parts, cost.fanned), (8, 4));
        let cost = of(&json!({"patternProperties": {"^a": true, "^b": {"pattern": "c"}}})).unwrap();
        assert!(cost.patterns == 3 && cost.fanned >= 30, "{cost:?}");
    }

    #[test]
    fn what_would_cost_without_bound_is_refused() {
        let mut doubling = json!({"$ref": "#/$defs/0"});
        for i in 0..40 {
            let next = json!({"$ref": format!("#/$defs/{}", i + 1)});
            doubling["$defs"][i.to_string()] = json!({"allOf": [next, next]});
        }
        doubling["$defs"]["40"] = json!(true);
        let mut chain = json!({"$ref": "#/$defs/0", "$defs": {"99": {}}});
        for i in 0..99 {
            chain["$defs"][i.to_string()] = json!({"$ref": format!("#/$defs/{}", i + 1)});
        }
        let mut nested = json!(true);
        for _ in 0..20 {
            nested = json!({"allOf": [nested], "unevaluatedProperties": false});
        }
        let patterns: Vec<Value> = (0..65).map(|i| json!({ "pattern": i.to_string() })).collect();
        for bad in [
            doubling,
            chain,
            nested,
            json!({ "anyOf": patterns }),
            json!({"$ref": "#"}),
            json!({"properties": {"a": {"$ref": "#"}}}),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "other.json"}),
            json!({"$ref": "#a", "$defs": {"a": {"$anchor": "a"}}}),
            json!({"$ref": "#/nowhere"}),
            json!({"$defs": {"a": {"$id": "x", "$ref": "#/b"}}, "b": {}}),
            json!({"$dynamicRef": "#a"}),
        ] {
            assert!(of(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_of_the_data_are_no_keywords() {
        assert!(of(&json!({"properties": {"$ref": {"type": "string"}, "$id": {}, "$anchor": {}}})).is_ok());
    }
}
