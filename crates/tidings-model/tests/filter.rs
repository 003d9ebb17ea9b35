//! Expressions against an evaluator so plain that it can be read in one go, and what is no expression.

use proptest::prelude::*;
use std::cmp::Ordering;
use std::fmt::Write as _;
use tidings_model::{
    Code, Epoch, Event, Filter, FilterError, NewEvent, Offset, RecordWriter, Timestamp, Topic, Uuid,
};

const JAN_30: i64 = 1_769_731_200_000;
const NOON: i64 = 12 * 3_600_000;
const DAY: i64 = 86_400_000;

/// Texts, and the time they say if they say one.
const TEXTS: &[(&str, Option<i64>)] = &[
    ("", None),
    ("a", None),
    ("ab", None),
    ("it's \"q\" \\ \n", None),
    ("thomas@example.com", None),
    ("é😀", None),
    ("10", None),
    ("2026-01-30", Some(JAN_30)),
    ("2026-01-30T12:00:00Z", Some(JAN_30 + NOON)),
    ("2026-01-31T14:00:00+02:00", Some(JAN_30 + DAY + NOON)),
];
const MEMBERS: &[&str] = &["a", "b", "0", "first name", "é", ""];

#[derive(Debug, Clone)]
enum Json {
    Null,
    Truth(bool),
    /// Divided by ten to the power of the second.
    Number(i64, u32),
    Text(usize),
    Array(Vec<Json>),
    Object(Vec<(usize, Json)>),
}

#[derive(Debug, Clone)]
enum Value {
    Json(Json),
    Day(usize),
    Moment(usize),
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone)]
enum Test {
    Compare(Op, Value),
    In(Vec<Value>),
    Contains(Value),
    StartsWith(usize),
}

#[derive(Debug, Clone)]
enum Field {
    Own(&'static str),
    Data(Vec<usize>),
    Context(Vec<usize>),
}

#[derive(Debug, Clone)]
enum Expr {
    Term(Field, Test),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
}

#[derive(Debug, Clone)]
struct Sample {
    texts: [Option<usize>; 4],
    verified: Option<bool>,
    occurred_at: Option<i64>,
    offset: u64,
    data: Option<Json>,
    context: Option<Vec<(usize, Json)>>,
}

const OWN_TEXTS: [&str; 4] = ["name", "source", "user", "group_key"];

fn scalar() -> impl Strategy<Value = Json> {
    let number = prop_oneof![-3i64..13, Just(9_007_199_254_740_993), Just(i64::MAX)];
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Truth),
        (number, 0u32..3).prop_map(|(n, scale)| Json::Number(n, scale)),
        (0..TEXTS.len()).prop_map(Json::Text),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((0..MEMBERS.len(), inner), 0..4).prop_map(Json::Object),
        ]
    })
}

fn value() -> BoxedStrategy<Value> {
    let times = prop::sample::select(vec![Value::Day(7), Value::Moment(8), Value::Moment(9)]);
    prop_oneof![3 => scalar().prop_map(Value::Json), 1 => times].boxed()
}

fn of_kind(of: fn(&Json) -> bool) -> BoxedStrategy<Value> {
    scalar().prop_filter("of the field's kind", of).prop_map(Value::Json).boxed()
}

fn compare(value: BoxedStrategy<Value>) -> impl Strategy<Value = Test> {
    use Op::*;
    let op = prop::sample::select(vec![Equal, Unequal, Less, LessOrEqual, Greater, GreaterOrEqual]);
    let compared = (op, value.clone()).prop_map(|(op, value)| match (op, &value) {
        (Less | LessOrEqual, Value::Json(Json::Null | Json::Truth(_))) => Test::Compare(Equal, value),
        (Greater | GreaterOrEqual, Value::Json(Json::Null | Json::Truth(_))) => Test::Compare(Unequal, value),
        _ => Test::Compare(op, value),
    });
    prop_oneof![4 => compared, 1 => prop::collection::vec(value, 1..4).prop_map(Test::In)]
}

