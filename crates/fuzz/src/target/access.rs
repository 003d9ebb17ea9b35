//! The payload of a token: claims, and the principal they make.

use super::{Target, owned, refused, same};
use tidings_model::{Claims, ClaimsError, Code, Timestamp, Topic};

pub const CLAIMS: Target = Target {
    name: "claims",
    check: claims,
    seeds: || {
        owned(&[
            r#"{"exp":2000000000,"topics":"users, orders:7","sub":"u1"}"#,
            r#"{"exp":2e9,"nbf":1,"iat":0.5,"publish":["a","b:1"],"subscribe":["*"],"admin":true}"#,
            r#"{"exp":1,"admin":false,"aud":["x"],"topics":[]}"#,
            r#"{"sub":"x"}"#,
            r#"{"exp":"soon"}"#,
        ])
    },
    dictionary: &[
        b"\"exp\":",
        b"\"nbf\":",
        b"\"topics\":",
        b"\"publish\":",
        b"\"admin\":true",
        b"1e308",
        b"-1e308",
        b"1e999",
        b"null",
        b"[]",
        b"\"*\"",
        b"\"$schedule\"",
        b"9007199254740993",
        b",",
    ],
};

fn claims(input: &[u8]) -> Result<String, String> {
    let claims = match Claims::parse(input) {
        Ok(claims) => claims,
        Err(error) => return refused(Code::TokenInvalid, &error),
    };
    let now = Timestamp::from_millis(1_700_000_000_000).ok_or("a time")?;
    let theirs = claims.principal(now, false);
    let ours = claims.principal(now, true);
    let (theirs, ours) = match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        (Err(error), Err(other)) => {
            same("the same refusal whoever signed", &error, &other)?;
            let is_over = matches!(error, ClaimsError::Expired);
            return refused(if is_over { Code::TokenExpired } else { Code::TokenInvalid }, &error);
        }
        _ => return Err("who signed decides whether the token is valid".into()),
    };
    same("admin without our key", theirs.is_admin, false)?;
    same("admin with our key", ours.is_admin, claims.admin)?;
    if theirs.expires_at.is_none_or(|at| at <= now) {
        return Err(format!("valid and yet expired: {:?}", theirs.expires_at));
    }
    let system = Topic::parse("$dead").map_err(|e| e.to_string())?;
    same("publishing to a system topic", ours.may_publish(&system), false)?;
    same("reading a system topic", theirs.may_subscribe(&system), false)?;
    let schedule = Topic::parse("$schedule").map_err(|e| e.to_string())?;
    same("publishing to the schedule", ours.may_publish(&schedule), false)?;
    same("reading one's own schedule", theirs.may_subscribe(&schedule), theirs.id.is_some())?;
    let users = Topic::parse("users:1").map_err(|e| e.to_string())?;
    if theirs.publish.is_empty() {
        same("publishing without a grant", theirs.may_publish(&users), false)?;
    }
    if theirs.subscribe.is_empty() {
        same("reading without a grant", theirs.may_subscribe(&users), false)?;
    }
    Ok(format!("{} {} {}", theirs.publish.len().min(9), theirs.subscribe.len().min(9), theirs.id.is_some()))
}
