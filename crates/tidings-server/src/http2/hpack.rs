//! Header blocks (RFC 7541): reads what clients compress, writes what every client reads.
//!
//! Owns: the client's table. Never: keeps one of its own: an answer's few headers are written out, which costs bytes and
//! no memory.

mod huffman;
mod table;

pub use table::{TABLE_BYTES, cost};

use table::Table;

/// A block that says nothing. Nothing behind it can be understood either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// A larger number is refused.
const NUMBER_MAX: usize = 1 << 24;

/// Reads the blocks of one connection, in their order.
pub struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub fn new() -> Self {
        Self { table: Table::new(), name: Vec::new(), value: Vec::new() }
    }

    /// Shows each field of the block to `found`. Answers whether the same block says the same again: that is so if it has
    /// left the table as it was.
    pub fn decode(&mut self, block: &[u8], mut found: impl FnMut(&[u8], &[u8])) -> Result<bool, Broken> {
        let (mut rest, mut is_pure, mut may_resize) = (block, true, true);
        while let [first, ..] = rest {
            // Sections 6.1 to 6.3: the first bits of a field say of what kind it is.
            let (bits, is_kept) = match first {
                0x80.. => {
                    let (name, value) = self.table.get(number(&mut rest, 7)?)?;
                    found(name, value);
                    may_resize = false;
                    continue;
                }
                0x40.. => (6, true),
                0x20.. => {
                    let max = number(&mut rest, 5)?;
                    if !may_resize {
                        return Err(Broken);
                    }
                    self.table.resize(max)?;
                    is_pure = false;
                    continue;
                }
                _ => (4, false),
            };
            may_resize = false;
            self.name.clear();
            match number(&mut rest, bits)? {
                0 => text(&mut rest, &mut self.name)?,
                index => self.name.extend_from_slice(self.table.get(index)?.0),
            }
            self.value.clear();
            text(&mut rest, &mut self.value)?;
            found(&self.name, &self.value);
            if is_kept {
                self.table.insert(&self.name, &self.value);
                is_pure = false;
            }
        }
        Ok(is_pure)
    }
}

/// A number that begins in the last `bits` of a byte (section 5.1).
fn number(rest: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    let (&first, mut more) = rest.split_first().ok_or(Broken)?;
    let mask = (1 << bits) - 1;
    let mut number = usize::from(first) & mask;
    if number == mask {
        for shift in (0..).step_by(7) {
            let (&byte, behind) = more.split_first().ok_or(Broken)?;
            more = behind;
            number += usize::from(byte & 0x7f) << shift;
            if number > NUMBER_MAX || shift > 21 {
                return Err(Broken);
            }
            if byte < 0x80 {
                break;
            }
        }
    }
    *rest = more;
    Ok(number)
}

/// A text, as it is or in Huffman's code (section 5.2).
fn text(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 > 0);
    let len = number(rest, 7)?;
    let (text, behind) = rest.split_at_checked(len).ok_or(Broken)?;
    *rest = behind;
    if is_coded {
        huffman::decode(text, out)?;
    } else {
        out.extend_from_slice(text);
    }
    Ok(())
}

/// Writes a field that no table is to know.
pub fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8], is_secret: bool) {
    // The second asks everybody on the way not to keep it either.
    out.push(if is_secret { 0x10 } else { 0 });
    for text in [name, value] {
        put_number(out, 7, 0, text.len());
        out.extend_from_slice(text);
    }
}

/// Writes `:status`.
pub fn put_status(out: &mut Vec<u8>, status: u16) {
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match KNOWN.iter().position(|own| *own == status) {
        Some(at) => out.push(0x88 + at as u8),
        None => {
            out.extend_from_slice(&[0x08, 3]);
            out.extend((0..3).rev().map(|place| b'0' + (status / 10_u16.pow(place) % 10) as u8));
        }
    }
}

/// Says that our blocks refer to no table, to a client that bounds it (section 4.2).
pub fn put_no_table(out: &mut Vec<u8>) {
    put_number(out, 5, 0x20, 0);
}