fn term() -> impl Strategy<Value = Expr> {
    let text = of_kind(|j| matches!(j, Json::Text(_) | Json::Null));
    let number = of_kind(|j| matches!(j, Json::Number(..) | Json::Null));
    let truth = of_kind(|j| matches!(j, Json::Truth(_) | Json::Null));
    let part = of_kind(|j| matches!(j, Json::Text(_)));
    let time = prop::sample::select(vec![Value::Day(7), Value::Moment(8), Value::Moment(9)]).boxed();
    let start = (0..TEXTS.len()).prop_map(Test::StartsWith).boxed();
    let texts = prop_oneof![3 => compare(text), 1 => part.prop_map(Test::Contains), 1 => start.clone()];
    let own = prop_oneof![
        3 => (prop::sample::select(OWN_TEXTS.to_vec()), texts),
        1 => (Just("offset"), compare(number)),
        1 => (Just("verified"), compare(truth)),
        1 => (Just("occurred_at"), compare(time)),
    ];
    let any = prop_oneof![3 => compare(value()), 1 => value().prop_map(Test::Contains), 1 => start].boxed();
    let path = prop::collection::vec(0..MEMBERS.len(), 0..3);
    prop_oneof![
        own.prop_map(|(name, test)| Expr::Term(Field::Own(name), test)),
        (path.clone(), any.clone()).prop_map(|(path, test)| Expr::Term(Field::Data(path), test)),
        (path, any).prop_map(|(path, test)| Expr::Term(Field::Context(path), test)),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    term().prop_recursive(5, 24, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(e.into())),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::And(a.into(), b.into())),
            (inner.clone(), inner).prop_map(|(a, b)| Expr::Or(a.into(), b.into())),
        ]
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    let is_field = |text: &usize| !TEXTS[*text].0.is_empty() && !TEXTS[*text].0.contains('\n');
    let fields: Vec<usize> = (0..TEXTS.len()).filter(is_field).collect();
    let text = prop::option::of(prop::sample::select(fields)).boxed();
    let texts = [text.clone(), text.clone(), text.clone(), text];
    let time = prop::option::of(prop::sample::select(vec![JAN_30, JAN_30 + NOON, JAN_30 + DAY + NOON]));
    let context = prop::option::of(prop::collection::vec((0..MEMBERS.len(), json()), 0..4));
    (texts, any::<Option<bool>>(), time, 1u64..13, prop::option::of(json()), context).prop_map(
        |(texts, verified, occurred_at, offset, data, context)| Sample {
            texts,
            verified,
            occurred_at,
            offset,
            data,
            context,
        },
    )
}

impl Json {
    fn print(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Truth(truth) => truth.to_string(),
            Self::Number(n, 0) => n.to_string(),
            Self::Number(n, 1) => format!("{n}E-1"),
            Self::Number(n, scale) => {
                let digits = format!("{:03}", n.unsigned_abs());
                let (whole, rest) = digits.split_at(digits.len() - *scale as usize);
                format!("{}{whole}.{rest}0", if *n < 0 { "-" } else { "" })
            }
            Self::Text(text) => serde_json::to_string(TEXTS[*text].0).unwrap(),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(Self::print).collect();
                format!("[{}]", items.join(" , "))
            }
            Self::Object(members) => object(members),
        }
    }
}

fn object(members: &[(usize, Json)]) -> String {
    let print = |(name, value): &(usize, Json)| {
        format!("{} : {}", serde_json::to_string(MEMBERS[*name]).unwrap(), value.print())
    };
    format!("{{ {} }}", members.iter().map(print).collect::<Vec<_>>().join(","))
}

