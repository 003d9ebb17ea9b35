//! Which schemas hold for an event.
//!
//! Owns: the compiled schemas of topics, and those that came with events lately, in bounded memory. The log's
//! registry has the topics' own; this follows it. Never: reads the log itself.

use super::{Schema, SchemaError};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use tidings_model::{NewEvent, TopicName};

/// Schemas that one topic may have.
const NAMES_MAX: usize = 256;
/// Memory of schemas that came with events; it is emptied when it is full.
const CARRIED_BYTES_MAX: usize = 32 << 20;
/// The name whose schema holds for all events without one of their own.
const OTHERS: &str = "*";

/// What was set cannot be compiled any more: it refuses every event it is for, rather than let in what breaks it.
type Compiled = Result<Schema, SchemaError>;

/// The schemas of one Tidings.
#[derive(Default)]
pub(crate) struct Schemas {
    topics: RwLock<HashMap<TopicName, Arc<BTreeMap<String, Compiled>>>>,
    /// Whether any topic has one, so that publishing elsewhere costs one look at this.
    is_used: AtomicBool,
    carried: Mutex<Carried>,
}

#[derive(Default)]
struct Carried {
    by_text: HashMap<Box<str>, Arc<Schema>>,
    bytes: usize,
}

/// A topic's schemas, compiled.
#[derive(Default)]
pub(crate) struct TopicSchemas(BTreeMap<String, Compiled>);

impl TopicSchemas {
    /// Compiles what was stored.
    pub fn stored(schemas: &BTreeMap<String, Value>) -> Self {
        Self(schemas.iter().map(|(name, schema)| (name.clone(), Schema::of(schema))).collect())
    }

    /// Compiles what is to be set; the error says which name's schema is at fault.
    pub fn new(schemas: &BTreeMap<String, Value>) -> Result<Self, (String, SchemaError)> {
        if schemas.len() > NAMES_MAX {
            let why = format!("a topic has at most {NAMES_MAX} of them");
            return Err((String::new(), SchemaError::Invalid(why)));
        }
        let mut compiled = BTreeMap::new();
        for (name, schema) in schemas {
            let schema = Schema::of(schema).map_err(|error| (name.clone(), error))?;
            compiled.insert(name.clone(), Ok(schema));
        }
        Ok(Self(compiled))
    }
}

impl Schemas {
    /// From now on `schemas` hold for the topic.
    pub fn set(&self, name: &TopicName, schemas: TopicSchemas) {
        let mut topics = self.topics.write().expect("no panic while holding the lock");
        if schemas.0.is_empty() {
            topics.remove(name);
        } else {
            topics.insert(name.clone(), Arc::new(schemas.0));
        }
        self.is_used.store(!topics.is_empty(), Ordering::Release);
    }

    /// Whether the event's data fulfils the schema for its name and the one that it carries.
    pub fn check(&self, event: &NewEvent) -> Result<(), SchemaError> {
        let of_topic = self.of_topic(&event.topic.name);
        let of_topic = of_topic.as_ref().and_then(|schemas| {
            event.name.as_deref().and_then(|name| schemas.get(name)).or_else(|| schemas.get(OTHERS))
        });
        let carried = event.attributes.data_schema.as_deref().map(|text| self.carried(text)).transpose()?;
        if (of_topic.is_none() && carried.is_none()) || (event.deleted && event.data.is_none()) {
            return Ok(());
        }
        let text = event.data.as_deref().unwrap_or(b"null");
        let data: Value = serde_json::from_slice(text)
            .map_err(|e| SchemaError::Violated(format!("it cannot be read: {e}")))?;
        if let Some(schema) = of_topic {
            schema.as_ref().map_err(Clone::clone)?.check(&data, text.len())?;
        }
        carried.map_or(Ok(()), |schema| schema.check(&data, text.len()))
    }

    fn of_topic(&self, name: &TopicName) -> Option<Arc<BTreeMap<String, Compiled>>> {
        if !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.topics.read().expect("no panic while holding the lock").get(name).cloned()
    }

    fn carried(&self, text: &str) -> Result<Arc<Schema>, SchemaError> {
        let known = self.carried.lock().expect("no panic while holding the lock").by_text.get(text).cloned();
        if let Some(schema) = known {
            return Ok(schema);
        }
        let schema = Arc::new(Schema::parse(text)?);
        let weight = schema.weight() + text.len();
        let mut carried = self.carried.lock().expect("no panic while holding the lock");
        if carried.bytes + weight > CARRIED_BYTES_MAX {
            *carried = Carried::default();
        }
        if carried.by_text.insert(text.into(), Arc::clone(&schema)).is_none() {
            carried.bytes += weight;
        }
        Ok(schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidings_model::Topic;

    fn event(json: &Value) -> NewEvent {
        NewEvent::parse(json.to_string().as_bytes(), &Topic::parse("t:1").unwrap()).unwrap()
    }

    #[test]
    fn the_name_decides_and_others_share_one_and_the_events_own_counts_too() {
        let schemas = Schemas::default();
        let name = Topic::parse("t").unwrap().name;
        let set = BTreeMap::from([
            ("n".to_owned(), json!({"type": "integer"})),
            ("*".to_owned(), json!({"type": "string"})),
        ]);
        assert_eq!(schemas.check(&event(&json!({"name": "n", "data": "x"}))), Ok(()));
        schemas.set(&name, TopicSchemas::new(&set).ok().unwrap());
        for (json, is_right) in [
            (json!({"name": "n", "data": 1}), true),
            (json!({"name": "n", "data": "x"}), false),
            (json!({"name": "m", "data": "x"}), true),
            (json!({"data": 1}), false),
            (json!({"name": "m"}), false),
            (json!({"name": "m", "deleted": true}), true),
            (json!({"name": "n", "data": 7, "data_schema": "{\"maximum\": 7}"}), true),
            (json!({"name": "n", "data": 8, "data_schema": "{\"maximum\": 7}"}), false),
            (json!({"name": "n", "data": 8, "data_schema": "{\"maximum\": "}), false),
        ] {
            assert_eq!(schemas.check(&event(&json)).is_ok(), is_right, "{json}");
        }
        schemas.set(&name, TopicSchemas::stored(&BTreeMap::from([("*".to_owned(), json!({"type": "odd"}))])));
        let broken = schemas.check(&event(&json!({"data": 1}))).unwrap_err();
        assert_eq!(broken.code().as_str(), "schema_invalid");
        schemas.set(&name, TopicSchemas::stored(&BTreeMap::new()));
        assert_eq!(schemas.check(&event(&json!({"data": 1}))), Ok(()));
    }

    #[test]
    fn schemas_that_came_with_events_are_kept_in_bounded_memory() {
        let schemas = Schemas::default();
        for n in 0..300 {
            let alternatives: Vec<Value> = (0..400).map(|i| json!({ "const": i + n })).collect();
            let text = json!({ "anyOf": alternatives }).to_string();
            assert!(schemas.check(&event(&json!({"data": n, "data_schema": text}))).is_ok());
            let carried = schemas.carried.lock().unwrap();
            assert!(carried.bytes <= CARRIED_BYTES_MAX && carried.by_text.len() < 200);
        }
    }
}
