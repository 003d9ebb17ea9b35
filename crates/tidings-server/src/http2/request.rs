//! From a block's fields to a request (RFC 9113, section 8).
//!
//! Owns: which requests are malformed, and the bound on a head. Never: judges a path or a method; that is the routes'.

use super::hpack::cost;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

/// What a head may count, as [`cost`] does.
pub const HEADERS_BYTES_MAX: usize = 64 << 10;

/// Fields as they come.
#[derive(Default)]
pub struct Fields {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<Vec<u8>>,
    headers: HeaderMap,
    /// The length of the body that was announced.
    length: Option<u64>,
    bytes: usize,
    /// A field was no pseudo-header; none of those may follow.
    is_regular: bool,
    is_malformed: bool,
}

/// Why fields make no request.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    TooLarge,
    Malformed,
}

/// Fields that speak of a connection, of which HTTP/2 has another idea.
const FORBIDDEN: [&str; 5] = ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"];

impl Fields {
    /// Takes the next field.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.bytes += cost(name, value);
        // Of a head that is too large nothing is kept.
        if self.bytes <= HEADERS_BYTES_MAX && !self.is_malformed {
            self.is_malformed = self.take(name, value).is_none();
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if let [b':', pseudo @ ..] = name {
            if self.is_regular {
                return None;
            }
            return match pseudo {
                b"method" => once(&mut self.method, Method::from_bytes(value).ok()?),
                b"scheme" if !value.is_empty() => once(&mut self.scheme, Scheme::try_from(value).ok()?),
                b"authority" => once(&mut self.authority, Authority::try_from(value).ok()?),
                b"path" if !value.is_empty() => once(&mut self.path, value.to_vec()),
                _ => None,
            };
        }
        self.is_regular = true;
        let name = HeaderName::from_lowercase(name).ok()?;
        let is_forbidden = FORBIDDEN.contains(&name.as_str()) || name == header::TE && value != b"trailers";
        if is_forbidden {
            return None;
        }
        if name == header::CONTENT_LENGTH {
            let length = std::str::from_utf8(value).ok()?;
            let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            once(&mut self.length, length.parse().ok().filter(|_| is_number)?)?;
        }
        self.headers.append(name, HeaderValue::from_bytes(value).ok()?);
        Some(())
    }

    /// The request that they make, and the length of its body if they say so.
    pub fn request(self) -> Result<(Request<()>, Option<u64>), Refused> {
        if self.bytes > HEADERS_BYTES_MAX {
            return Err(Refused::TooLarge);
        }
        let length = self.length;
        self.build().map(|request| (request, length)).ok_or(Refused::Malformed)
    }

    fn build(self) -> Option<Request<()>> {
        let method = self.method.filter(|_| !self.is_malformed)?;
        let mut uri = http::uri::Parts::default();
        match (method == Method::CONNECT, self.scheme, self.path) {
            (false, Some(scheme), Some(path)) => {
                uri.path_and_query = Some(path.try_into().ok()?);
                // Both or none: a request may name its host in a header instead.
                uri.scheme = self.authority.is_some().then_some(scheme);
            }
            (true, None, None) => _ = self.authority.as_ref()?,
            _ => return None,
        }
        uri.authority = self.authority;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        Some(request)
    }

    /// Whether they may stand behind a body.
    pub fn are_trailers(&self) -> bool {
        let has_pseudo =
            self.method.is_some() || self.scheme.is_some() || self.authority.is_some() || self.path.is_some();
        !self.is_malformed && !has_pseudo
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":authority", "h:1"), (":path", "/a?b")];

    fn read(fields: &[(&str, &str)]) -> Result<(Request<()>, Option<u64>), Refused> {
        let mut all = Fields::default();
        fields.iter().for_each(|(name, value)| all.add(name.as_bytes(), value.as_bytes()));
        all.request()
    }

    fn with(more: &[(&str, &str)]) -> Result<(Request<()>, Option<u64>), Refused> {
        read(&[&HEAD, more].concat())
    }

    #[test]
    fn fields_make_a_request() {
        let (request, length) = with(&[("x", "1"), ("x", "2"), ("content-length", "3")]).unwrap();
        assert_eq!((request.uri().to_string().as_str(), length), ("http://h:1/a?b", Some(3)));
        assert_eq!(request.headers().get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
        let named = read(&[(":method", "GET"), (":path", "/"), (":scheme", "https"), ("host", "h")]);
        let (request, length) = named.unwrap();
        assert_eq!((request.uri().to_string().as_str(), length), ("/", None));
        let all = read(&[(":method", "OPTIONS"), (":path", "*"), (":scheme", "https")]);
        let (request, length) = all.unwrap();
        assert_eq!((request.uri().to_string().as_str(), length), ("*", None));
        let tunnel = read(&[(":method", "CONNECT"), (":authority", "h:1")]);
        let (request, length) = tunnel.unwrap();
        assert_eq!((request.uri().to_string().as_str(), length), ("h:1", None));
    }

    #[test]
    fn a_malformed_head_is_no_request() {
        for more in [
            &[("X", "1")][..],
            &[("x ", "1")],
            &[("", "1")],
            &[("x", "a\nb")],
            &[("connection", "close")],
            &[("upgrade", "websocket")],
            &[("transfer-encoding", "chunked")],
            &[("te", "gzip")],
            &[(":path", "/")],
            &[(":status", "200")],
            &[("x", "1"), (":path", "/")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("content-length", "1"), ("content-length", "1")],
        ] {
            assert_eq!(with(more).unwrap_err(), Refused::Malformed, "{more:?}");
        }
        for at in [0, 1, 3] {
            let mut head = HEAD.to_vec();
            head.remove(at);
            assert_eq!(read(&head).unwrap_err(), Refused::Malformed, "without {}", HEAD[at].0);
            let mut head = HEAD.to_vec();
            head[at].1 = "";
            assert_eq!(read(&head).unwrap_err(), Refused::Malformed, "empty {}", HEAD[at].0);
        }
        assert_eq!(read(&[(":method", "CONNECT"), (":path", "/")]).unwrap_err(), Refused::Malformed);
        assert!(with(&[("te", "trailers")]).is_ok());
    }

    #[test]
    fn a_head_is_bounded() {
        assert!(with(&[("x", &"y".repeat(60 << 10))]).is_ok());
        assert_eq!(with(&[("x", &"y".repeat(64 << 10))]).unwrap_err(), Refused::TooLarge);
        assert_eq!(with(&[("x", ""); 2000]).unwrap_err(), Refused::TooLarge);
    }

    #[test]
    fn what_stands_behind_a_body_has_no_pseudo_header() {
        let mut trailers = Fields::default();
        trailers.add(b"x", b"y");
        assert!(trailers.are_trailers());
        trailers.add(b":path", b"/");
        assert!(!trailers.are_trailers());
    }
}
