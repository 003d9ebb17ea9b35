//! Origins of pages, as settings list them.
//!
//! Owns: refusing what no browser would ever say, since whoever wrote it meant something else.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};

/// Reads a list of origins.
pub fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let origins = Vec::<String>::deserialize(from)?;
    match origins.iter().find(|origin| !is_origin(origin)) {
        None => Ok(origins),
        Some(other) => Err(D::Error::custom(format!(
            "{other:?} is no origin; one is like https://app.example or http://localhost:3000, and `*` is all"
        ))),
    }
}

/// `*`, `null` (pages without an address), or a scheme, a host and perhaps a port.
fn is_origin(text: &str) -> bool {
    if matches!(text, "*" | "null") {
        return true;
    }
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_authority =
        !authority.is_empty() && authority.chars().all(|c| c.is_alphanumeric() || "-._~:[]".contains(c));
    is_scheme && is_authority
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_no_path() {
        for good in ["*", "null", "https://app.example", "http://[::1]:80/", "tauri://localhost"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in
            ["", "foo", "app.example", "localhost:3000", "https://", "https://a/b", "https://*.a", "://a"]
        {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