impl Sample {
    fn event(&self) -> Event {
        let mut json = String::from("{\"deleted\":false");
        for (name, text) in OWN_TEXTS.iter().zip(self.texts) {
            if let Some(text) = text {
                write!(json, ",\"{name}\":{}", Json::Text(text).print()).unwrap();
            }
        }
        if let Some(verified) = self.verified {
            write!(json, ",\"verified\":{verified}").unwrap();
        }
        if let Some(at) = self.occurred_at {
            write!(json, ",\"occurred_at\":\"{}\"", Timestamp::from_millis(at).unwrap()).unwrap();
        }
        if let Some(data) = &self.data {
            write!(json, ",\"data\":{}", data.print()).unwrap();
        }
        if let Some(context) = &self.context {
            write!(json, ",\"context\":{}", object(context)).unwrap();
        }
        json.push('}');
        event(&json, self.offset)
    }

    fn has(&self, field: &Field) -> Option<Json> {
        match field {
            Field::Own("offset") => Some(Json::Number(self.offset as i64, 0)),
            Field::Own("verified") => self.verified.map(Json::Truth),
            Field::Own(name) => {
                self.texts[OWN_TEXTS.iter().position(|own| own == name).unwrap()].map(Json::Text)
            }
            Field::Data(path) => self.data.as_ref().and_then(|data| walk(data.clone(), path)),
            Field::Context(path) => {
                self.context.as_ref().and_then(|context| walk(Json::Object(context.clone()), path))
            }
        }
    }
}

fn event(json: &str, offset: u64) -> Event {
    let new = NewEvent::parse(json.as_bytes(), &Topic::parse("shop:7").unwrap()).unwrap();
    let bytes = RecordWriter::encode(&new, Uuid::from_u128(0xabc));
    Event::new(new.topic.name.clone(), Epoch(1), Offset(offset), bytes.into()).unwrap()
}

fn walk(json: Json, path: &[usize]) -> Option<Json> {
    path.iter().try_fold(json, |json, part| match json {
        Json::Object(members) => members.into_iter().rev().find(|(name, _)| name == part).map(|(_, v)| v),
        Json::Array(items) => MEMBERS[*part].parse::<usize>().ok().and_then(|i| items.into_iter().nth(i)),
        _ => None,
    })
}

fn order(own: &Json, value: &Value) -> Option<Ordering> {
    match (own, value) {
        (Json::Null, Value::Json(Json::Null)) => Some(Ordering::Equal),
        (Json::Truth(a), Value::Json(Json::Truth(b))) => Some(a.cmp(b)),
        (Json::Number(a, s), Value::Json(Json::Number(b, t))) => {
            let whole = |n: i64, scale: u32| i128::from(n) * 10i128.pow(3 - scale);
            Some(whole(*a, *s).cmp(&whole(*b, *t)))
        }
        (Json::Text(a), Value::Json(Json::Text(b))) => Some(TEXTS[*a].0.cmp(TEXTS[*b].0)),
        (Json::Text(a), Value::Day(_) | Value::Moment(_)) => at(TEXTS[*a].1?, value),
        _ => None,
    }
}

fn at(own: i64, value: &Value) -> Option<Ordering> {
    match value {
        Value::Day(day) => Some(own.div_euclid(DAY).cmp(&TEXTS[*day].1?.div_euclid(DAY))),
        Value::Moment(moment) => Some(own.cmp(&TEXTS[*moment].1?)),
        Value::Json(_) => None,
    }
}

