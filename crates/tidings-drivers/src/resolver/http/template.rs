//! A URL with a place for the id.
//!
//! Owns: an id stays within its place, whatever it is made of. Percent-encoding is not enough for that: `..`
//! is resolved as a step upwards even where it is encoded.

use super::Invalid;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

const PLACE: &str = "{id}";
/// Everything but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub struct Template {
    text: String,
    segments: usize,
}

/// An endpoint without a place.
pub fn endpoint(text: &str) -> Result<Url, Invalid> {
    let url = Url::parse(text).map_err(Invalid::Url)?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(Invalid::Scheme(other.to_owned())),
    }
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let with = |id: &str| endpoint(&text.replace(PLACE, id));
        let (one, other) = (with("one")?, with("other")?);
        let whole = |url: &Url| (url.path().to_owned(), url.query().map(str::to_owned));
        let is_elsewhere = one.origin() != other.origin()
            || one.username() != other.username()
            || one.password() != other.password();
        if is_elsewhere || whole(&one) == whole(&other) {
            return Err(Invalid::NoId);
        }
        Ok(Self { text: text.to_owned(), segments: segments(&one) })
    }

    /// `None` where the id would lead out of its place.
    pub fn with_id(&self, id: &str) -> Option<Url> {
        let encoded = utf8_percent_encode(id, ENCODED).to_string();
        let url = Url::parse(&self.text.replace(PLACE, &encoded)).ok()?;
        (segments(&url) == self.segments && url.as_str().contains(&encoded)).then_some(url)
    }
}

fn segments(url: &Url) -> usize {
    url.path().split('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_in_its_place_whatever_it_is() {
        let template = Template::parse("http://me:pw@app:81/v1/items/{id}?full=1").unwrap();
        let path = |id: &str| template.with_id(id).map(|url| url[url::Position::BeforePath..].to_owned());
        for (id, expected) in [
            ("100", "/v1/items/100?full=1"),
            ("a/../b?c#d", "/v1/items/a%2F..%2Fb%3Fc%23d?full=1"),
            ("é %", "/v1/items/%C3%A9%20%25?full=1"),
            ("...", "/v1/items/...?full=1"),
            ("%2e%2e", "/v1/items/%252e%252e?full=1"),
        ] {
            assert_eq!(path(id).as_deref(), Some(expected), "{id}");
        }
        for id in [".", ".."] {
            assert_eq!(path(id), None, "{id}");
        }
        let query = Template::parse("http://app/?id={id}&x=1").unwrap();
        assert_eq!(query.with_id("a&x=2").unwrap().query(), Some("id=a%26x%3D2&x=1"));
        assert_eq!(query.with_id("..").unwrap().query(), Some("id=..&x=1"));
        let part = Template::parse("http://app/.{id}").unwrap();
        assert_eq!(part.with_id("."), None);
    }

    #[test]
    fn a_place_elsewhere_than_in_path_or_query_is_refused() {
        for url in [
            "http://{id}/x",
            "http://app:{id}/",
            "http://{id}@app/",
            "http://app/",
            "http://app/#{id}",
            "ftp://a/{id}",
            "{id}",
        ] {
            assert!(Template::parse(url).is_err(), "{url}");
        }
    }
}
