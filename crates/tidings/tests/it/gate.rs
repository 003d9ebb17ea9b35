//! Who may do what, by which token, for how long.

use crate::harness::{Server, Sse, Ws, code, now_s};
use base64::Engine as _;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A private key of somebody who issues tokens.
struct Issuer {
    algorithm: Algorithm,
    public_pem: String,
    public_raw: Vec<u8>,
    key: EncodingKey,
}

fn issuers() -> Vec<Issuer> {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let key = |algorithm, pair: &KeyPair| {
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        Issuer {
            algorithm,
            public_pem: pair.public_key_pem(),
            public_raw: pair.public_key_raw().to_vec(),
            key: key.unwrap(),
        }
    };
    vec![key(Algorithm::RS256, &rsa), key(Algorithm::ES256, &ec), key(Algorithm::EdDSA, &ed)]
}

impl Issuer {
    fn sign(&self, id: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: id.map(Into::into), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

async fn status(server: &Server, token: &str) -> u16 {
    server.post("t", token, "{\"data\":1}").await.status().as_u16()
}

#[tokio::test]
async fn public_keys_in_pem_files_verify_and_never_make_an_admin() {
    let (dir, issuers) = (tempfile::tempdir().unwrap(), issuers());
    let mut args = Vec::new();
    for (n, issuer) in issuers.iter().enumerate() {
        let path = dir.path().join(format!("{n}.pem"));
        std::fs::write(&path, &issuer.public_pem).unwrap();
        args.extend(["--pem".to_owned(), path.display().to_string()]);
    }
    let server = Server::start_with(&args).await;
    let claims = json!({"topics": "t", "sub": "me", "exp": now_s() + 60});
    let admin = json!({"admin": true, "exp": now_s() + 60});
    for issuer in &issuers {
        assert_eq!(status(&server, &issuer.sign(None, &claims)).await, 201, "{:?}", issuer.algorithm);
        assert_eq!(status(&server, &issuer.sign(None, &admin)).await, 403, "{:?}", issuer.algorithm);
    }
    let stranger = &self::issuers()[1];
    assert_eq!(status(&server, &stranger.sign(None, &claims)).await, 401);
}

#[tokio::test]
async fn a_jwk_set_verifies_by_key_id() {
    let (dir, issuers) = (tempfile::tempdir().unwrap(), issuers());
    let jwk = |(n, issuer): (usize, &Issuer)| {
        let mut jwk = match issuer.algorithm {
            Algorithm::EdDSA => {
                let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&issuer.public_raw);
                json!({"kty": "OKP", "crv": "Ed25519", "x": x})
            }
            other => serde_json::to_value(Jwk::from_encoding_key(&issuer.key, other).unwrap()).unwrap(),
        };
        jwk["kid"] = format!("key-{n}").into();
        jwk
    };
    let set = json!({"keys": issuers.iter().enumerate().map(jwk).collect::<Vec<_>>()});
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, set.to_string()).unwrap();
    let server = Server::start_with(&["--jwks", path.to_str().unwrap()]).await;
    let claims = json!({"topics": ["t"], "exp": now_s() + 60});
    for (n, issuer) in issuers.iter().enumerate() {
        let id = format!("key-{n}");
        assert_eq!(status(&server, &issuer.sign(Some(&id), &claims)).await, 201, "{:?}", issuer.algorithm);
        assert_eq!(status(&server, &issuer.sign(Some("key-9"), &claims)).await, 401, "another key's id");
    }
}

#[tokio::test]
async fn a_configured_secret_verifies_beside_the_own_one() {
    let shared = "0123456789abcdef0123456789abcdef";
    let server = Server::start_with(&["--secret", shared]).await;
    // Broker has this flag as well, but it is not Broker's alone.
    assert!(!server.log().contains("sign up"), "{}", server.log());
    let sign = |claims: Value| {
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(shared.as_bytes())).unwrap()
    };
    assert_eq!(status(&server, &sign(json!({"topics": "*", "exp": now_s() + 60}))).await, 201);
    assert_eq!(status(&server, &sign(json!({"admin": true, "exp": now_s() + 60}))).await, 403);
    assert_eq!(status(&server, &server.admin).await, 201);
}

