//! Reads an expression.
//!
//! Owns: the grammar and its bounds. What is open (brackets, `not`, `and`, `or`) waits on a stack of its own
//! until what follows binds less. Never: calls itself.

use super::decimal::Decimal;
use super::expression::{Expression, Step, Term, Test};
use super::field::{Column, Document, Field, KNOWN, Kind, Members, Named};
use super::json::{Path, Paths};
use super::reader::Reader;
use super::value::Value;
use super::{Filter, FilterError};

pub(super) fn expression(text: &str) -> Result<Expression, FilterError> {
    if text.len() > Filter::EXPRESSION_BYTES_MAX {
        return Err(FilterError::TooLong(Filter::EXPRESSION_BYTES_MAX));
    }
    let reader = Reader::new(text);
    let mut parser =
        Parser { reader, steps: Vec::new(), open: Vec::new(), depth: 0, terms: 0, values: 0, searches: 0 };
    loop {
        let term = parser.operand()?;
        parser.steps.push(Draft::Test(term));
        if !parser.join()? {
            return Ok(assemble(parser.steps));
        }
    }
}

struct Parser<'a> {
    reader: Reader<'a>,
    steps: Vec<Draft>,
    open: Vec<Open>,
    /// Brackets and `not` that are open.
    depth: usize,
    terms: usize,
    values: usize,
    searches: usize,
}

/// A step before the paths of all comparisons are known.
enum Draft {
    Test((Place, Test)),
    Step(Step),
}

enum Place {
    Column(Column),
    Member(Document, Path),
}

/// What waits for its right side to end, by how much it binds. Joins know their skip.
enum Open {
    Bracket,
    Or(usize),
    And(usize),
    Not,
}

const OR: u8 = 1;
const AND: u8 = 2;

impl Open {
    fn binding(&self) -> u8 {
        match self {
            Self::Bracket => 0,
            Self::Or(_) => OR,
            Self::And(_) => AND,
            Self::Not => 3,
        }
    }
}

