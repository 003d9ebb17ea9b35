//! Row rules against a plain evaluator that works on parsed JSON, and what each reader is shown.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use tidings_model::{Epoch, Event, NewEvent, Offset, RecordWriter, RowRule, Rows, Topic, Uuid, View};

const IDS: [&str; 7] = ["1", "2", "true", "*", "constructor", "", "a\"b"];
const COLUMNS: [&str; 4] = ["owner", "buyer", "note", "o\"w"];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => prop::sample::select(&IDS[..]).prop_map(|id| json!(id)),
        2 => (1..3u8).prop_map(|n| json!(n)),
        1 => Just(json!(true)),
        1 => Just(Value::Null),
        1 => Just(json!(["1"])),
        1 => Just(json!({"1": "1"})),
    ]
}

fn row() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(prop::sample::select(&COLUMNS[..]), value(), 0..4)
        .prop_map(|row| row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn columns(max: usize) -> impl Strategy<Value = Vec<Box<str>>> {
    prop::collection::vec(prop::sample::select(&COLUMNS[..]).prop_map(Into::into), 0..=max)
}

fn rule() -> impl Strategy<Value = Option<RowRule>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(RowRule::Everyone)),
        6 => columns(3).prop_map(|names| Some(RowRule::columns(names).unwrap())),
    ]
}

/// The text of a value, as an id is compared with.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn ids(rule: &Option<RowRule>, value: impl Fn(&str) -> Option<String>) -> BTreeSet<String> {
    match rule {
        Some(RowRule::Columns(columns)) => columns.iter().filter_map(|c| value(c)).collect(),
        _ => BTreeSet::new(),
    }
}

