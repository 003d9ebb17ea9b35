//! The claims of a verified token, and the principal they make.

use crate::{Destinations, Grant, Grants, Principal, Timestamp, TopicError, Uuid};
use serde::Deserialize;

/// Topics named by a claim: a list of texts, or one text separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum TopicList {
    Text(String),
    List(Vec<String>),
}

/// What we read from a token's payload; other claims are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Claims {
    pub sub: Option<String>,
    /// Seconds since 1970. Required: a token that never ends is refused.
    pub exp: Option<f64>,
    pub nbf: Option<f64>,
    pub iat: Option<f64>,
    /// May be published to and subscribed to.
    pub topics: Option<TopicList>,
    pub publish: Option<TopicList>,
    pub subscribe: Option<TopicList>,
    /// EventRelay's word for what may be published to.
    pub topic_names: Option<TopicList>,
    /// Destinations whose events may be taken. Words that are no UUID name none of ours.
    pub destination_ids: Option<TopicList>,
    /// In tokens made from an API key, whose rights they have. Counts only under the server's own key.
    pub api_key_id: Option<serde_json::Value>,
    /// Counts only in tokens signed with the server's own key.
    #[serde(default)]
    pub admin: bool,
    /// In the tokens that our own users get: see [`crate::Session::generation`]. Whatever others mean by it
    /// is no reason to refuse their tokens.
    pub user_generation: Option<serde_json::Value>,
}

/// Why claims make no principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    #[error("the token's claims are not valid JSON of the expected types")]
    Json,
    #[error("the token has no `exp`")]
    NoExpiry,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token names a topic that is none: {0}")]
    Topic(#[from] TopicError),
    #[error("the token names more than {max} topics", max = Grants::MAX)]
    TooMany,
    #[error("the token names more than {max} destinations", max = Destinations::MAX)]
    DestinationsTooMany,
    #[error("`sub` has at most 255 bytes")]
    Sub,
}

impl Claims {
    /// Reads the payload of a token. The signature is somebody else's business.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimsError> {
        serde_json::from_slice(payload).map_err(|_| ClaimsError::Json)
    }

    /// Whether the token says itself which topics it is for.
    pub fn names_topics(&self) -> bool {
        [&self.topics, &self.publish, &self.subscribe, &self.topic_names].into_iter().any(Option::is_some)
    }

    /// The principal at `now`; `own_key` says that our own key signed, so `admin` counts.
    pub fn principal(&self, now: Timestamp, own_key: bool) -> Result<Principal, ClaimsError> {
        let exp = millis(self.exp.ok_or(ClaimsError::NoExpiry)?);
        if exp <= now {
            return Err(ClaimsError::Expired);
        }
        if self.nbf.is_some_and(|nbf| millis(nbf) > now) {
            return Err(ClaimsError::Early);
        }
        if self.sub.as_ref().is_some_and(|s| s.len() > 255) {
            return Err(ClaimsError::Sub);
        }
        let (mut publish, mut subscribe) = (Grants::none(), Grants::none());
        for grant in grants(self.topics.as_ref())? {
            publish.add(grant.clone());
            subscribe.add(grant);
        }
        grants(self.publish.as_ref())?.into_iter().for_each(|g| publish.add(g));
        grants(self.topic_names.as_ref())?.into_iter().for_each(|g| publish.add(g));
        grants(self.subscribe.as_ref())?.into_iter().for_each(|g| subscribe.add(g));
        let is_admin = self.admin && own_key;
        Ok(Principal {
            id: self.sub.as_deref().map(Into::into),
            publish,
            subscribe,
            is_admin,
            destinations: destinations(self.destination_ids.as_ref())?,
            expires_at: Some(exp),
            ..Principal::nobody()
        })
    }
}

fn millis(seconds: f64) -> Timestamp {
    // A cast saturates, and what lies beyond year 9999 ends there: such a token simply lives long.
    Timestamp::default().plus_millis((seconds * 1000.0) as i64)
}

impl TopicList {
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect(),
            Self::List(list) => list.iter().map(String::as_str).collect(),
        }
    }
}

fn destinations(list: Option<&TopicList>) -> Result<Destinations, ClaimsError> {
    let texts = list.map(TopicList::texts).unwrap_or_default();
    if texts.len() > Destinations::MAX {
        return Err(ClaimsError::DestinationsTooMany);
    }
    Ok(texts.into_iter().filter_map(|text| text.parse::<Uuid>().ok()).collect())
}

fn grants(list: Option<&TopicList>) -> Result<Vec<Grant>, ClaimsError> {
    let texts = list.map(TopicList::texts).unwrap_or_default();
    if texts.len() > Grants::MAX {
        return Err(ClaimsError::TooMany);
    }
    texts.into_iter().map(|t| Grant::parse(t).map_err(ClaimsError::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topic;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000).unwrap()
    }

    #[test]
    fn topics_go_both_ways_and_as_text_or_list() {
        for topics in [r#""a, b:1""#, r#"["a","b:1"]"#] {
            let claims = Claims::parse(format!(r#"{{"exp":100,"topics":{topics}}}"#).as_bytes()).unwrap();
            let who = claims.principal(at(1), true).unwrap();
            let b1 = Topic::parse("b:1").unwrap();
            assert!(who.may_publish(&b1) && who.may_subscribe(&b1));
            assert!(!who.may_subscribe(&Topic::parse("b").unwrap()) && !who.is_admin);
        }
    }

    #[test]
    fn time_and_admin_are_checked() {
        let claims = Claims::parse(br#"{"exp":100,"nbf":50,"admin":true}"#).unwrap();
        assert_eq!(claims.principal(at(100), true).unwrap_err(), ClaimsError::Expired);
        assert_eq!(claims.principal(at(49), true).unwrap_err(), ClaimsError::Early);
        assert!(claims.principal(at(60), true).unwrap().is_admin);
        assert!(!claims.principal(at(60), false).unwrap().is_admin);
        assert_eq!(Claims::default().principal(at(0), true).unwrap_err(), ClaimsError::NoExpiry);
        assert!(Claims::parse(br#"{"exp":"x"}"#).is_err());
    }
}
