//! Character sets: bytes of a column as text.
//!
//! Never: replaces what it does not understand; such a text is refused with the column's name.

use std::borrow::Cow;

/// How a column's bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// No text at all.
    Binary,
    Utf8,
    /// Two or four bytes a character, the most significant first, or last.
    Utf16Big,
    Utf16Little,
    Utf32,
    /// One that browsers know as well.
    Other(&'static encoding_rs::Encoding),
    /// One that nobody here can read.
    Unknown,
}

impl Charset {
    /// By the server's name for it.
    pub fn of(name: &str) -> Self {
        let label = match name {
            "binary" => return Self::Binary,
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => return Self::Utf8,
            "ucs2" | "utf16" => return Self::Utf16Big,
            "utf16le" => return Self::Utf16Little,
            "utf32" => return Self::Utf32,
            // MySQL's latin1 is cp1252, with the five bytes that it leaves open as control characters.
            "latin1" | "cp1252" => "windows-1252",
            "latin2" => "iso-8859-2",
            "latin5" => "windows-1254",
            "latin7" => "iso-8859-13",
            "greek" => "iso-8859-7",
            "hebrew" => "iso-8859-8",
            "cp1250" => "windows-1250",
            "cp1251" => "windows-1251",
            "cp1256" => "windows-1256",
            "cp1257" => "windows-1257",
            "cp866" => "ibm866",
            "koi8r" => "koi8-r",
            "koi8u" => "koi8-u",
            "macroman" => "macintosh",
            "tis620" => "windows-874",
            "sjis" | "cp932" => "shift_jis",
            "ujis" | "eucjpms" => "euc-jp",
            "euckr" => "euc-kr",
            "gb2312" | "gbk" => "gbk",
            "gb18030" => "gb18030",
            "big5" => "big5",
            _ => return Self::Unknown,
        };
        encoding_rs::Encoding::for_label(label.as_bytes()).map_or(Self::Unknown, Self::Other)
    }

    /// The text; `None` where the bytes are none in this set.
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Utf16Big => sixteen(bytes, u16::from_be_bytes),
            Self::Utf16Little => sixteen(bytes, u16::from_le_bytes),
            Self::Utf32 => {
                let (units, rest) = bytes.as_chunks::<4>();
                let text = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
                let text: Option<String> = text.collect();
                text.filter(|_| rest.is_empty()).map(Cow::Owned)
            }
            Self::Other(encoding) => encoding.decode_without_bom_handling_and_without_replacement(bytes),
            Self::Binary | Self::Unknown => None,
        }
    }
}

fn sixteen(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Cow<'_, str>> {
    let (units, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(units.iter().map(|two| unit(*two))).collect();
    text.ok().filter(|_| rest.is_empty()).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_many_sets_are_read_and_others_refused() {
        for (name, bytes, expected) in [
            ("utf8mb4", "é🙂".as_bytes(), Some("é🙂")),
            ("utf8mb4", b"\xe9", None),
            ("latin1", b"\xe9\x80\x81", Some("é€\u{81}")),
            ("latin2", b"\xb1", Some("ą")),
            ("ucs2", b"\x20\xac", Some("€")),
            ("utf16", b"\xd8\x3d\xde\x42", Some("🙂")),
            ("utf16le", b"\xac\x20", Some("€")),
            ("utf32", b"\0\x01\xf6\x42", Some("🙂")),
            ("utf32", b"\0\x01\xf6", None),
            ("sjis", b"\x82\xa0", Some("あ")),
            ("gbk", b"\xd6\xd0", Some("中")),
            ("dec8", b"a", None),
        ] {
            assert_eq!(Charset::of(name).read(bytes).as_deref(), expected, "{name}");
        }
    }
}
