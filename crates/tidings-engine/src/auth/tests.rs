//! Users over a log in memory: what a sign-up, a login and a change promise.

use super::*;
use crate::{Hub, Tidings};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tidings_log::Clock;
use tidings_log::memory::MemoryLog;
use tidings_model::{Grant, Grants, Limits, Principal, Timestamp, Topic, Uuid};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const SECRET: &[u8] = b"a secret of more than 32 characters";
const GOOD: &str = "a good password";

struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

struct Site {
    clock: Arc<Hand>,
    users: Users,
    gate: Gate,
}

/// Hashes that take no time, and no bound on attempts.
fn quick() -> UserSettings {
    UserSettings {
        sign_up: SignUp::Open,
        argon2_kib: 8,
        argon2_passes: 1,
        bcrypt_cost: 4,
        address_burst: 0,
        name_burst: 0,
        ..UserSettings::default()
    }
}

fn site(settings: UserSettings) -> Site {
    let clock = Arc::new(Hand(AtomicI64::new(1_800_000_000_000)));
    let limits = Limits::default();
    let hub = Arc::new(Hub::new(&limits));
    let log = MemoryLog::new(Arc::clone(&clock) as _, Arc::clone(&hub) as _);
    let tidings = Tidings::new(Arc::new(log), hub, Arc::clone(&clock) as _, limits);
    let own = Secret::new(SECRET.to_vec());
    let users = Users::new(tidings, settings, own.clone());
    let gate =
        Gate::new(Keys::default().own(&own).weak_secret(&Secret::new(b"hush".to_vec())), users.clone());
    Site { clock, users, gate }
}

fn named(name: &str) -> NewUser {
    NewUser { name: name.into(), secret: NewSecret::Password(GOOD.into()), ..NewUser::default() }
}

fn grants(text: &str) -> Grants {
    [Grant::parse(text).unwrap()].into_iter().collect()
}

impl Site {
    async fn sign_up(&self, name: &str) -> User {
        self.users.sign_up(None, named(name), self.users.rules(), PEER).await.unwrap()
    }

    async fn login(&self, name: &str, password: &str) -> Result<Login, String> {
        self.users.login(name, password, PEER).await.map_err(|e| e.code().as_str().to_owned())
    }

    async fn code(&self, token: &str) -> String {
        match self.gate.verify(token).await {
            Ok(_) => "ok".into(),
            Err(refused) => refused.code().as_str().to_owned(),
        }
    }
}

#[tokio::test]
async fn a_name_is_taken_once_however_many_want_it_at_once() {
    let site = site(quick());
    let all = (0..20).map(|_| {
        let users = site.users.clone();
        tokio::spawn(async move { users.sign_up(None, named("ada"), users.rules(), PEER).await })
    });
    let mut taken = 0;
    for one in all.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error.code().as_str(), "user_name_taken"),
        }
    }
    assert_eq!(taken, 1);
}

#[tokio::test]
async fn both_kinds_of_hashes_log_in_and_are_made_anew_in_the_kind_that_is_set() {
    for kind in [HashKind::Argon2id, HashKind::Bcrypt] {
        let site = site(UserSettings { password_hash: kind, ..quick() });
        let admin = Principal::admin();
        let argon = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        for (name, hash, password) in [("a", argon, "password"), ("b", bcrypt, "U*U")] {
            let new = NewUser { secret: NewSecret::Hash(hash.into()), ..named(name) };
            site.users.add(&admin, new).await.unwrap();
            assert_eq!(site.login(name, "another one").await.unwrap_err(), "credentials_invalid");
            for _ in 0..2 {
                assert!(site.login(name, password).await.is_ok(), "{kind:?} {name}");
            }
        }
        for bad in ["", "password", "$2b$31$", "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAA"] {
            let new = NewUser { secret: NewSecret::Hash(bad.into()), ..named("c") };
            let error = site.users.add(&admin, new).await.unwrap_err();
            assert_eq!(error.code().as_str(), "hash_unsupported", "{bad}");
        }
    }
}