fn is_true(expr: &Expr, sample: &Sample) -> bool {
    let (field, test) = match expr {
        Expr::Not(e) => return !is_true(e, sample),
        Expr::And(a, b) => return is_true(a, sample) & is_true(b, sample),
        Expr::Or(a, b) => return is_true(a, sample) | is_true(b, sample),
        Expr::Term(field, test) => (field, test),
    };
    let order = |value: &Value| match field {
        Field::Own("occurred_at") => sample.occurred_at.and_then(|own| at(own, value)),
        _ => order(&sample.has(field).unwrap_or(Json::Null), value),
    };
    match test {
        Test::Compare(Op::Equal, v) => order(v) == Some(Ordering::Equal),
        Test::Compare(Op::Unequal, v) => order(v) != Some(Ordering::Equal),
        Test::Compare(Op::Less, v) => order(v) == Some(Ordering::Less),
        Test::Compare(Op::LessOrEqual, v) => matches!(order(v), Some(Ordering::Less | Ordering::Equal)),
        Test::Compare(Op::Greater, v) => order(v) == Some(Ordering::Greater),
        Test::Compare(Op::GreaterOrEqual, v) => {
            matches!(order(v), Some(Ordering::Greater | Ordering::Equal))
        }
        Test::In(values) => values.iter().any(|v| order(v) == Some(Ordering::Equal)),
        Test::Contains(v) => match (sample.has(field), v) {
            (Some(Json::Text(own)), Value::Json(Json::Text(part))) => TEXTS[own].0.contains(TEXTS[*part].0),
            (Some(Json::Array(items)), v) => {
                items.iter().any(|item| self::order(item, v) == Some(Ordering::Equal))
            }
            _ => false,
        },
        Test::StartsWith(start) => {
            matches!(sample.has(field), Some(Json::Text(own)) if TEXTS[own].0.starts_with(TEXTS[*start].0))
        }
    }
}

/// How an expression is written: with all brackets or only the needed ones, in which case and quotes.
#[derive(Debug, Clone, Copy)]
struct Style {
    all_brackets: bool,
    upper: bool,
    double_quotes: bool,
}

impl Style {
    fn quoted(self, text: &str) -> String {
        let double = serde_json::to_string(text).unwrap();
        if self.double_quotes {
            return double;
        }
        format!("'{}'", double[1..double.len() - 1].replace("\\\"", "\"").replace('\'', "\\'"))
    }

    fn word(self, word: &str) -> String {
        if self.upper { word.to_uppercase() } else { word.into() }
    }

    fn field(self, field: &Field) -> String {
        let (mut out, path) = match field {
            Field::Own(name) => return (*name).into(),
            Field::Data(path) => (String::from("data"), path),
            Field::Context(path) => (String::from("context"), path),
        };
        for part in path {
            match MEMBERS[*part] {
                "0" if self.upper => out.push_str("[0]"),
                word if !word.is_empty() && !word.contains(' ') => write!(out, ".{word}").unwrap(),
                other => write!(out, "[{}]", self.quoted(other)).unwrap(),
            }
        }
        out
    }

    fn value(self, value: &Value) -> String {
        match value {
            Value::Json(Json::Text(text)) => self.quoted(TEXTS[*text].0),
            Value::Json(json @ Json::Number(..)) => json.print(),
            Value::Json(json) => self.word(&json.print()),
            Value::Day(text) => format!("{}::{}", self.quoted(TEXTS[*text].0), self.word("date")),
            Value::Moment(text) => format!("{}::{}", self.quoted(TEXTS[*text].0), self.word("datetime")),
        }
    }

    fn test(self, test: &Test) -> String {
        match test {
            Test::Compare(op, value) => {
                let sign = match op {
                    Op::Equal => "==",
                    Op::Unequal => "!=",
                    Op::Less => "<",
                    Op::LessOrEqual => "<=",
                    Op::Greater => ">",
                    Op::GreaterOrEqual => ">=",
                };
                let space = if self.upper { "" } else { " " };
                format!("{space}{sign}{space}{}", self.value(value))
            }
            Test::In(values) => {
                let values: Vec<String> = values.iter().map(|v| self.value(v)).collect();
                format!(" {} [{}]", self.word("in"), values.join(" ,"))
            }
            Test::Contains(value) => format!(" {} {}", self.word("contains"), self.value(value)),
            Test::StartsWith(text) => {
                format!(" {} {}", self.word("starts_with"), self.quoted(TEXTS[*text].0))
            }
        }
    }

