//! Which requests the lane answers: `POST /v1/topics/{topic}/events` with JSON that is whole and small.
//!
//! Owns: what such a request may say. It is read by the parser that the HTTP library reads with; whatever has a meaning
//! for the library or for the route beyond what is read here makes it another's.

use crate::http::is_publish_path;

/// A larger one is the library's.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 32;
/// How every one of them begins.
const BEGIN: &[u8] = b"POST /v1/topics/";

/// What stands at the beginning of what was read.
pub enum Read<'a> {
    Whole(Request<'a>),
    /// Part of such a request, as far as one can tell.
    Part,
    /// Something else.
    Other,
}

/// A publish, within what was read.
pub struct Request<'a> {
    pub path: &'a str,
    /// The value of `Authorization`.
    pub authorization: &'a [u8],
    pub body: &'a [u8],
    /// Bytes of the whole request.
    pub len: usize,
    /// Its head, but for the length of the body that stands between these two.
    before: &'a [u8],
    after: &'a [u8],
}

/// The head of a request that was read. Whoever publishes again mostly says the same again, but for the length.
pub struct Head {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

impl Head {
    pub fn of(request: &Request<'_>) -> Self {
        Self { before: request.before.into(), after: request.after.into() }
    }

    /// The body and the bytes of the whole request, where `input` begins with this head and its request is whole.
    pub fn again<'a>(&self, input: &'a [u8]) -> Option<(&'a [u8], usize)> {
        let rest = input.strip_prefix(&*self.before)?;
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let length = number(&rest[..digits])?;
        let body = rest[digits..].strip_prefix(&*self.after)?;
        let len = input.len() - body.len() + length;
        if len > REQUEST_BYTES_MAX {
            return None;
        }
        Some((body.get(..length)?, len))
    }
}

/// Reads the request that `input` begins with.
pub fn read(input: &[u8]) -> Read<'_> {
    let begun = input.len().min(BEGIN.len());
    if input[..begun] != BEGIN[..begun] {
        return Read::Other;
    }
    let part = || if input.len() < REQUEST_BYTES_MAX { Read::Part } else { Read::Other };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(input) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return part(),
        Err(_) => return Read::Other,
    };
    let (Some(path), Some(1), Some(said)) = (request.path, request.version, Said::of(request.headers)) else {
        return Read::Other;
    };
    if !is_plain_path(path) {
        return Read::Other;
    }
    let len = head + said.length;
    if len > REQUEST_BYTES_MAX {
        return Read::Other;
    }
    match input.get(head..len) {
        Some(body) => {
            let at = said.digits.as_ptr() as usize - input.as_ptr() as usize;
            let (before, after) = (&input[..at], &input[at + said.digits.len()..head]);
            Read::Whole(Request { path, authorization: said.authorization, body, len, before, after })
        }
        None => Read::Part,
    }
}

/// The route's, in characters that need no second look, and without a query.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:%/".contains(&byte);
    is_publish_path(path) && path.bytes().all(is_plain)
}

/// What the headers say.
struct Said<'a> {
    authorization: &'a [u8],
    /// The length of the body, and how it stands there.
    length: usize,
    digits: &'a [u8],
}

impl<'a> Said<'a> {
    /// `None` if they say anything that is not known here, or say it twice.
    fn of(headers: &[httparse::Header<'a>]) -> Option<Self> {
        let (mut authorization, mut length, mut is_json) = (None, None, false);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("authorization") {
                if authorization.replace(header.value).is_some() {
                    return None;
                }
            } else if is("content-length") {
                if length.replace((number(header.value)?, header.value)).is_some() {
                    return None;
                }
            } else if is("content-type") {
                if is_json || header.value != b"application/json" {
                    return None;
                }
                is_json = true;
            } else if is("connection") {
                if !header.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            } else if OTHERS.iter().any(|name| is(name)) {
                return None;
            }
        }
        is_json.then_some(())?;
        let (length, digits) = length?;
        Some(Self { authorization: authorization?, length, digits })
    }
}

/// Headers by which a request is another's: they change how it is read, what it means or how it is answered.
const OTHERS: [&str; 7] =
    ["transfer-encoding", "expect", "upgrade", "origin", "ce-specversion", "trailer", "te"];