impl Parser<'_> {
    /// Brackets and `not` up to a comparison, and the comparison.
    fn operand(&mut self) -> Result<(Place, Test), FilterError> {
        loop {
            self.reader.space();
            let at = self.reader.at;
            let open = if self.reader.take("(") {
                Open::Bracket
            } else if self.reader.keyword("not") {
                Open::Not
            } else {
                return self.term();
            };
            self.depth += 1;
            if self.depth > Filter::DEPTH_MAX {
                return Err(self.reader.bound(at, Filter::DEPTH_MAX, "brackets and `not` within each other"));
            }
            self.open.push(open);
        }
    }

    /// What follows a comparison; `false` at the end.
    fn join(&mut self) -> Result<bool, FilterError> {
        loop {
            self.reader.space();
            if self.reader.rest().is_empty() {
                self.close(OR);
                return match self.open.pop() {
                    None => Ok(false),
                    Some(_) => Err(self.reader.expected("`and`, `or` or `)`")),
                };
            }
            let at = self.reader.at;
            if self.reader.take(")") {
                self.close(OR);
                if self.open.pop().is_none() {
                    return Err(self.reader.expected_at(at, "`and`, `or` or the end"));
                }
                self.depth -= 1;
                continue;
            }
            let is_and = self.reader.keyword("and");
            if !is_and && !self.reader.keyword("or") {
                return Err(self.reader.expected("`and`, `or`, `)` or the end"));
            }
            self.close(if is_and { AND } else { OR });
            let skip = self.steps.len();
            self.open.push(if is_and { Open::And(skip) } else { Open::Or(skip) });
            // Where to is known when the right side ends.
            self.steps.push(Draft::Step(Step::Skip { when: !is_and, to: 0 }));
            return Ok(true);
        }
    }

    /// Ends what is open and binds at least as much as `binding`.
    fn close(&mut self, binding: u8) {
        while let Some(open) = self.open.pop_if(|open| open.binding() >= binding) {
            let (step, skip) = match open {
                Open::Not => {
                    self.depth -= 1;
                    (Step::Not, None)
                }
                Open::And(skip) => (Step::And, Some(skip)),
                Open::Or(skip) => (Step::Or, Some(skip)),
                Open::Bracket => unreachable!("binds less than anything that closes"),
            };
            self.steps.push(Draft::Step(step));
            let end = self.steps.len();
            if let Some(Draft::Step(Step::Skip { to, .. })) = skip.and_then(|at| self.steps.get_mut(at)) {
                *to = end;
            }
        }
    }

    fn term(&mut self) -> Result<(Place, Test), FilterError> {
        let at = self.reader.at;
        self.terms += 1;
        if self.terms > Filter::TERMS_MAX {
            return Err(self.reader.bound(at, Filter::TERMS_MAX, "comparisons"));
        }
        let (place, kind) = self.field()?;
        self.reader.space();
        Ok((place, self.test(kind)?))
    }

    fn field(&mut self) -> Result<(Place, Kind), FilterError> {
        let at = self.reader.at;
        let name = self.reader.word();
        if name.is_empty() {
            return Err(self.reader.expected("a field, `not` or `(`"));
        }
        let Some((named, kind)) = Named::parse(name) else {
            let (at, found) = (self.reader.character(at), self.reader.found(at));
            return Err(FilterError::Field { at, found, known: KNOWN });
        };
        let place = match named {
            Named::Column(column) => Place::Column(column),
            Named::Attribute(name) => Place::Member(Document::Attributes, [name.into()].into()),
            Named::Document(document) => Place::Member(document, self.path()?),
        };
        Ok((place, kind))
    }

    fn path(&mut self) -> Result<Path, FilterError> {
        let mut path: Vec<Box<str>> = Vec::new();
        loop {
            let at = self.reader.at;
            let part = if self.reader.take(".") {
                match self.reader.word() {
                    "" => return Err(self.reader.expected("the name of a member")),
                    word => word.into(),
                }
            } else if self.reader.take("[") {
                let part = match self.reader.quoted()? {
                    Some(text) => text,
                    None => self.number_of_element()?,
                };
                if !self.reader.take("]") {
                    return Err(self.reader.expected("`]`"));
                }
                part
            } else {
                return Ok(path.into());
            };
            if path.len() == Filter::PATH_MAX {
                return Err(self.reader.bound(at, Filter::PATH_MAX, "parts in a path"));
            }
            path.push(part);
        }
    }

    fn number_of_element(&mut self) -> Result<Box<str>, FilterError> {
        let at = self.reader.at;
        let digits = self.reader.digits().map_err(|_| self.reader.expected("a number or a quoted name"))?;
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(self.reader.expected_at(at, "a number that does not begin with 0"));
        }
        Ok(digits.into())
    }

    fn test(&mut self, kind: Kind) -> Result<Test, FilterError> {
        type Make = fn(Value) -> Test;
        const SIGNS: [(&str, Make); 6] = [
            ("==", Test::Equal),
            ("!=", Test::Unequal),
            ("<=", Test::LessOrEqual),
            (">=", Test::GreaterOrEqual),
            ("<", Test::Less),
            (">", Test::Greater),
        ];
        let at = self.reader.at;
        for (sign, test) in SIGNS {
            if self.reader.take(sign) {
                self.reader.space();
                let value_at = self.reader.at;
                let value = self.value(false)?;
                if !matches!(sign, "==" | "!=") && !value.has_order() {
                    return Err(self
                        .reader
                        .expected_at(value_at, "a number, a text or a time to be in order with"));
                }
                return Ok(test(self.fit(kind, value, value_at)?));
            }
        }
        if self.reader.keyword("in") {
            return Ok(Test::In(self.list(kind)?));
        }
        let is_prefix = self.reader.keyword("starts_with");
        if is_prefix || self.reader.keyword("contains") {
            if !matches!(kind, Kind::Text | Kind::Any) {
                return Err(self.reader.expected_at(at, "`==`, `!=`, `<`, `<=`, `>`, `>=` or `in`"));
            }
            self.searches += usize::from(!is_prefix && kind == Kind::Any);
            if self.searches > Filter::SEARCHES_MAX {
                let what = "comparisons with `contains` in `data` and `context`";
                return Err(self.reader.bound(at, Filter::SEARCHES_MAX, what));
            }
            self.reader.space();
            let value_at = self.reader.at;
            let value = self.value(false)?;
            return match value {
                Value::Text(text) if is_prefix => Ok(Test::StartsWith(text)),
                value if !is_prefix && (kind == Kind::Any || matches!(value, Value::Text(_))) => {
                    Ok(Test::Contains(value))
                }
                _ => Err(self.reader.expected_at(value_at, "a text")),
            };
        }
        Err(self.reader.expected("`==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `contains` or `starts_with`"))
    }

    fn list(&mut self, kind: Kind) -> Result<Box<[Value]>, FilterError> {
        self.reader.space();
        if !self.reader.take("[") {
            return Err(self.reader.expected("a list in `[` and `]`"));
        }
        let mut values = Vec::new();
        loop {
            self.reader.space();
            let at = self.reader.at;
            self.values += 1;
            if self.values > Filter::VALUES_MAX {
                return Err(self.reader.bound(at, Filter::VALUES_MAX, "values in lists"));
            }
            let value = self.value(true)?;
            values.push(self.fit(kind, value, at)?);
            self.reader.space();
            if self.reader.take("]") {
                return Ok(values.into());
            }
            if !self.reader.take(",") {
                return Err(self.reader.expected("`,` or `]`"));
            }
        }
    }

    fn value(&mut self, is_in_list: bool) -> Result<Value, FilterError> {
        let at = self.reader.at;
        if let Some(text) = self.reader.quoted()? {
            if !self.reader.take("::") {
                return Ok(Value::Text(text));
            }
            return if self.reader.keyword("date") {
                Value::day(&text).ok_or_else(|| self.reader.expected_at(at, "a date such as '2026-01-31'"))
            } else if self.reader.keyword("datetime") {
                let moment = Value::time(&text).filter(|time| matches!(time, Value::Moment(_)));
                moment.ok_or_else(|| self.reader.expected_at(at, "a time such as '2026-01-31T12:00:00Z'"))
            } else {
                Err(self.reader.expected("DATE or DATETIME"))
            };
        }
        if self.reader.peek().is_some_and(|c| c == '-' || c.is_ascii_digit()) {
            return Ok(Value::Number(Decimal::read(self.reader.number()?.to_owned())));
        }
        for (keyword, value) in
            [("null", Value::Null), ("true", Value::Truth(true)), ("false", Value::Truth(false))]
        {
            if self.reader.keyword(keyword) {
                return Ok(value);
            }
        }
        if is_in_list {
            return match self.reader.word() {
                "" => Err(self.reader.expected("a value")),
                word => Ok(Value::Text(word.into())),
            };
        }
        Err(self.reader.expected("a text in quotes, a number, true, false or null"))
    }

    /// `value` as a field of this kind can have it.
    fn fit(&self, kind: Kind, value: Value, at: usize) -> Result<Value, FilterError> {
        let refuse = |expected| Err(self.reader.expected_at(at, expected));
        match (kind, value) {
            (Kind::Any, value) | (_, value @ Value::Null) => Ok(value),
            (Kind::Text, value @ Value::Text(_)) => Ok(value),
            (Kind::Text, _) => refuse("a text in quotes"),
            (Kind::Number, value @ Value::Number(_)) => Ok(value),
            (Kind::Number, _) => refuse("a number"),
            (Kind::Truth, value @ Value::Truth(_)) => Ok(value),
            (Kind::Truth, _) => refuse("true or false"),
            (Kind::Time, value @ (Value::Day(_) | Value::Moment(_))) => Ok(value),
            (Kind::Time, Value::Text(text)) => match Value::time(&text) {
                Some(time) => Ok(time),
                None => refuse("a time such as '2026-01-31' or '2026-01-31T12:00:00Z'"),
            },
            (Kind::Time, _) => refuse("a time such as '2026-01-31' or '2026-01-31T12:00:00Z'"),
        }
    }
}

/// Gives each path its place.
fn assemble(drafts: Vec<Draft>) -> Expression {
    let paths_of = |wanted: Document| {
        let paths = drafts.iter().filter_map(|draft| match draft {
            Draft::Test((Place::Member(document, path), _)) if *document == wanted => Some(path.clone()),
            _ => None,
        });
        Paths::new(paths.collect())
    };
    let members = Members {
        data: paths_of(Document::Data),
        context: paths_of(Document::Context),
        attributes: paths_of(Document::Attributes),
    };
    let field = |place: Place| match place {
        Place::Column(column) => Field::Column(column),
        Place::Member(document, path) => {
            let slot = members.of(document).slot(&path).expect("every path was collected");
            Field::Member(document, slot)
        }
    };
    let steps = drafts.into_iter().map(|draft| match draft {
        Draft::Test((place, test)) => Step::Test(Term { field: field(place), test }),
        Draft::Step(step) => step,
    });
    Expression { steps: steps.collect(), members }
}
