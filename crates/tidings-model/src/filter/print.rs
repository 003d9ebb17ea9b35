//! Prints an expression so that it reads back as the same.

use super::expression::{Expression, Step, Term, Test};
use super::field::{Document, Field};
use super::reader::is_word;
use super::value::Value;
use std::fmt::{self, Display, Formatter, Write as _};

/// How much a printed part binds: what binds less than asked for is put in brackets.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const TERM: u8 = 4;

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<(String, u8)> = Vec::new();
        for step in &self.steps {
            let part = match step {
                Step::Skip { .. } => continue,
                Step::Test(term) => (self.term(term), TERM),
                Step::Not => (format!("not {}", operand(parts.pop(), NOT)), NOT),
                Step::And | Step::Or => {
                    let (word, own) = if *step == Step::And { ("and", AND) } else { ("or", OR) };
                    let right = operand(parts.pop(), own + 1);
                    (format!("{} {word} {right}", operand(parts.pop(), own)), own)
                }
            };
            parts.push(part);
        }
        f.write_str(&operand(parts.pop(), OR))
    }
}

fn operand(part: Option<(String, u8)>, binding: u8) -> String {
    let (text, own) = part.expect("every join has its sides");
    if own < binding { format!("({text})") } else { text }
}

impl Expression {
    fn term(&self, term: &Term) -> String {
        let field = self.field(term.field);
        match &term.test {
            Test::Equal(value) => format!("{field} == {value}"),
            Test::Unequal(value) => format!("{field} != {value}"),
            Test::Less(value) => format!("{field} < {value}"),
            Test::LessOrEqual(value) => format!("{field} <= {value}"),
            Test::Greater(value) => format!("{field} > {value}"),
            Test::GreaterOrEqual(value) => format!("{field} >= {value}"),
            Test::In(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                format!("{field} in [{}]", values.join(", "))
            }
            Test::Contains(value) => format!("{field} contains {value}"),
            Test::StartsWith(start) => format!("{field} starts_with {}", Quoted(start)),
        }
    }

    fn field(&self, field: Field) -> String {
        let (document, slot) = match field {
            Field::Column(column) => return column.as_str().into(),
            Field::Member(document, slot) => (document, slot),
        };
        let path = self.members.of(document).get(slot);
        let mut out = match document {
            Document::Data => String::from("data"),
            Document::Context => String::from("context"),
            Document::Attributes => return path.concat(),
        };
        for part in path {
            if !part.is_empty() && part.chars().all(is_word) {
                out.push('.');
                out.push_str(part);
            } else {
                write!(out, "[{}]", Quoted(part)).expect("memory");
            }
        }
        out
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Number(number) => f.write_str(number.as_str()),
            Self::Text(text) => write!(f, "{}", Quoted(text)),
            Self::Day(day) => write!(f, "'{}'::DATE", &day.to_string()[..10]),
            Self::Moment(moment) => write!(f, "'{moment}'::DATETIME"),
        }
    }
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') && !self.0.contains('"') { '"' } else { '\'' };
        f.write_char(quote)?;
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ if c == quote => write!(f, "\\{c}")?,
                _ if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char(quote)
    }
}