    /// The text, in brackets where it binds less than `binding`.
    fn print(self, expr: &Expr, binding: u8) -> String {
        let (own, text) = match expr {
            Expr::Term(field, test) => return format!("{}{}", self.field(field), self.test(test)),
            Expr::Not(e) => (3, format!("{} {}", self.word("not"), self.print(e, 3))),
            Expr::And(a, b) => (2, format!("{} {} {}", self.print(a, 2), self.word("and"), self.print(b, 2))),
            Expr::Or(a, b) => (1, format!("{} {} {}", self.print(a, 1), self.word("or"), self.print(b, 1))),
        };
        if own < binding || self.all_brackets { format!("({text})") } else { text }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn expressions_say_what_a_plain_evaluator_says(
        expr in expr(), samples in prop::collection::vec(sample(), 1..6),
        all_brackets: bool, upper: bool, double_quotes: bool,
    ) {
        let text = Style { all_brackets, upper, double_quotes }.print(&expr, 0);
        prop_assume!(text.to_lowercase().matches("contains").count() <= Filter::SEARCHES_MAX);
        let filter = Filter::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let printed = filter.expression().unwrap();
        prop_assert_eq!(&Filter::parse(&printed).unwrap(), &filter, "{} printed as {}", text, printed);
        for sample in &samples {
            let event = sample.event();
            prop_assert_eq!(filter.matches(&event), is_true(&expr, sample), "{}\n{}", text, event.to_json());
        }
    }
}

fn matches(text: &str, json: &str) -> bool {
    Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).matches(&event(json, 5))
}

#[test]
fn each_field_is_found() {
    let json = r#"{"id":"00000000-0000-0000-0000-0000000000ff","name":"user.created","source":"web","user":"u1",
        "occurred_at":"2026-01-31T12:00:00.250Z","group_key":"g","reference_key":"r","trace_key":"t",
        "anonymous_key":"a","data_schema":"{}","prev_id":"p","verified":true,
        "data":{"person":{"first_name":"Bob","tags":["x",{"y":null}]},"@type":"T"},"context":{"ip":"::1"}}"#;
    for text in [
        "topic == 'shop:7' and topic_name == 'shop' and key == '7' and topic_identifier == '7'",
        "data.person.first_name == 'Bob' AND name == 'user.created'",
        "source == 'web' and user == 'u1' and user_key == 'u1' and offset == 5 and deleted == false",
        "occurred_at == '2026-01-31' and occurred_at > '2026-01-31T12:00:00Z'",
        "occurred_at == '2026-01-31T14:00:00.25+02:00'::DATETIME and published_at < '1970-01-02'::date",
        "available_at == null and not available_at > '2020-01-01'",
        "group_key == 'g' and reference_key == 'r' and trace_key == 't' and anonymous_key == 'a'",
        "data_schema == '{}' and prev_id in [p, 'q'] and verified == true",
        "data.person.tags[1].y == null and data.person.tags contains 'x' and data.@type == 'T'",
        "data.person != null and data.nobody == null and data['person']['first_name'] starts_with 'B'",
        "context.ip contains ':' and context['ip'] == \"::1\"",
    ] {
        assert!(matches(text, json), "{text}");
        assert!(!matches(&format!("not ({text})"), json), "{text}");
    }
    assert!(matches("id == '00000000-0000-0000-0000-000000000abc'", "{}"));
}