#[tokio::test]
async fn bcrypt_never_lets_in_on_the_beginning_of_a_password() {
    let site = site(UserSettings { password_hash: HashKind::Bcrypt, ..quick() });
    let (fits, long) = ("x".repeat(71), "x".repeat(72));
    let secret = |password: &str| NewSecret::Password(password.into());
    let sign_up = async |name: &str, password: &str| {
        let new = NewUser { secret: secret(password), ..named(name) };
        site.users.sign_up(None, new, site.users.rules(), PEER).await
    };
    sign_up("a", &fits).await.unwrap();
    assert_eq!(sign_up("b", &long).await.unwrap_err().code().as_str(), "password_invalid");
    assert!(site.login("a", &fits).await.is_ok());
    assert!(site.login("a", &(fits + "y")).await.is_err());
}

#[tokio::test]
async fn a_token_carries_the_stored_grants_and_a_change_counts_at_once() {
    let site = site(quick());
    let admin = Principal::admin();
    let ada = site.sign_up("ada").await;
    let token = site.login("ada", GOOD).await.unwrap().token;
    let topic = Topic::parse("orders:1").unwrap();
    let who = site.gate.verify(&token).await.unwrap();
    assert!(!who.may_publish(&topic) && who.is_current());
    assert_eq!(who.id.as_deref(), Some(ada.id.to_string().as_str()));
    let patch = UserPatch { publish: Some(grants("orders")), ..UserPatch::default() };
    site.users.update(&admin, ada.id, patch).await.unwrap();
    assert!(!who.is_current());
    for who in [site.gate.renew(&who).await.unwrap(), site.gate.verify(&token).await.unwrap()] {
        assert!(who.may_publish(&topic) && !who.may_subscribe(&topic) && who.is_current());
    }
}

#[tokio::test]
async fn what_ends_tokens_ends_those_of_the_same_millisecond_too() {
    let site = site(quick());
    let admin = Principal::admin();
    let ada = site.sign_up("ada").await;
    let other = site.sign_up("bob").await;
    let bystander = site.login("bob", GOOD).await.unwrap().token;
    let (mut password, another) = (GOOD.to_owned(), "another good one");
    for what in ["logout", "password", "set password", "revoke", "delete"] {
        let token = site.login("ada", &password).await.unwrap().token;
        let who = site.gate.verify(&token).await.unwrap();
        match what {
            "logout" => site.users.logout(&who).await.unwrap(),
            "password" => {
                let new = site.users.change_password(&who, &password, another, PEER).await.unwrap();
                assert_eq!(site.code(&new.token).await, "ok");
                password = another.into();
            }
            "set password" => {
                let secret = Some(NewSecret::Password(GOOD.into()));
                let patch = UserPatch { password: secret, ..UserPatch::default() };
                site.users.update(&admin, ada.id, patch).await.unwrap();
                password = GOOD.into();
            }
            "revoke" => {
                assert!(site.users.revoke(&admin, ada.id).await.unwrap().revoked);
                assert_eq!(site.login("ada", GOOD).await.unwrap_err(), "user_revoked");
                assert_eq!(site.login("ada", "wrong one").await.unwrap_err(), "credentials_invalid");
                site.users.restore(&admin, ada.id).await.unwrap();
            }
            _ => site.users.delete(&admin, ada.id).await.unwrap(),
        }
        assert!(!who.is_current(), "{what}");
        assert_eq!(site.gate.renew(&who).await.unwrap_err().code().as_str(), "token_revoked", "{what}");
        assert_eq!(site.code(&token).await, "token_revoked", "{what}");
        assert_eq!(site.code(&bystander).await, "ok", "{what}");
    }
    assert_eq!(site.login("ada", GOOD).await.unwrap_err(), "credentials_invalid");
    assert_ne!(site.sign_up("ada").await.id, ada.id, "the name is free, the id is another");
    let listed = site.users.list(&admin, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["ada", "bob"]);
    assert_eq!(site.users.list(&admin, Some("ada"), 10).await.unwrap()[0].id, other.id);
}