fn put_number(out: &mut Vec<u8>, bits: u32, kind: u8, number: usize) {
    let mask = (1 << bits) - 1;
    if number < mask {
        out.push(kind | number as u8);
        return;
    }
    out.push(kind | mask as u8);
    let mut left = number - mask;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<(String, bool), Broken> {
        let mut all = String::new();
        let is_pure = decoder.decode(block, |name, value| {
            all += &format!("{}: {}\n", name.escape_ascii(), value.escape_ascii());
        })?;
        Ok((all, is_pure))
    }

    /// Appendix C.4 of the standard.
    #[test]
    fn the_requests_of_the_standard_are_read() {
        let mut decoder = Decoder::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let said = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
        assert_eq!(fields(&mut decoder, first), Ok((said.into(), false)));
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let more = format!("{said}cache-control: no-cache\n");
        assert_eq!(fields(&mut decoder, second), Ok((more.clone(), false)));
        assert_eq!(fields(&mut decoder, b"\x82\x86\x84\xbf\xbe"), Ok((more, true)));
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        let said = ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n";
        assert_eq!(fields(&mut decoder, third), Ok((said.into(), false)));
    }

    #[test]
    fn the_oldest_fields_make_room_and_a_client_may_bound_its_table() {
        let mut decoder = Decoder::new();
        let field = |name: &str, len: usize| {
            let mut block = vec![0x40];
            for text in [name.as_bytes(), &vec![b'x'; len]] {
                put_number(&mut block, 7, 0, text.len());
                block.extend_from_slice(text);
            }
            block
        };
        fields(&mut decoder, &field("a", 2000)).unwrap();
        fields(&mut decoder, &field("b", 2000)).unwrap();
        assert!(fields(&mut decoder, b"\xbf").unwrap().0.starts_with("a: "));
        fields(&mut decoder, &field("c", 10)).unwrap();
        assert!(fields(&mut decoder, b"\xbf").unwrap().0.starts_with("b: "));
        assert_eq!(fields(&mut decoder, b"\xc0"), Err(Broken));
        // One that is larger than the table empties it.
        fields(&mut decoder, &field("d", 5000)).unwrap();
        assert_eq!(fields(&mut decoder, b"\xbe"), Err(Broken));
        // A bound at the beginning of a block, not beyond what was allowed and not later.
        fields(&mut decoder, &field("e", 1)).unwrap();
        assert_eq!(fields(&mut decoder, b"\x20\x3f\xe1\x1f\x82"), Ok((":method: GET\n".into(), false)));
        assert_eq!(fields(&mut decoder, b"\xbe"), Err(Broken));
        assert_eq!(fields(&mut decoder, b"\x3f\xe2\x1f"), Err(Broken));
        assert_eq!(fields(&mut decoder, b"\x82\x20"), Err(Broken));
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for block in [
            &b"\x80"[..],
            b"\xff",
            b"\xff\xff\xff\xff\xff\x0f",
            b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\xbe",
            b"\x40",
            b"\x40\x01",
            b"\x40\x01a",
            b"\x40\x01a\x7f",
            b"\x40\x01a\x02b",
            b"\x7f",
            b"\x00\x81\xff",
        ] {
            assert_eq!(fields(&mut Decoder::new(), block), Err(Broken), "{block:x?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut block = Vec::new();
        put_no_table(&mut block);
        for status in [200, 204, 206, 304, 400, 404, 500, 201, 503] {
            put_status(&mut block, status);
            let (said, _) = fields(&mut Decoder::new(), &block).unwrap();
            assert!(said.ends_with(&format!(":status: {status}\n")), "{said}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_reads_back(name in any::<Vec<u8>>(), value in any::<Vec<u8>>(), is_secret in any::<bool>()) {
            let mut block = Vec::new();
            put(&mut block, &name, &value, is_secret);
            let mut decoder = Decoder::new();
            let mut found = Vec::new();
            prop_assert_eq!(decoder.decode(&block, |n, v| found.push((n.to_vec(), v.to_vec()))), Ok(true));
            prop_assert_eq!(found, vec![(name, value)]);
        }

        #[test]
        fn whatever_is_sent_is_read_to_an_end(blocks in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = decoder.decode(&block, |_, _| {});
                prop_assert!(decoder.table.bytes() <= TABLE_BYTES);
            }
        }
    }
}