#[test]
fn precedence_and_kinds_are_as_documented() {
    for (text, is_so) in [
        ("data == 1 or data == 2 and data == 3", true),
        ("(data == 1 or data == 2) and data == 3", false),
        ("not data == 2 and data == 1", true),
        ("not (data == 2 and data == 1)", true),
        ("not not data == 1", true),
        ("data == '1'", false),
        ("data != '1'", true),
        ("data >= '1'", false),
        ("data == 1.0e0", true),
        ("data in [-1, 'x', true, null, 1]", true),
        ("data.a == null", true),
        ("data contains 1", false),
    ] {
        assert_eq!(matches(text, "{\"data\":1}"), is_so, "{text}");
    }
    assert!(matches("data.email == 'thomas@example.com'", r#"{"data":{"email":"thomas@example.com"}}"#));
    assert!(matches("data.n == 9007199254740993", r#"{"data":{"n":9007199254740993}}"#));
    assert!(!matches("data.n == 9007199254740992", r#"{"data":{"n":9007199254740993}}"#));
    // Half a surrogate pair is JSON, but no text: it is equal to nothing and hides nothing behind it.
    let half = r#"{"data":{"a":"\ud800","\ud800":1,"b":2}}"#;
    assert!(matches("data.a != 'x' and data.a != null and data.b == 2", half));
    assert!(!matches("data.a contains ''", half));
}

#[test]
fn what_is_no_expression_is_refused_at_its_place() {
    for (text, at, expected) in [
        ("", 1, "a field"),
        ("  ", 3, "a field"),
        ("name", 5, "`==`"),
        ("name = 'a'", 6, "`==`"),
        ("name == a", 9, "in quotes"),
        ("name == 5", 9, "a text"),
        ("offset == '5'", 11, "a number"),
        ("deleted == 1", 12, "true or false"),
        ("occurred_at > 'soon'", 15, "a time"),
        ("occurred_at starts_with '2026'", 13, "`==`"),
        ("name == 'a' name == 'b'", 13, "`and`"),
        ("name == 'é' and", 16, "a field"),
        ("(name == 'a'", 13, "`)`"),
        ("name == 'a')", 12, "the end"),
        ("name == 'a", 9, "quote"),
        (r"name == '\x'", 10, "an escape"),
        (r"name == '\ud800'", 10, "an escape"),
        ("data. == 1", 6, "a member"),
        ("data[x] == 1", 6, "a number"),
        ("data[01] == 1", 6, "begin with 0"),
        ("data[0 == 1", 7, "`]`"),
        ("data == 1x", 10, "the end of the number"),
        ("data == 01", 10, "the end of the number"),
        ("data == 1.", 11, "a digit"),
        ("data > true", 8, "in order"),
        ("data in 1", 9, "a list"),
        ("data in []", 10, "a value"),
        ("data in [1 2]", 12, "`,`"),
        ("data starts_with 1", 18, "a text"),
        ("data == '2026-02-30'::DATE", 9, "a date"),
        ("data == '2026-01-31'::DATETIME", 9, "a time"),
        ("data == '2026-01-31'::TIME", 23, "DATE"),
        ("color == 'red'", 1, "no field `color`"),
        ("Name == 'a'", 1, "no field"),
    ] {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!((error.at(), error.code()), (Some(at), Code::FilterInvalid), "{text}: {error}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[test]
fn every_bound_holds() {
    let within = |n: usize| format!("{}name == 'a'{}", "(".repeat(n), ")".repeat(n));
    assert!(Filter::parse(&within(Filter::DEPTH_MAX)).is_ok());
    let joined = |n: usize, item: &str, join: &str| vec![item; n].join(join);
    let many = Filter::TERMS_MAX + 1;
    for text in [
        within(Filter::DEPTH_MAX + 1),
        within(2000),
        "not ".repeat(2000) + "data == 1",
        joined(many, "data == 1", " or "),
        joined(Filter::SEARCHES_MAX + 1, "data contains 1", " or "),
        format!("data in [{}]", joined(Filter::VALUES_MAX + 1, "1", ",")),
        format!("data{} == 1", ".a".repeat(Filter::PATH_MAX + 1)),
    ] {
        assert!(matches!(Filter::parse(&text), Err(FilterError::Bound { .. })), "{text}");
    }
    assert!(Filter::parse(&joined(many - 1, "(data == 1)", " or ")).is_ok(), "brackets that are closed");
    for text in [within(10_000), "(".repeat(10_000), "not ".repeat(10_000), " ".repeat(10_000)] {
        assert_eq!(Filter::parse(&text), Err(FilterError::TooLong(Filter::EXPRESSION_BYTES_MAX)));
    }
    // Depth of the data is nobody's bound.
    let deep = format!("{{\"data\":{{\"deep\":{}{},\"x\":1}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches("data.x == 1 and data.deep[0][0] != 1 and not data.deep contains 1", &deep));
}