/// A length in plain digits, and small.
fn number(value: &[u8]) -> Option<usize> {
    let is_plain = (1..=4).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    is_plain.then(|| value.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n\
             {headers}Content-Length: {length}\r\n\r\n{body}"
        )
    }

    fn is_other(input: &str) -> bool {
        matches!(read(input.as_bytes()), Read::Other)
    }

    #[test]
    fn a_small_publish_is_read_once_it_is_whole() {
        let own = "user-agent: x\r\naccept: */*\r\nConnection: Keep-Alive\r\ntraceparent: 00-ab\r\n";
        let whole = request("/v1/topics/a:b%20c/events", own, "{\"data\":1}");
        for end in 0..whole.len() {
            assert!(matches!(read(&whole.as_bytes()[..end]), Read::Part), "{end}");
        }
        let next = format!("{whole}GET / HTTP/1.1\r\n");
        let Read::Whole(read) = read(next.as_bytes()) else { panic!("not whole") };
        assert_eq!((read.path, read.len), ("/v1/topics/a:b%20c/events", whole.len()));
        assert_eq!((read.authorization, read.body), (&b"Bearer x"[..], &b"{\"data\":1}"[..]));
    }

    #[test]
    fn a_head_that_is_known_is_not_read_again() {
        let whole = |token: &str, body: &str| {
            request("/v1/topics/t/events", &format!("x-token: {token}\r\n"), body) + "POST /v1"
        };
        let first = whole("a", "{\"data\":1}");
        let Read::Whole(read) = read(first.as_bytes()) else { panic!("not whole") };
        let known = Head::of(&read);
        for body in ["{\"data\":1}", "", "{\"data\":\"longer than before\"}"] {
            let next = whole("a", body);
            assert_eq!(known.again(next.as_bytes()), Some((body.as_bytes(), next.len() - 8)));
            for end in 0..next.len() - 8 {
                assert_eq!(known.again(&next.as_bytes()[..end]), None, "{end}");
            }
        }
        assert_eq!(known.again(whole("b", "{}").as_bytes()), None);
        let good = whole("a", "{}");
        for (from, to) in [
            ("Length: 2", "Length: "),
            ("Length: 2", "Length:  2"),
            ("Length: 2", "Length: 99999"),
            ("Length: 2", "Length: 9999"),
            ("Length: 2", "Length: 2, 2"),
            ("Length: 2\r\n", "Length: 2\r\nte: x\r\n"),
            ("events", "event5"),
        ] {
            let other = good.replace(from, to) + &"x".repeat(REQUEST_BYTES_MAX);
            assert_eq!(known.again(other.as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn what_is_not_plain_is_the_librarys() {
        let path = "/v1/topics/t/events";
        assert!(!is_other(&request(path, "", "{}")));
        for own in [
            "transfer-encoding: chunked\r\n",
            "Expect: 100-continue\r\n",
            "connection: close\r\n",
            "connection: keep-alive, upgrade\r\n",
            "upgrade: h2c\r\n",
            "Origin: https://example.com\r\n",
            "CE-SpecVersion: 1.0\r\n",
            "te: trailers\r\n",
            "content-length: 2\r\n",
            "authorization: Bearer y\r\n",
            "content-type: application/json\r\n",
            " folded: x\r\n",
            "no colon\r\n",
        ] {
            assert!(is_other(&request(path, own, "{}")), "{own}");
        }
        for path in [
            "/v1/topics//events",
            "/v1/topics/a/b/events",
            "/v1/topics/t/events?x=1",
            "/v1/topics/t/state",
            "/v1/topics/t\"/events",
            "/v1/topics/events",
        ] {
            assert!(is_other(&request(path, "", "{}")), "{path}");
        }
        let good = request(path, "", "{}");
        for (from, to) in [
            ("HTTP/1.1", "HTTP/1.0"),
            ("POST", "PUT"),
            ("application/json", "application/json; charset=utf-8"),
            ("application/json", "application/x-ndjson"),
            ("Authorization", "X-Authorization"),
            ("Content-Length", "X-Content-Length"),
            ("Content-Type", "X-Content-Type"),
            ("Content-Length: 2", "Content-Length: +2"),
            ("Content-Length: 2", "Content-Length: 2, 2"),
            ("Content-Length: 2", "Content-Length: "),
            ("Content-Length: 2", "Content-Length: 0x2"),
        ] {
            assert!(is_other(&good.replace(from, to)), "{to}");
        }
        assert!(is_other(&request(path, &"x: y\r\n".repeat(HEADERS_MAX), "{}")));
        assert!(is_other(&request(path, "", &"x".repeat(REQUEST_BYTES_MAX))));
        assert!(is_other(&good[..good.len() - 4].replace("host: h", &"x".repeat(REQUEST_BYTES_MAX))));
        assert!(is_other("GET / HTTP/1.1\r\n") && is_other("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    }

    proptest! {
        /// Nothing that is sent is read beyond its end.
        #[test]
        fn whatever_is_sent_is_read(cut in 0_usize..200, noise in any::<Vec<u8>>(), more in any::<Vec<u8>>()) {
            let whole = request("/v1/topics/t/events", "x: y\r\n", "{\"data\":1}").into_bytes();
            let mut input = whole[..cut.min(whole.len())].to_vec();
            input.extend(noise);
            input.extend(whole);
            input.extend(more);
            if let Read::Whole(request) = read(&input) {
                prop_assert!(request.len <= input.len() && request.len >= request.body.len());
                // And is known again as what it is.
                prop_assert_eq!(Head::of(&request).again(&input), Some((request.body, request.len)));
            }
        }
    }
}
