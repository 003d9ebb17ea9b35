//! The members of a JSON text that a filter asks for, all found in one pass.
//!
//! Owns: which bytes of a text a path names. Never: builds a tree, recurses deeper than the longest path, or
//! fails: what is not JSON has no members.

use std::borrow::Cow;
use std::ops::Range;

/// Names of members and numbers of elements, from the outside in.
pub(super) type Path = Box<[Box<str>]>;

/// Paths into one text, in order and each once, so that those with a common beginning lie together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Paths(Box<[Path]>);

impl Paths {
    pub fn new(mut paths: Vec<Path>) -> Self {
        paths.sort_unstable();
        paths.dedup();
        Self(paths.into())
    }

    /// Where `path` stands in what [`Paths::find`] returns.
    pub fn slot(&self, path: &Path) -> Option<usize> {
        self.0.binary_search(path).ok()
    }

    pub fn get(&self, slot: usize) -> &Path {
        &self.0[slot]
    }

    /// The value at each path, as it stands in `text`.
    pub fn find<'a>(&self, text: &'a str) -> Vec<Option<&'a str>> {
        let mut walk = Walk { paths: &self.0, found: vec![None; self.0.len()], scan: Scan { text, at: 0 } };
        if !self.0.is_empty() {
            walk.value(0..self.0.len(), 0);
        }
        walk.found
    }
}

/// The elements of an array.
pub(super) fn elements(array: &str) -> impl Iterator<Item = &str> {
    let mut scan = Scan { text: array, at: 1 };
    std::iter::from_fn(move || {
        scan.space();
        if scan.peek() == Some(b',') {
            scan.at += 1;
            scan.space();
        }
        let start = scan.at;
        scan.skip()?;
        scan.text.get(start..scan.at)
    })
}

/// What a text in JSON says; `None` if that is no Unicode, as half of a surrogate pair.
pub(super) fn unescape(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.contains('\\') {
        return serde_json::from_str::<String>(quoted).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(quoted.strip_prefix('"')?.strip_suffix('"')?))
}

struct Walk<'p, 'a> {
    paths: &'p [Path],
    found: Vec<Option<&'a str>>,
    scan: Scan<'a>,
}

impl Walk<'_, '_> {
    /// Passes over one value; `asked` are the paths that have led here, all longer than `depth` but one.
    fn value(&mut self, asked: Range<usize>, depth: usize) -> Option<()> {
        self.scan.space();
        let start = self.scan.at;
        let is_asked = self.paths[asked.start].len() == depth;
        let inner = asked.start + usize::from(is_asked)..asked.end;
        match self.scan.peek()? {
            b'{' if !inner.is_empty() => self.object(inner, depth)?,
            b'[' if !inner.is_empty() => self.array(inner, depth)?,
            _ => self.scan.skip()?,
        }
        if is_asked {
            self.found[asked.start] = self.scan.text.get(start..self.scan.at);
        }
        Some(())
    }

    fn object(&mut self, asked: Range<usize>, depth: usize) -> Option<()> {
        self.scan.at += 1;
        loop {
            self.scan.space();
            match self.scan.peek()? {
                b'}' => break,
                b',' => {
                    self.scan.at += 1;
                    continue;
                }
                _ => {}
            }
            let name = self.scan.string()?;
            self.scan.space();
            self.scan.eat(b':')?;
            let inner = unescape(name).and_then(|name| self.part(asked.clone(), depth, &name));
            match inner {
                Some(inner) => {
                    // A member of this name that came before counts no longer.
                    self.found[inner.clone()].fill(None);
                    self.value(inner, depth + 1)?;
                }
                None => {
                    self.scan.space();
                    self.scan.skip()?;
                }
            }
        }
        self.scan.eat(b'}')
    }

    fn array(&mut self, asked: Range<usize>, depth: usize) -> Option<()> {
        let mut wanted = self.numbers(asked, depth).into_iter().peekable();
        self.scan.at += 1;
        for i in 0.. {
            self.scan.space();
            if self.scan.peek()? == b',' {
                self.scan.at += 1;
                self.scan.space();
            }
            if self.scan.peek()? == b']' {
                break;
            }
            match wanted.next_if(|(number, _)| *number == i) {
                Some((_, inner)) => self.value(inner, depth + 1)?,
                None => self.scan.skip()?,
            }
        }
        self.scan.eat(b']')
    }

