//! The words of an expression's text: names, texts, numbers, signs.
//!
//! Owns: where reading is, and how a refusal says so. Never: knows what may follow what.

use super::FilterError;

pub(super) struct Reader<'a> {
    text: &'a str,
    /// A byte, at the beginning of a character.
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Passes over `sign` if it stands here.
    pub fn take(&mut self, sign: &str) -> bool {
        let is_here = self.rest().starts_with(sign);
        self.at += if is_here { sign.len() } else { 0 };
        is_here
    }

    /// The name or keyword that stands here; may be empty.
    pub fn peek_word(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    }

    pub fn word(&mut self) -> &'a str {
        let word = self.peek_word();
        self.at += word.len();
        word
    }

    /// Passes over `keyword`, in any case, if it stands here.
    pub fn keyword(&mut self, keyword: &str) -> bool {
        let is_here = self.peek_word().eq_ignore_ascii_case(keyword);
        self.at += if is_here { keyword.len() } else { 0 };
        is_here
    }

    /// The number that stands here, as JSON writes numbers.
    pub fn number(&mut self) -> Result<&'a str, FilterError> {
        let start = self.at;
        self.take("-");
        if !self.take("0") {
            self.digits()?;
        }
        if self.take(".") {
            self.digits()?;
        }
        if self.take("e") || self.take("E") {
            let _ = self.take("+") || self.take("-");
            self.digits()?;
        }
        match self.peek() {
            Some(c) if is_word(c) || c == '.' => Err(self.expected("the end of the number")),
            _ => Ok(&self.text[start..self.at]),
        }
    }

    /// At least one digit.
    pub fn digits(&mut self) -> Result<&'a str, FilterError> {
        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        if digits.is_empty() {
            return Err(self.expected("a digit"));
        }
        self.at += digits.len();
        Ok(digits)
    }

    /// The text in quotes that stands here; `None` if there is no quote.
    pub fn quoted(&mut self) -> Result<Option<Box<str>>, FilterError> {
        let quote = match self.peek() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Ok(None),
        };
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(self.expected_at(start, "a text that ends in the quote it begins with"));
            };
            match c {
                _ if c == quote => break self.at += 1,
                '\\' => text.push(self.escape()?),
                _ => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        Ok(Some(text.into()))
    }

    fn escape(&mut self) -> Result<char, FilterError> {
        let start = self.at;
        self.at += 1;
        let escaped = self.peek();
        self.at += escaped.map_or(0, char::len_utf8);
        let c = match escaped {
            Some(c @ ('\'' | '"' | '\\' | '/')) => Some(c),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('u') => self.unicode(),
            _ => None,
        };
        c.ok_or_else(|| self.expected_at(start, "an escape of JSON, such as \\n, \\\\, \\' or \\u00e9"))
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        let second = if self.take("\\u") { self.unit()? } else { return None };
        char::decode_utf16([first as u16, second as u16]).next()?.ok()
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    pub fn expected(&self, expected: &'static str) -> FilterError {
        self.expected_at(self.at, expected)
    }

    pub fn expected_at(&self, at: usize, expected: &'static str) -> FilterError {
        FilterError::Expected { at: self.character(at), expected, found: self.found(at) }
    }

    pub fn bound(&self, at: usize, max: usize, what: &'static str) -> FilterError {
        FilterError::Bound { at: self.character(at), max, what }
    }

    /// The number of the character at a byte, counted from 1.
    pub fn character(&self, at: usize) -> usize {
        self.text[..at].chars().count() + 1
    }

    /// What stands at a byte, as a refusal shows it.
    pub fn found(&self, at: usize) -> Box<str> {
        let rest = &self.text[at..];
        if rest.is_empty() {
            return "the end".into();
        }
        let shown = rest.chars().take_while(|c| !c.is_whitespace()).take(24);
        let shown: String = shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        format!("`{shown}`").into()
    }
}

/// Whether a name may hold `c` without quotes.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@')
}