#[tokio::test]
async fn grants_hold_for_each_direction_and_key() {
    let server = Server::start().await;
    server.post("t", &server.admin, r#"[{"key":"1","data":1},{"key":"2","data":2}]"#).await;
    let may_read = async |token: &str, topic: &str| {
        server
            .request(Method::GET, &format!("/v1/topics/{topic}/events"), token)
            .send()
            .await
            .unwrap()
            .status()
            == 200
    };
    let may_write =
        async |token: &str, topic: &str| server.post(topic, token, "{\"data\":1}").await.status() == 201;
    let reader = server.token(&["--subscribe", "t"]).await;
    assert!(may_read(&reader, "t").await && may_read(&reader, "t:1").await && !may_write(&reader, "t").await);
    let keyed = server.token(&["--topics", "t:1"]).await;
    assert!(may_read(&keyed, "t:1").await && may_write(&keyed, "t:1").await);
    assert!(
        !may_read(&keyed, "t").await && !may_read(&keyed, "t:2").await && !may_write(&keyed, "t:2").await
    );
    let all = server.token(&["--topics", "*"]).await;
    assert!(may_read(&all, "t").await && may_write(&all, "u").await && !may_read(&all, "$schedule").await);
    let nothing = server.token(&["--sub", "me"]).await;
    assert!(!may_read(&nothing, "t").await && !may_write(&nothing, "t").await);
    // Over one stream, nothing of another key gets through.
    let mut live = Sse::open(&server, "/v1/topics/t:1/events?from=earliest", &keyed, None).await;
    server.post("t", &server.admin, r#"[{"key":"2","data":"hidden"},{"key":"1","data":"shown"}]"#).await;
    let seen = [live.event().await, live.event().await, live.event().await];
    assert!(seen.iter().all(|e| e["key"] == "1"), "{seen:?}");
    assert_eq!(seen[2]["data"], "shown");
}

#[tokio::test]
async fn streams_end_when_their_token_does_and_say_so() {
    let server = Server::start().await;
    let token = server.token(&["--subscribe", "t", "--ttl", "2s"]).await;
    let begun = Instant::now();
    let mut sse = Sse::open(&server, "/v1/topics/t/events", &token, None).await;
    let mut ws = server.ws(&token).await;
    ws.subscribe("t", "latest").await;
    let close = sse.own("$close").await;
    assert_eq!(close["code"], "token_expired");
    assert!(close["reason"].as_str().is_some_and(|r| r.contains("expired")));
    assert!(sse.is_over().await);
    let close = ws.op("close").await;
    assert_eq!(close["code"], "token_expired");
    let (number, reason) = ws.end().await;
    assert_eq!((number, reason.as_str()), (4401, "token_expired"));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_websocket_lives_on_under_a_fresh_token() {
    let server = Server::start().await;
    let short = server.token(&["--topics", "t,gone", "--ttl", "2s"]).await;
    let long = server.token(&["--topics", "t", "--ttl", "1h"]).await;
    let mut ws = server.ws(&short).await;
    ws.subscribe("t", "latest").await;
    ws.subscribe("gone", "latest").await;
    ws.send(json!({"op": "auth", "ref": "a", "token": long})).await;
    assert_eq!(ws.op("authenticated").await["ref"], "a");
    // What the new token does not grant is given up aloud.
    assert_eq!(ws.op("error").await["code"], "forbidden");
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.publish("gone", &[json!("hidden")]).await;
    server.publish("t", &[json!("still")]).await;
    assert_eq!(ws.event().await["data"], "still");
}

#[tokio::test]
async fn a_websocket_may_bring_its_token_in_the_first_frame() {
    let server = Server::start().await;
    let mut ws = Ws::open(&server, None).await;
    ws.send(json!({"op": "auth", "ref": "a", "token": server.admin})).await;
    ws.op("authenticated").await;
    ws.subscribe("t", "latest").await;
    ws.send(json!({"op": "publish", "ref": "p", "topic": "t", "event": {"data": "hello"}})).await;
    let (mut published, mut event) = (None, None);
    while published.is_none() || event.is_none() {
        let frame = ws.next().await.expect("the connection goes on");
        match frame["op"].as_str() {
            Some("published") => published = Some(frame),
            Some("event") => event = Some(frame),
            _ => {}
        }
    }
    assert_eq!(published.unwrap()["ref"], "p");
    assert_eq!(event.unwrap()["event"]["data"], "hello");
    assert!(Ws::try_open(&server, Some("nonsense")).await.is_err());
}

#[tokio::test]
async fn a_cookie_counts_only_on_streams_for_pages_of_an_allowed_origin() {
    let server = Server::start_with(&["--origin", "https://app.example"]).await;
    let cookie = format!("tidings_token={}", server.admin);
    let get = |path: &'static str, origin: Option<&'static str>| {
        let mut request = server.http.get(server.url(path)).header("cookie", &cookie);
        request = request.header("accept", "text/event-stream");
        origin.into_iter().fold(request, |r, o| r.header("origin", o)).send()
    };
    let path = "/v1/topics/t/events";
    assert_eq!(get(path, Some("https://app.example")).await.unwrap().status(), 200);
    assert_eq!(code(get(path, Some("https://evil.example")).await.unwrap()).await.1, "origin_forbidden");
    assert_ne!(get(path, None).await.unwrap().status(), 200);
    let page =
        server.http.get(server.url(path)).header("cookie", &cookie).header("origin", "https://app.example");
    assert_eq!(page.send().await.unwrap().status(), 401, "not for a page of events");
    let write =
        server.http.post(server.url(path)).header("cookie", &cookie).header("origin", "https://app.example");
    let write = write.header("content-type", "application/json").body("{\"data\":1}").send().await.unwrap();
    assert_eq!(write.status(), 401, "not for writing");
    let query = format!("{path}?token={}", server.admin);
    let in_url =
        server.http.get(server.url(&query)).header("accept", "text/event-stream").send().await.unwrap();
    assert_ne!(in_url.status(), 200, "a token in a URL is not taken");
}
