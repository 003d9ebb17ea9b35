//! A filter's expression as it is evaluated: flat, without a stack.

use super::field::{Field, Look, Members};
use super::value::Value;
use crate::Event;
use std::cmp::Ordering;

/// Comparisons and how they are joined, in the order of evaluation.
///
/// One truth is carried from step to step. Behind the left side of an `and` or `or` stands a skip over the
/// right side, behind the right side the join itself, which only printing looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    pub steps: Box<[Step]>,
    pub members: Members,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Test(Term),
    Not,
    /// To the step `to` if the truth so far is `when`.
    Skip {
        when: bool,
        to: usize,
    },
    And,
    Or,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub field: Field,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Equal(Value),
    Unequal(Value),
    Less(Value),
    LessOrEqual(Value),
    Greater(Value),
    GreaterOrEqual(Value),
    In(Box<[Value]>),
    Contains(Value),
    StartsWith(Box<str>),
}

impl Expression {
    pub fn matches(&self, event: &Event) -> bool {
        let look = Look::new(event, &self.members);
        let (mut truth, mut at) = (true, 0);
        while let Some(step) = self.steps.get(at) {
            at += 1;
            match step {
                Step::Test(term) => truth = term.holds(&look),
                Step::Not => truth = !truth,
                Step::Skip { when, to } if truth == *when => at = *to,
                Step::Skip { .. } | Step::And | Step::Or => {}
            }
        }
        truth
    }
}

impl Term {
    fn holds(&self, look: &Look<'_>) -> bool {
        look.at(self.field, |seen| match &self.test {
            Test::Equal(value) => seen.equals(value),
            Test::Unequal(value) => !seen.equals(value),
            Test::Less(value) => seen.compare(value) == Some(Ordering::Less),
            Test::LessOrEqual(value) => seen.compare(value).is_some_and(Ordering::is_le),
            Test::Greater(value) => seen.compare(value) == Some(Ordering::Greater),
            Test::GreaterOrEqual(value) => seen.compare(value).is_some_and(Ordering::is_ge),
            Test::In(values) => values.iter().any(|value| seen.equals(value)),
            Test::Contains(value) => seen.contains(value),
            Test::StartsWith(start) => seen.starts_with(start),
        })
    }
}
