//! API keys over a log in memory.

use crate::auth::{ApiKeyPatch, ApiKeys, Gate, IssuedApiKey, Keys, NewApiKey, Secret, UserSettings, Users};
use crate::{Hub, Tidings};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tidings_log::Clock;
use tidings_log::memory::MemoryLog;
use tidings_model::{From, Grant, Grants, KeyKind, Limits, Principal, Timestamp, Topic, Uuid};

const NOW_MS: i64 = 1_800_000_000_000;
const OWN: &[u8] = b"the data directory's own secret, long";
const SHARED: &[u8] = b"a secret that others share, and long";

struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

struct Site {
    clock: Arc<Hand>,
    gate: Gate,
    tidings: Tidings,
}

impl Site {
    fn start() -> Self {
        let clock = Arc::new(Hand(AtomicI64::new(NOW_MS)));
        let limits = Limits { api_keys: 3, ..Limits::default() };
        let hub = Arc::new(Hub::new(&limits));
        let log = MemoryLog::new(Arc::clone(&clock) as _, Arc::clone(&hub) as _);
        let tidings = Tidings::new(Arc::new(log), hub, Arc::clone(&clock) as _, limits);
        let (own, shared) = (Secret::new(OWN.to_vec()), Secret::new(SHARED.to_vec()));
        let users = Users::new(tidings.clone(), UserSettings::default(), own.clone());
        let gate = Gate::new(Keys::default().own(&own).secret(&shared), users);
        Self { clock, gate, tidings }
    }

    fn keys(&self) -> &ApiKeys {
        self.gate.api_keys()
    }

    async fn create(&self, name: &str, kind: KeyKind) -> IssuedApiKey {
        self.keys().create(&Principal::admin(), NewApiKey::new(name, kind)).await.unwrap()
    }

    /// A queue's id.
    async fn destination(&self, name: &str, topic: &str) -> Uuid {
        let settings = json!({"name": name, "kind": "queue", "topic": topic});
        let settings = serde_json::from_value(settings).unwrap();
        let destinations = self.tidings.destinations();
        destinations.create(&Principal::admin(), settings, &From::Latest).await.unwrap().id
    }

    async fn who(&self, token: &str) -> Result<Arc<Principal>, &'static str> {
        self.gate.verify(token).await.map_err(|refused| refused.code().as_str())
    }
}