fn without(row: &Map<String, Value>, columns: &[Box<str>]) -> Value {
    let kept = row.iter().filter(|(name, _)| !columns.iter().any(|c| **c == **name));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn stored(event: &NewEvent, sight: &tidings_model::Sight) -> Event {
    let record = RecordWriter::encode_for(event, Uuid::from_u128(1), sight);
    Event::new(event.topic.name.clone(), Epoch(1), Offset(1), record.into()).unwrap()
}

fn config() -> Config {
    Config { cases: 3000, rng_seed: RngSeed::Fixed(7), ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_rule_shows_each_reader_what_working_it_out_by_hand_says(
        rule in rule(), filter_columns in columns(2), is_captured in any::<bool>(),
        now in row(), before in prop::option::of(row()),
    ) {
        let mut event = NewEvent::new(Topic::parse("t:1").unwrap(), Value::Object(now.clone()).to_string());
        event.name = Some("update".into());
        let changed: Vec<&str> = COLUMNS.to_vec();
        event.context = Some(match &before {
            None => json!({"tx": 7, "changed": changed}),
            Some(before) => json!({"tx": 7, "before": before, "changed": changed}),
        }.to_string().into());
        let rows = Rows { rule: rule.clone(), filter_columns: filter_columns.clone(), is_captured, ..Rows::default() };
        let sight = rows.apply(&mut event, false).unwrap();
        let is_routed = sight.is_routed;
        let event = stored(&event, &sight);

        let old = |c: &str| text(before.as_ref().and_then(|b| b.get(c)));
        let sees_now = ids(&rule, |c| if now.contains_key(c) { text(now.get(c)) } else { old(c) });
        let saw = ids(&rule, old);
        let is_everyones = matches!(rule, Some(RowRule::Everyone)) || (rule.is_none() && !is_captured);
        // Nobody is looked for by name where all see all.
        prop_assert_eq!(is_routed, !is_everyones);
        let shown_now = without(&now, &filter_columns);
        let shown_before = before.as_ref().map(|b| without(b, &filter_columns));
        for id in IDS.map(Some).into_iter().chain([None]) {
            let is_in = |users: &BTreeSet<String>| id.is_some_and(|id| users.contains(id));
            let view = event.view_of(id);
            let seen: Option<Value> =
                view.map(|view| serde_json::from_str(&event.shown(view).to_json()).unwrap());
            if is_everyones || is_in(&sees_now) {
                let seen = seen.expect("this one may see it");
                prop_assert_eq!((&seen["data"], &seen["name"]), (&shown_now, &json!("update")));
                let may_see_before = is_everyones || is_in(&saw);
                let expected = shown_before.as_ref().filter(|_| may_see_before);
                prop_assert_eq!(seen["context"].get("before"), expected, "{:?}", id);
                prop_assert_eq!(&seen["context"]["tx"], &json!(7));
            } else if is_in(&saw) {
                let seen = seen.expect("this one is told that it is gone");
                prop_assert_eq!(view, Some(View::Moved));
                prop_assert_eq!(Some(&seen["data"]), shown_before.as_ref());
                prop_assert_eq!(&seen["context"], &json!({"tx": 7, "reason": "moved"}));
                prop_assert_eq!((&seen["name"], &seen["deleted"]), (&json!("delete"), &json!(true)));
                prop_assert_eq!((&seen["key"], &seen["offset"]), (&json!("1"), &json!(1)));
            } else {
                prop_assert_eq!(seen, None, "{:?} is not concerned", id);
            }
        }
        // Nothing that is to stay behind is in the bytes that are kept.
        let kept: Value = serde_json::from_str(&event.to_json()).unwrap();
        prop_assert_eq!(&kept["data"], &shown_now);
        for name in kept["context"]["changed"].as_array().unwrap() {
            prop_assert!(!filter_columns.iter().any(|c| **c == *name.as_str().unwrap()));
        }
        // Whoever is told anything is found by name, and nobody else.
        let routing = RecordWriter::routing(event.record().as_bytes());
        let told: BTreeSet<String> = match routing {
            None => BTreeSet::new(),
            Some(routing) => routing.users().map(|(id, _)| String::from_utf8(id.to_vec()).unwrap()).collect(),
        };
        let expected: BTreeSet<String> = sees_now.union(&saw).cloned().collect();
        prop_assert_eq!(told, if is_everyones { BTreeSet::new() } else { expected });
    }
}

fn rows(rule: Value, filter_columns: &[&str]) -> Rows {
    let rule = serde_json::from_value(rule).unwrap();
    let filter_columns = filter_columns.iter().map(|c| (*c).into()).collect();
    Rows { rule, filter_columns, is_captured: true, ..Rows::default() }
}

fn applied(rows: &Rows, data: &str, context: Option<&str>) -> (Event, Option<Vec<Box<str>>>) {
    let mut event = NewEvent::new(Topic::parse("t:1").unwrap(), data.to_owned());
    event.context = context.map(|c| c.to_owned().into());
    let sight = rows.apply(&mut event, false).unwrap();
    (stored(&event, &sight), sight.audience)
}

#[test]
fn a_column_that_stays_behind_still_routes() {
    let (event, audience) = applied(&rows(json!("owner"), &["owner"]), r#"{"owner" :101 , "b": 1.0}"#, None);
    assert_eq!(audience, Some(vec!["101".into()]));
    assert_eq!(event.data(), Some(r#"{"b":1.0}"#));
}

#[test]
fn no_spelling_of_a_name_gets_a_column_past_the_filter() {
    let rows = rows(json!("*"), &["password"]);
    let twice = r#"{"before":{"password":1,"a":1},"before":{"a":2}}"#;
    let (event, _) = applied(&rows, r#"{"p\u0061ssword":"x","password":"y","a":[1, 2]}"#, Some(twice));
    assert_eq!(event.data(), Some(r#"{"a":[1, 2]}"#));
    assert!(!event.record().context().unwrap().contains("password"));
    let mut broken = NewEvent::new(Topic::parse("t").unwrap(), r#"{"password":"x""#);
    assert!(rows.apply(&mut broken, false).is_err(), "what cannot be read may hide a column");
}

#[test]
fn a_user_named_twice_is_told_once_and_the_last_of_two_values_counts() {
    let both = rows(json!(["a", "b"]), &[]);
    assert_eq!(applied(&both, r#"{"a":"7","b":7}"#, None).1, Some(vec!["7".into()]));
    assert_eq!(applied(&both, r#"{"a":"1","a":"2","b":null}"#, None).1, Some(vec!["2".into()]));
    assert_eq!(applied(&both, r#"[{"a":"1"}]"#, None).1, Some(Vec::new()));
}

#[test]
fn a_truncate_concerns_whoever_may_see_any_row() {
    let audience = |rule: Value| {
        let mut event = NewEvent::new(Topic::parse("t").unwrap(), "{}");
        rows(rule, &[]).apply(&mut event, true).unwrap().audience
    };
    assert_eq!((audience(json!("owner")), audience(json!("*"))), (None, None));
    assert_eq!((audience(Value::Null), audience(json!([]))), (Some(vec![]), Some(vec![])));
}

#[test]
fn a_rule_is_written_as_a_column_several_or_a_star() {
    for (text, again) in [
        (r#""*""#, r#""*""#),
        (r#""owner""#, r#""owner""#),
        (r#"["owner"]"#, r#""owner""#),
        (r#"["a","b"]"#, r#"["a","b"]"#),
        ("[]", "[]"),
    ] {
        let rule: RowRule = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&rule).unwrap(), again);
    }
    let many = serde_json::to_string(&["c"; 17]).unwrap();
    for bad in [r#""""#, r#"["*"]"#, "7", r#"{"a":1}"#, many.as_str()] {
        assert!(serde_json::from_str::<RowRule>(bad).is_err(), "{bad}");
    }
}