#[tokio::test]
async fn a_weak_secret_speaks_for_users_and_for_nothing_but_their_grants() {
    let site = site(quick());
    let ada = site.sign_up("ada").await;
    let weak = Secret::new(b"hush".to_vec());
    let exp = 1_800_000_600;
    let sign = |claims: serde_json::Value| weak.sign(&claims).unwrap();
    let known = sign(serde_json::json!({"sub": ada.id, "company": "", "exp": exp, "topics": "*"}));
    let who = site.gate.verify(&known).await.unwrap();
    assert!(!who.may_publish(&Topic::parse("t").unwrap()));
    for claims in [
        serde_json::json!({"exp": exp, "topics": "*"}),
        serde_json::json!({"sub": "ada", "exp": exp}),
        serde_json::json!({"sub": Uuid::new_v4(), "exp": exp}),
    ] {
        assert_eq!(site.code(&sign(claims)).await, "token_invalid");
    }
    let admin = sign(serde_json::json!({"sub": ada.id, "exp": exp, "admin": true}));
    assert!(!site.gate.verify(&admin).await.unwrap().is_admin);
    // Without a time of its own it ends with the first logging out.
    site.users.logout(&who).await.unwrap();
    assert_eq!(site.code(&known).await, "token_revoked");
    let later = sign(serde_json::json!({"sub": ada.id, "iat": 1_800_000_001, "exp": exp}));
    assert_eq!(site.code(&later).await, "ok");
}

#[tokio::test]
async fn a_token_ends_in_time_by_the_clock() {
    let site = site(UserSettings { token_ttl_ms: 2000, ..quick() });
    site.sign_up("ada").await;
    let login = site.login("ada", GOOD).await.unwrap();
    assert_eq!(login.expires_at.as_millis(), 1_800_000_002_000);
    let who = site.gate.verify(&login.token).await.unwrap();
    site.clock.0.fetch_add(2000, Ordering::Relaxed);
    assert_eq!(site.code(&login.token).await, "token_expired");
    assert_eq!(site.gate.renew(&who).await.unwrap_err().code().as_str(), "token_expired");
}

#[tokio::test]
async fn who_may_create_users_is_a_setting() {
    let admin = Principal::admin();
    for (sign_up, anybody, an_admin) in
        [(SignUp::Closed, false, false), (SignUp::Admin, false, true), (SignUp::Open, true, true)]
    {
        let site = site(UserSettings { sign_up, ..quick() });
        let (users, rules) = (&site.users, site.users.rules());
        assert_eq!(users.sign_up(None, named("a"), rules, PEER).await.is_ok(), anybody, "{sign_up:?}");
        let done = users.sign_up(Some(&admin), named("b"), rules, PEER).await;
        assert_eq!(done.is_ok(), an_admin, "{sign_up:?}");
        assert!(users.add(&admin, named("c")).await.is_ok(), "an admin always may");
        assert!(users.add(&Principal::nobody(), named("d")).await.is_err());
    }
    let site = site(quick());
    let greedy = NewUser { publish: grants("*"), ..named("a") };
    let error = site.users.sign_up(None, greedy, site.users.rules(), PEER).await.unwrap_err();
    assert_eq!(error.code().as_str(), "forbidden");
}

#[tokio::test]
async fn attempts_are_bounded_by_name_and_by_address_and_users_in_number() {
    let settings = UserSettings { name_burst: 3, address_burst: 8, max: 2, ..quick() };
    let site = site(settings);
    site.sign_up("ada").await;
    for _ in 0..2 {
        assert_eq!(site.login("ada", "wrong").await.unwrap_err(), "credentials_invalid");
    }
    assert_eq!(site.login("ada", GOOD).await.unwrap_err(), "rate_limited");
    site.sign_up("bob").await;
    let full = site.users.add(&Principal::admin(), named("cy")).await.unwrap_err();
    assert_eq!(full.code().as_str(), "users_full");
    site.clock.0.fetch_add(30_000, Ordering::Relaxed);
    for _ in 0..8 {
        assert!(site.login("bob", GOOD).await.is_ok(), "a success does not count for the name");
    }
    assert_eq!(site.login("bob", GOOD).await.unwrap_err(), "rate_limited");
    let elsewhere = site.users.login("bob", GOOD, "192.0.2.1".parse().unwrap()).await;
    assert!(elsewhere.is_ok());
}