fn grants(text: &str) -> Grants {
    [Grant::parse(text).unwrap()].into_iter().collect()
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

#[tokio::test]
async fn a_key_grants_what_it_was_given_and_a_wrong_secret_nothing_even_after_a_right_one() {
    let site = Site::start();
    let issued = site.create("shop", KeyKind::ProducerConsumer).await;
    let (own, other) = (site.destination("own", "jobs:1").await, site.destination("other", "jobs").await);
    let patch = ApiKeyPatch {
        publish: Some(grants("orders:1")),
        subscribe: Some(grants("news")),
        destinations: Some([own].into_iter().collect()),
    };
    let before = site.who(&issued.token()).await.unwrap();
    site.keys().update(&Principal::admin(), issued.key.id, patch).await.unwrap();
    assert!(!before.is_current() && !before.may_publish(&topic("orders:1")));
    for who in [site.who(&issued.token()).await.unwrap(), site.gate.renew(&before).await.unwrap()] {
        assert!(who.is_current() && !who.is_admin && who.expires_at.is_none());
        assert!(who.may_publish(&topic("orders:1")) && !who.may_publish(&topic("orders")));
        assert!(who.may_subscribe(&topic("news")) && !who.may_subscribe(&topic("orders:1")));
        assert!(who.may_consume(own) && !who.may_consume(other));
        assert!(who.may_subscribe(&topic("jobs:1")) && !who.may_subscribe(&topic("jobs")), "what flows in");
    }
    let wrong = IssuedApiKey { secret: "guess".into(), ..issued.clone() };
    assert_eq!(site.who(&wrong.token()).await.unwrap_err(), "token_invalid");
    assert!(site.who(&issued.token()).await.is_ok());
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_with_its_tokens_and_cannot_be_changed() {
    let site = Site::start();
    let admin = Principal::admin();
    let issued = site.create("shop", KeyKind::Producer).await;
    let who = site.who(&issued.token()).await.unwrap();
    let (token, expires_at) = site.keys().token(&who, None).unwrap();
    assert_eq!(expires_at.as_millis(), NOW_MS + 3_600_000);
    let by_token = site.who(&token).await.unwrap();
    site.keys().add_topics(&admin, issued.key.id, &[Grant::parse("a").unwrap()]).await.unwrap();
    assert!(site.who(&token).await.unwrap().may_publish(&topic("a")), "a token has the key's rights of now");

    assert!(site.keys().revoke(&admin, issued.key.id).await.unwrap().revoked);
    assert!(!who.is_current() && !by_token.is_current());
    for old in [&who, &by_token] {
        assert_eq!(site.gate.renew(old).await.unwrap_err().code().as_str(), "token_revoked");
    }
    for token in [issued.token(), token] {
        assert_eq!(site.who(&token).await.unwrap_err(), "token_revoked");
    }
    let code = |error: crate::Error| error.code().as_str();
    assert_eq!(code(site.keys().revoke(&admin, issued.key.id).await.unwrap_err()), "key_revoked");
    let change = site.keys().update(&admin, issued.key.id, ApiKeyPatch::default()).await;
    assert_eq!(code(change.unwrap_err()), "key_revoked");
    site.keys().delete(&admin, issued.key.id).await.unwrap();
    assert_eq!(site.who(&issued.token()).await.unwrap_err(), "token_invalid");
    assert_eq!(code(site.keys().by_id(&admin, issued.key.id).await.unwrap_err()), "key_unknown");
    site.create("shop", KeyKind::Consumer).await;
}

#[tokio::test]
async fn a_token_of_a_key_ends_in_time_and_begets_none_that_lives_longer() {
    let site = Site::start();
    let issued = site.create("shop", KeyKind::Admin).await;
    let who = site.who(&issued.token()).await.unwrap();
    assert!(who.is_admin);
    let end = Timestamp::from_millis(NOW_MS + 5_000).unwrap();
    let (token, expires_at) = site.keys().token(&who, Some(end)).unwrap();
    assert_eq!(expires_at, end);
    let by_token = site.who(&token).await.unwrap();
    assert!(by_token.is_admin);
    assert_eq!(site.keys().token(&by_token, None).unwrap().1, end);
    let past = Timestamp::from_millis(NOW_MS).unwrap();
    let refused = site.keys().token(&who, Some(past)).unwrap_err();
    assert_eq!(refused.code().as_str(), "parameter_invalid");
    assert!(site.keys().token(&Principal::admin(), None).is_err(), "whoever has no key gets none");
    site.clock.0.fetch_add(5_000, Ordering::Relaxed);
    assert_eq!(site.who(&token).await.unwrap_err(), "token_expired");
}

#[tokio::test]
async fn a_shared_secret_speaks_for_no_key() {
    let site = Site::start();
    let issued = site.create("shop", KeyKind::Admin).await;
    let id = Uuid::from_u128(9).to_string();
    let claims = serde_json::json!({
        "exp": NOW_MS / 1000 + 60, "api_key_id": issued.key.id, "api_key_type": "admin",
        "topic_names": "a, b:1", "destination_ids": [id, "no id"],
    });
    let token = Secret::new(SHARED.to_vec()).sign(&claims).unwrap();
    let who = site.who(&token).await.unwrap();
    assert!(!who.is_admin && who.api_key.is_none());
    assert!(who.may_publish(&topic("b:1")) && !who.may_publish(&topic("b")));
    assert!(!who.may_subscribe(&topic("a")) && who.may_consume(Uuid::from_u128(9)));
}

#[tokio::test]
async fn names_are_taken_once_the_number_is_bounded_and_only_admins_may() {
    let site = Site::start();
    let admin = Principal::admin();
    let first = site.create("a", KeyKind::Consumer).await;
    let again = site.keys().create(&admin, NewApiKey::new("a", KeyKind::Admin)).await.unwrap_err();
    assert_eq!(again.code().as_str(), "key_name_taken");
    site.create("b", KeyKind::Consumer).await;
    site.create("c", KeyKind::Consumer).await;
    let full = site.keys().create(&admin, NewApiKey::new("d", KeyKind::Admin)).await.unwrap_err();
    assert_eq!(full.code().as_str(), "keys_full");
    let listed = site.keys().list(&admin, Some("a"), 10).await.unwrap();
    assert_eq!(listed.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(site.keys().by_name(&admin, "a").await.unwrap().unwrap().id, first.key.id);

    let who = site.who(&first.token()).await.unwrap();
    let (keys, id) = (site.keys(), first.key.id);
    assert!(keys.create(&who, NewApiKey::new("e", KeyKind::Producer)).await.is_err());
    assert!(keys.revoke(&who, id).await.is_err() && keys.delete(&who, id).await.is_err());
    assert!(keys.by_id(&who, id).await.is_err() && keys.list(&who, None, 10).await.is_err());
    let wrong = keys.add_topics(&admin, id, &[Grant::All]).await.unwrap_err();
    assert_eq!(wrong.code().as_str(), "key_kind");
    let (one, two) = (site.destination("one", "a").await, site.destination("two", "a").await);
    keys.add_destinations(&admin, id, &[one, two]).await.unwrap();
    let left = keys.remove_destinations(&admin, id, &[one]).await.unwrap().destinations;
    assert!(left.contains(two) && left.len() == 1);
    let unknown = keys.add_destinations(&admin, id, &[Uuid::from_u128(1)]).await.unwrap_err();
    assert_eq!(unknown.code().as_str(), "destination_unknown");
    // One that has gone is no obstacle to a change of the others.
    site.tidings.destinations().delete(&admin, two).await.unwrap();
    let patch =
        ApiKeyPatch { destinations: Some([one, two].into_iter().collect()), ..ApiKeyPatch::default() };
    assert_eq!(keys.update(&admin, id, patch).await.unwrap().destinations.len(), 2);
}
