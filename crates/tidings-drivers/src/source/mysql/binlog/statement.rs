//! Statements that the binary log holds as text: the ends of transactions, and changes of tables.
//!
//! Never: understands SQL. What is not recognised is judged by the names in it, rather once too often.

/// What a statement means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    /// A transaction of two phases is decided; its name in hex.
    XaCommit(String),
    XaRollback(String),
    /// Part of a transaction, without a meaning here.
    Within,
    /// The rows of these tables are gone: schema (if it is named) and table.
    Emptied(Vec<(Option<String>, String)>),
    /// A change of rows that was logged as a statement, not as rows.
    Change,
    /// Something else; it may change how tables look.
    Other,
}

impl Statement {
    pub fn read(text: &str) -> Self {
        // Nearly all there are.
        match text {
            "BEGIN" => return Self::Begin,
            "COMMIT" => return Self::Commit,
            _ => {}
        }
        let words = Words(text).take(2000).collect::<Vec<_>>();
        let word = |n: usize| words.get(n).map(Word::upper).unwrap_or_default();
        match (word(0).as_str(), word(1).as_str()) {
            ("BEGIN", _) | ("START", "TRANSACTION") => Self::Begin,
            ("COMMIT", _) => Self::Commit,
            ("ROLLBACK", "TO") => Self::RollbackTo(last(&words)),
            ("ROLLBACK", _) => Self::Rollback,
            ("SAVEPOINT", _) => Self::Savepoint(last(&words)),
            ("XA", "START" | "BEGIN") => Self::Begin,
            ("XA", "END") => Self::Within,
            ("XA", "COMMIT") => Self::XaCommit(xa_name(text)),
            ("XA", "ROLLBACK") => Self::XaRollback(xa_name(text)),
            ("TRUNCATE", "TABLE") => Self::Emptied(names(&words[2..])),
            ("TRUNCATE", _) => Self::Emptied(names(&words[1..])),
            ("DROP", "TABLE") => Self::Emptied(names(&words[2..])),
            ("CREATE", "OR") if word(2) == "REPLACE" && word(3) == "TABLE" => {
                Self::Emptied(names(&words[4..words.len().min(7)]).into_iter().take(1).collect())
            }
            ("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD", _) => Self::Change,
            _ => Self::Other,
        }
    }
}

/// Whether a name stands somewhere in a statement, in whatever case.
pub fn names_table(text: &str, table: &str) -> bool {
    text.to_lowercase().contains(&table.to_lowercase())
}

/// A word of a statement: a plain one, a name in quotes, or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Plain(String),
    Quoted(String),
    Sign(char),
}

impl Word {
    fn upper(&self) -> String {
        match self {
            Self::Plain(word) => word.to_uppercase(),
            Self::Quoted(_) | Self::Sign(_) => String::new(),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Plain(name) | Self::Quoted(name) => Some(name),
            Self::Sign(_) => None,
        }
    }
}

/// Words without blanks and comments.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        loop {
            self.0 = self.0.trim_start();
            if let Some(rest) = self.0.strip_prefix("/*!").or_else(|| self.0.strip_prefix("/*M!")) {
                // What stands in such a comment counts.
                self.0 = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            } else if let Some(rest) = self.0.strip_prefix("*/") {
                self.0 = rest;
            } else if let Some(rest) = self.0.strip_prefix("/*") {
                self.0 = rest.split_once("*/").map_or("", |(_, rest)| rest);
            } else if self.0.starts_with("-- ") || self.0.starts_with('#') {
                self.0 = self.0.split_once('\n').map_or("", |(_, rest)| rest);
            } else {
                break;
            }
        }
        let first = self.0.chars().next()?;
        if first == '`' || first == '"' {
            let mut name = String::new();
            let mut rest = self.0[1..].char_indices().peekable();
            while let Some((at, c)) = rest.next() {
                match c {
                    c if c == first && rest.peek().is_some_and(|(_, next)| *next == first) => {
                        name.extend(rest.next().map(|(_, c)| c));
                    }
                    c if c == first => {
                        self.0 = &self.0[1 + at + 1..];
                        return Some(Word::Quoted(name));
                    }
                    c => name.push(c),
                }
            }
            self.0 = "";
            return Some(Word::Quoted(name));
        }
        let fits = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let len = self.0.find(|c: char| !fits(c)).unwrap_or(self.0.len());
        let (word, rest) = if len == 0 { self.0.split_at(first.len_utf8()) } else { self.0.split_at(len) };
        self.0 = rest;
        Some(if len == 0 { Word::Sign(first) } else { Word::Plain(word.to_owned()) })
    }
}

/// The name in `XA COMMIT X'6162',X'63',1`, as [`super::event::xa_name`] makes it.
fn xa_name(text: &str) -> String {
    let mut parts = text.split('\'');
    let mut hex = || {
        parts.next();
        parts.next().unwrap_or_default().to_lowercase()
    };
    let (global, branch) = (hex(), hex());
    format!("{global}-{branch}")
}

fn last(words: &[Word]) -> String {
    words.iter().rev().find_map(Word::name).unwrap_or_default().to_owned()
}

/// `a`, `b`.`c` [WAIT n]: names between commas.
fn names(words: &[Word]) -> Vec<(Option<String>, String)> {
    let is_plain = |n: usize, text: &str| words.get(n).is_some_and(|word| word.upper() == text);
    let from = if is_plain(0, "IF") && is_plain(1, "EXISTS") { 2 } else { 0 };
    let mut all = Vec::new();
    for part in words[from..].split(|word| *word == Word::Sign(',')) {
        let found = match part {
            [schema, Word::Sign('.'), table, ..] => {
                schema.name().zip(table.name()).map(|(s, t)| (Some(s), t))
            }
            [table, ..] => table.name().map(|table| (None, table)),
            [] => None,
        };
        all.extend(found.map(|(schema, table)| (schema.map(str::to_owned), table.to_owned())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptied_tables_are_named() {
        let emptied = |text: &str| match Statement::read(text) {
            Statement::Emptied(names) => names
                .into_iter()
                .map(|(schema, table)| schema.map_or(table.clone(), |schema| format!("{schema}/{table}")))
                .collect::<Vec<_>>(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(emptied("TRUNCATE items"), ["items"]);
        assert_eq!(emptied("/* app */ truncate  table `shop`.`a ``b` WAIT 5"), ["shop/a `b"]);
        assert_eq!(emptied("create or replace table a (b int, c int)"), ["a"]);
        assert_eq!(emptied("DROP TABLE IF EXISTS `a`,b . c /* generated by server */"), ["a", "b/c"]);
    }

    #[test]
    fn the_ends_of_transactions_are_known() {
        for (text, expected) in [
            ("BEGIN", Statement::Begin),
            ("COMMIT", Statement::Commit),
            ("ROLLBACK TO `s p`", Statement::RollbackTo("s p".into())),
            ("SAVEPOINT `s p`", Statement::Savepoint("s p".into())),
            ("XA COMMIT X'61',X'',1", Statement::XaCommit("61-".into())),
            ("insert into t values ('BEGIN')", Statement::Change),
            ("ALTER TABLE t ADD c INT", Statement::Other),
            ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`", Statement::Other),
            ("# a\n-- b\nalter", Statement::Other),
            ("", Statement::Other),
            ("`", Statement::Other),
        ] {
            assert_eq!(Statement::read(text), expected, "{text}");
        }
        assert!(names_table("alter table ITEMS add c int", "items"));
    }
}