    /// Those of `asked` that go on with `name`.
    fn part(&self, asked: Range<usize>, depth: usize, name: &str) -> Option<Range<usize>> {
        let paths = &self.paths[asked.clone()];
        let start = asked.start + paths.partition_point(|path| &*path[depth] < name);
        let end = asked.start + paths.partition_point(|path| &*path[depth] <= name);
        (start < end).then_some(start..end)
    }

    /// Those of `asked` that go on with the number of an element, by number.
    fn numbers(&self, asked: Range<usize>, depth: usize) -> Vec<(usize, Range<usize>)> {
        let mut numbers = Vec::new();
        let mut start = asked.start;
        while start < asked.end {
            let name = &self.paths[start][depth];
            let part = self.part(asked.clone(), depth, name).expect("holds the path it was asked with");
            start = part.end;
            let is_number =
                name.bytes().all(|b| b.is_ascii_digit()) && (&**name == "0" || !name.starts_with('0'));
            if let (true, Ok(number)) = (is_number, name.parse()) {
                numbers.push((number, part));
            }
        }
        numbers.sort_unstable_by_key(|(number, _)| *number);
        numbers
    }
}

/// A way through JSON that is known to be valid; in anything else it stops or finds nonsense.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over a string and returns it with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.eat(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    /// Passes over a value of any depth.
    fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => {
                let mut open = 0usize;
                loop {
                    match self.peek()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => open += 1,
                        b'}' | b']' => open -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if open == 0 {
                        return Some(());
                    }
                }
            }
            _ => {
                let start = self.at;
                while !matches!(
                    self.peek(),
                    None | Some(
                        b',' | b':' | b'{' | b'[' | b']' | b'}' | b'"' | b' ' | b'\n' | b'\t' | b'\r'
                    )
                ) {
                    self.at += 1;
                }
                (self.at > start).then_some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(parts: &[&str]) -> Path {
        parts.iter().map(|part| (*part).into()).collect()
    }

    fn find(text: &str, parts: &[&str]) -> Option<String> {
        let paths = Paths::new(vec![path(&["z"]), path(parts), path(&[]), path(&["a", "b"])]);
        let found = paths.find(text);
        found[paths.slot(&path(parts)).unwrap()].map(Into::into)
    }

    #[test]
    fn members_and_elements_are_found_as_they_stand() {
        let text =
            r#" {"a" : {"b": [1, {"c":"x\"}"}, [ ] ,3.50], "b2": 0}, "é\u0061": {"" :null}, "0":"zero"} "#;
        for (parts, value) in [
            (&["a", "b", "1", "c"][..], Some(r#""x\"}""#)),
            (&["a", "b", "3"], Some("3.50")),
            (&["a", "b", "2"], Some("[ ]")),
            (&["a", "b", "03"], None),
            (&["a", "b", "4"], None),
            (&["a", "b2"], Some("0")),
            (&["a", "b2", "c"], None),
            (&["éa", ""], Some("null")),
            (&["0"], Some(r#""zero""#)),
        ] {
            assert_eq!(find(text, parts).as_deref(), value, "{parts:?}");
        }
        assert_eq!(find(text, &[]).as_deref(), Some(text.trim()));
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        assert_eq!(find(r#"{"a":{"b":1},"a":{"c":2}}"#, &["a", "b"]), None);
        assert_eq!(find(r#"{"a":3,"a":{"b":1}}"#, &["a", "b"]).as_deref(), Some("1"));
        assert_eq!(find(r#"{"a":{"b":1},"a":7}"#, &["a", "b"]), None);
    }

    #[test]
    fn what_is_no_json_ends_the_walk() {
        for text in
            ["", "{", "[1", "[}", "{\"a\"", "{\"a\":", "\"\\", "{\"a\":}", "[,,]", "é", "{:}", "[\"a\":1]"]
        {
            let _ = find(text, &["a", "b"]);
            assert!(elements(text).count() <= 2, "{text}");
        }
    }
}
