//! Users: signing up, logging in, and what ends a login.

use crate::harness::{Server, Sse, Ws, code, now_s, soon};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The reference hash of the argon2 library, and one of the bcrypt of Openwall; with their passwords.
const ARGON2: (&str, &str) =
    ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password");
const BCRYPT: (&str, &str) = ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U");
const GOOD: &str = "a good password";
/// Hashes that cost next to nothing.
const CHEAP: &str = "argon2_kib = 8\nargon2_passes = 1\n";

/// A server with settings under `[users]`. The directory holds the settings.
async fn start(settings: &str) -> (Server, TempDir) {
    start_with(settings, &[]).await
}

async fn start_with(settings: &str, args: &[&str]) -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, format!("[users]\n{settings}")).unwrap();
    let args = [&["--config", path.to_str().unwrap()], args].concat();
    (Server::start_to_restart(&args).await, dir)
}

impl Server {
    async fn post_json(&self, path: &str, token: &str, body: &Value) -> Response {
        let mut request = self.http.post(self.url(path)).json(body);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        request.send().await.expect("an answer")
    }

    /// Signs up without a token.
    async fn sign_up(&self, name: &str) -> Response {
        self.post_json("/v1/users", "", &json!({"name": name, "password": GOOD})).await
    }

    /// Adds a user as an admin, and answers with the id.
    async fn add(&self, user: Value) -> String {
        let response = self.post_json("/v1/users", &self.admin, &user).await;
        assert_eq!(response.status(), 201);
        let user: Value = response.json().await.unwrap();
        user["id"].as_str().unwrap().to_owned()
    }

    async fn try_login(&self, name: &str, password: &str) -> Response {
        self.post_json("/v1/login", "", &json!({"name": name, "password": password})).await
    }

    async fn login(&self, name: &str, password: &str) -> String {
        let response = self.try_login(name, password).await;
        assert_eq!(response.status(), 200, "{name}");
        let login: Value = response.json().await.unwrap();
        assert_eq!(login["user"]["name"], name);
        login["token"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, method: Method, path: &str, token: &str) -> Response {
        self.request(method, path, token).send().await.expect("an answer")
    }

    async fn patch(&self, id: &str, patch: &Value) {
        let path = format!("/v1/users/{id}");
        let response = self.request(Method::PATCH, &path, &self.admin).json(patch).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test]
async fn of_twenty_who_want_one_name_at_once_one_gets_it_and_keeps_it() {
    let (mut server, _dir) = start(&format!("sign_up = \"open\"\n{CHEAP}")).await;
    let all = (0..20).map(|_| server.sign_up("ada"));
    let mut answers = Vec::new();
    for answer in futures_util::future::join_all(all).await {
        answers.push(answer.status().as_u16());
        if answer.status() != 201 {
            assert_eq!(code(answer).await, (409, "user_name_taken".into()));
        }
    }
    assert_eq!(answers.iter().filter(|status| **status == 201).count(), 1, "{answers:?}");
    let token = server.login("ada", GOOD).await;
    server.crash_and_restart().await;
    assert_eq!(code(server.sign_up("ada").await).await.1, "user_name_taken");
    let me: Value = server.ask(Method::GET, "/v1/users/me", &token).await.json().await.unwrap();
    assert_eq!((&me["name"], &me["revoked"]), (&json!("ada"), &json!(false)));
    assert!(!me.to_string().contains("$argon2"), "{me}");
    server.login("ada", GOOD).await;
}

#[tokio::test]
async fn a_token_of_a_user_says_who_and_until_when_and_grants_what_is_stored() {
    let (server, _dir) = start(&format!("token_ttl_ms = 600000\n{CHEAP}")).await;
    let id = server.add(json!({"name": "ada", "password": GOOD, "publish": ["orders"]})).await;
    let token = server.login("ada", GOOD).await;
    let secret = std::fs::read_to_string(server.data().join("secret")).unwrap();
    let key = DecodingKey::from_secret(secret.trim().as_bytes());
    let claims = decode::<Value>(&token, &key, &Validation::new(Algorithm::HS256)).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["company"]), (&json!(id), &json!("")));
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(exp - iat == 600 && iat.abs_diff(now_s()) <= 2, "{claims}");

    assert_eq!(server.post("orders:1", &token, r#"{"data":1}"#).await.status(), 201);
    assert_eq!(code(server.post("else", &token, r#"{"data":1}"#).await).await.1, "forbidden");
    let page = "/v1/topics/orders/events";
    assert_eq!(server.ask(Method::GET, page, &token).await.status(), 403);
    server.patch(&id, &json!({"publish": [], "subscribe": ["orders"]})).await;
    assert_eq!(server.ask(Method::GET, page, &token).await.status(), 200);
    assert_eq!(server.post("orders:1", &token, r#"{"data":1}"#).await.status(), 403);
    for (method, path) in [(Method::GET, "/v1/users"), (Method::DELETE, &*format!("/v1/users/{id}"))] {
        assert_eq!(code(server.ask(method, path, &token).await).await.1, "forbidden");
    }
    let own = server.ask(Method::GET, &format!("/v1/users/{id}"), &token).await;
    assert_eq!(own.json::<Value>().await.unwrap()["subscribe"], json!(["orders"]));
}

#[tokio::test]
async fn what_ends_a_login_ends_its_streams_within_a_second_and_says_why() {
    let (server, _dir) = start(CHEAP).await;
    let id = server.add(json!({"name": "ada", "password": GOOD, "subscribe": ["t"]})).await;
    server.add(json!({"name": "bob", "password": GOOD, "subscribe": ["t"]})).await;
    let bob = server.login("bob", GOOD).await;
    let path = "/v1/topics/t/events?from=earliest";
    let mut bystander = Sse::open(&server, path, &bob, None).await;
    let revoke = format!("/v1/users/{id}/revoke");
    for (n, what) in ["logout", "password", "revoke", "remove"].into_iter().enumerate() {
        let password = if n < 2 { GOOD } else { "another good one" };
        let token = server.login("ada", password).await;
        let mut sse = Sse::open(&server, path, &token, None).await;
        let mut ws = Ws::open(&server, Some(&token)).await;
        ws.subscribe("t", "earliest").await;
        let mut late = Ws::open(&server, None).await;
        late.send(json!({"op": "auth", "token": token})).await;
        late.op("authenticated").await;
        server.publish("t", &[json!(n)]).await;
        while sse.event().await["data"] != n {}
        while ws.event().await["data"] != n {}
        while bystander.event().await["data"] != n {}
        let begun = Instant::now();
        let done = match what {
            "logout" => server.ask(Method::POST, "/v1/logout", &token).await,
            "password" => {
                let change = json!({"old": GOOD, "new": "another good one"});
                server.post_json("/v1/users/me/password", &token, &change).await
            }
            "revoke" => server.ask(Method::POST, &revoke, &server.admin).await,
            _ => server.ask(Method::DELETE, &format!("/v1/users/{id}"), &server.admin).await,
        };
        assert!(done.status().is_success(), "{what}: {}", done.status());
        let said = sse.own("$close").await;
        assert_eq!(said["code"], "token_revoked", "{what}: {said}");
        assert!(sse.is_over().await);
        for ws in [&mut ws, &mut late] {
            assert_eq!(ws.op("close").await["code"], "token_revoked", "{what}");
            assert_eq!(ws.end().await, (4401, "token_revoked".into()), "{what}");
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{what}: {:?}", begun.elapsed());
        let refused = server.ask(Method::GET, "/v1/users/me", &token).await;
        assert_eq!(code(refused).await, (401, "token_revoked".into()), "{what}");
        if what == "password" {
            let login: Value = done.json().await.unwrap();
            let fresh = login["token"].as_str().unwrap();
            assert_eq!(server.ask(Method::GET, "/v1/users/me", fresh).await.status(), 200);
        }
        if what == "revoke" {
            let refused = server.try_login("ada", "another good one").await;
            assert_eq!(code(refused).await, (403, "user_revoked".into()));
            let restore = format!("/v1/users/{id}/restore");
            assert_eq!(server.ask(Method::POST, &restore, &server.admin).await.status(), 200);
            assert_eq!(server.ask(Method::GET, "/v1/users/me", &token).await.status(), 401);
        }
    }
    server.publish("t", &[json!("end")]).await;
    assert_eq!(bystander.event().await["data"], "end", "others are left alone");
}

#[tokio::test]
async fn changed_grants_count_at_once_on_open_connections() {
    let (server, _dir) = start(CHEAP).await;
    let id = server.add(json!({"name": "ada", "password": GOOD, "subscribe": ["a", "b"]})).await;
    let token = server.login("ada", GOOD).await;
    let mut ws = Ws::open(&server, Some(&token)).await;
    for topic in ["a", "b"] {
        ws.subscribe(topic, "earliest").await;
    }
    let mut kept = Sse::open(&server, "/v1/topics/b/events?from=earliest", &token, None).await;
    let mut lost = Sse::open(&server, "/v1/stream?topic=a&topic=b", &token, None).await;
    server.patch(&id, &json!({"subscribe": ["b"], "publish": ["b"]})).await;
    assert_eq!(ws.op("error").await["code"], "forbidden");
    assert_eq!(lost.own("$close").await["code"], "forbidden");
    ws.send(json!({"op": "publish", "ref": "1", "topic": "b", "event": {"data": 1}})).await;
    // The event itself and the answer to its publish may come in either order.
    let first = [ws.next().await.unwrap(), ws.next().await.unwrap()];
    assert!(first.iter().any(|f| f["op"] == "published") && first.iter().any(|f| f["event"]["data"] == 1));
    server.publish("a", &[json!("not for her")]).await;
    server.publish("b", &[json!("for her")]).await;
    assert_eq!(ws.event().await["data"], "for her");
    while kept.event().await["data"] != "for her" {}
}

#[tokio::test]
async fn a_long_upload_ends_with_its_login() {
    let (server, _dir) = start(CHEAP).await;
    let id = server.add(json!({"name": "ada", "password": GOOD, "publish": ["t"]})).await;
    let token = server.login("ada", GOOD).await;
    let (tx, rx) = tokio::sync::mpsc::channel::<&'static str>(1);
    let lines = futures_util::stream::unfold(rx, |mut rx| async {
        rx.recv().await.map(|line| (Ok::<_, std::io::Error>(line), rx))
    });
    let request = server.request(Method::POST, "/v1/topics/t/events", &token);
    let request = request.header("content-type", "application/x-ndjson");
    let upload = tokio::spawn(request.body(reqwest::Body::wrap_stream(lines)).send());
    let mut live = server.sse("t", "from=earliest").await;
    tx.send("{\"data\":1}\n").await.unwrap();
    live.event().await;
    server.ask(Method::POST, &format!("/v1/users/{id}/revoke"), &server.admin).await;
    tx.send("{\"data\":2}\n").await.unwrap();
    drop(tx);
    let refused: Value = soon("the refusal", upload).await.unwrap().unwrap().json().await.unwrap();
    assert_eq!((&refused["code"], &refused["accepted"]), (&json!("token_revoked"), &json!(1)), "{refused}");
    assert_eq!(server.read_all("t").await.len(), 1);
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_cannot_be_told_apart() {
    let (server, _dir) =
        start("argon2_kib = 4096\nargon2_passes = 4\nname_burst = 0\naddress_burst = 0\n").await;
    server.add(json!({"name": "ada", "password": GOOD})).await;
    // Verified in another time than a hash of the kind that is set.
    let slow = "$2b$09$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    server.add(json!({"name": "imported", "hash": slow})).await;
    let mut bodies = Vec::new();
    // The quickest of each: what a busy machine adds tells nothing, and nobody is answered in less than the work takes.
    let mut quickest = [Duration::MAX; 3];
    let mut tell_apart = true;
    for round in 0..200 {
        for (name, quickest) in ["ada", "imported", "nobody"].into_iter().zip(&mut quickest) {
            let begun = Instant::now();
            let response = server.try_login(name, "wrong").await;
            let took = begun.elapsed();
            assert_eq!(response.status(), 401);
            bodies.push(response.text().await.unwrap());
            // The first round is where the costs of both kinds are met.
            if round > 0 {
                *quickest = took.min(*quickest);
            }
        }
        let most = quickest.iter().max().expect("three");
        tell_apart = quickest.iter().any(|least| most.as_secs_f64() >= 1.5 * least.as_secs_f64());
        // On a busy machine it takes more rounds until each was left alone once; a difference in work stays.
        if round > 20 && !tell_apart {
            break;
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(!tell_apart, "the quickest, {quickest:?}, tell them apart");
}

#[tokio::test]
async fn attempts_are_bounded_by_name_and_by_address() {
    let settings = format!("sign_up = \"open\"\nname_burst = 3\naddress_burst = 12\n{CHEAP}");
    let (server, _dir) = start(&settings).await;
    for name in ["ada", "bob"] {
        assert_eq!(server.sign_up(name).await.status(), 201);
    }
    for _ in 0..2 {
        assert_eq!(server.try_login("ada", "wrong").await.status(), 401);
    }
    let refused = server.try_login("ada", GOOD).await;
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&after), "{after}");
    assert_eq!(code(refused).await, (429, "rate_limited".into()));
    let mut passed = 0;
    let refused = loop {
        let answer = server.try_login("bob", GOOD).await;
        if answer.status() != 200 {
            break answer;
        }
        passed += 1;
    };
    assert!(passed >= 6, "a success does not count for the name: {passed}");
    assert_eq!(code(refused).await, (429, "rate_limited".into()));
    assert_eq!(code(server.sign_up("cy").await).await.1, "rate_limited");
    server.add(json!({"name": "cy", "password": GOOD})).await;
}

#[tokio::test]
async fn a_hundred_users_may_log_in_in_a_row_from_one_address() {
    let (server, _dir) = start(CHEAP).await;
    for n in 0..100 {
        server.add(json!({"name": format!("user {n}"), "password": GOOD})).await;
    }
    for n in 0..100 {
        server.login(&format!("user {n}"), GOOD).await;
    }
}

#[tokio::test]
async fn who_may_sign_up_is_a_setting_and_closed_by_default() {
    for (settings, stranger) in [("", 403), ("sign_up = \"admin\"\n", 403), ("sign_up = \"open\"\n", 201)] {
        let (server, _dir) = start(&format!("{settings}{CHEAP}")).await;
        assert_eq!(server.sign_up("ada").await.status(), stranger, "{settings}");
        server.add(json!({"name": "bob", "password": GOOD})).await;
        if stranger == 403 {
            assert_eq!(code(server.sign_up("ada").await).await.1, "sign_up_closed");
            continue;
        }
        for field in [json!({"publish": ["*"]}), json!({"hash": ARGON2.0}), json!({"id": uuid::Uuid::nil()})]
        {
            let mut user = json!({"name": "cy", "password": GOOD});
            user.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
            if field.get("hash").is_some() {
                user.as_object_mut().unwrap().remove("password");
            }
            assert_eq!(code(server.post_json("/v1/users", "", &user).await).await.1, "forbidden", "{user}");
        }
    }
}

#[tokio::test]
async fn bad_names_passwords_and_bodies_get_a_clear_answer() {
    let (server, _dir) = start(&format!("sign_up = \"open\"\naddress_burst = 0\n{CHEAP}")).await;
    let long = "x".repeat(10_000);
    let user = |name: &str, password: &str| json!({"name": name, "password": password}).to_string();
    let cases = [
        (user("a\0b", GOOD), 400, "user_name_invalid"),
        (user(&long, GOOD), 400, "user_name_invalid"),
        (user("", GOOD), 400, "user_name_invalid"),
        (user(" ada", GOOD), 400, "user_name_invalid"),
        (user("ada", ""), 400, "password_invalid"),
        (user("ada", "short"), 400, "password_invalid"),
        (user("ada", &long), 400, "password_invalid"),
        (user("ada", &"x".repeat(300_000)), 413, "body_too_large"),
        (json!({"name": "ada"}).to_string(), 400, "parameter_invalid"),
        (json!({"password": GOOD}).to_string(), 400, "parameter_invalid"),
        (json!({"name": 7, "password": GOOD}).to_string(), 400, "parameter_invalid"),
        (json!({"name": "ada", "password": [GOOD]}).to_string(), 400, "parameter_invalid"),
        (
            json!({"name": "ada", "password": GOOD, "collection_id": "7"}).to_string(),
            400,
            "parameter_invalid",
        ),
        (json!({"name": "ada", "password": GOOD, "admin": true}).to_string(), 400, "field_unknown"),
        ("[]".into(), 400, "parameter_invalid"),
        ("{\"name\":".into(), 400, "json_invalid"),
        (String::new(), 400, "json_invalid"),
    ];
    for (body, status, word) in cases {
        for path in ["/v1/users", "/v1/login"] {
            let request = server.http.post(server.url(path)).header("content-type", "application/json");
            let answer = code(request.body(body.clone()).send().await.unwrap()).await;
            if path == "/v1/users" || status == 413 || word == "json_invalid" {
                assert_eq!(answer, (status, word.into()), "{path} {}", &body[..body.len().min(80)]);
            } else {
                assert!(matches!(answer.0, 400 | 401), "{path} {answer:?}");
            }
        }
    }
    let form = server.http.post(server.url("/v1/login")).header("content-type", "text/plain").body("{}");
    assert_eq!(code(form.send().await.unwrap()).await, (415, "media_type_unsupported".into()));
    let unknown = [("GET", "/v1/users/7"), ("POST", "/v1/users/00000000-0000-0000-0000-000000000000/revoke")];
    for (method, path) in unknown {
        let answer = server.ask(method.parse().unwrap(), path, &server.admin).await;
        assert_eq!(code(answer).await, (404, "user_unknown".into()));
    }
    let answer = server.ask(Method::POST, "/v1/logout", &server.admin).await;
    assert_eq!(code(answer).await.1, "user_unknown", "an admin's token is no user's");
}

#[tokio::test]
async fn the_command_line_keeps_users() {
    let (server, _dir) = start(CHEAP).await;
    let users =
        async |args: &[&str], input: &str| server.cli(&[&["users"], args].concat(), input.as_bytes()).await;
    let id = users(&["add", "ada", "--topics", "a,b:1", "--publish", "c"], "a good password\n").await.ok();
    assert_eq!(id.trim().len(), 36, "{id}");
    assert!(users(&["add", "ada"], "another good one\n").await.fails(1).contains("user_name_taken"));
    assert!(users(&["add", "bob"], "short\n").await.fails(1).contains("password_invalid"));
    users(&["add", "bob"], "").await.fails(2);
    let token = server.login("ada", GOOD).await;
    assert_eq!(server.post("c", &token, r#"{"data":1}"#).await.status(), 201);
    users(&["grant", "ada", "--subscribe", "c"], "").await.ok();
    assert_eq!(server.post("c", &token, r#"{"data":1}"#).await.status(), 403);
    users(&["password", "ada"], "yet another one").await.ok();
    let token = server.login("ada", "yet another one").await;
    users(&["revoke", id.trim()], "").await.ok();
    assert_eq!(server.ask(Method::GET, "/v1/users/me", &token).await.status(), 401);

    let hashes = [("argon", ARGON2), ("bcrypt", BCRYPT)];
    let lines: String = hashes
        .iter()
        .map(|(name, (hash, _))| json!({"name": name, "hash": hash}).to_string() + "\n")
        .collect();
    for added in [2, 0] {
        let done = users(&["import"], &lines).await;
        assert!(done.stderr.contains(&format!("added {added} users")), "{done:?}");
        done.ok();
    }
    for (name, (_, password)) in hashes {
        for _ in 0..2 {
            server.login(name, password).await;
        }
    }
    let bad = format!("{}\n{{\"name\":\"x\",\"hash\":\"md5\"}}\n", json!({"name": "y", "hash": BCRYPT.0}));
    let error = users(&["import"], &bad).await.fails(1);
    assert!(error.contains("line 2") && error.contains("hash_unsupported"), "{error}");
    users(&["remove", "y"], "").await.ok();
    assert!(users(&["remove", "y"], "").await.fails(1).contains("user_unknown"));

    let table = users(&["list"], "").await.ok();
    let names: Vec<&str> = table.lines().skip(1).map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["ada", "argon", "bcrypt"]);
    assert!(table.lines().nth(1).unwrap().ends_with("revoked  - / c"), "{table}");
    users(&["restore", "ada"], "").await.ok();
    let listed = users(&["list", "--json"], "").await.ok();
    let ada: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&ada["revoked"], &ada["subscribe"]), (&json!(false), &json!(["c"])));
    let plain = server.token(&["--topics", "a"]).await;
    let error = server.cli(&["users", "list", "--token", &plain], b"").await.fails(1);
    assert!(error.contains("(forbidden)"), "{error}");
}

#[tokio::test]
async fn a_short_secret_is_warned_about_and_good_for_the_own_users_only() {
    let (server, _dir) = start_with(CHEAP, &["--secret", "hush"]).await;
    assert!(server.log().contains("auth.secrets has fewer than 32 characters"), "{}", server.log());
    assert!(!server.log().contains("hush"));
    let id = server.add(json!({"name": "ada", "password": GOOD, "publish": ["a"]})).await;
    let token = server.login("ada", GOOD).await;
    let (header, secret) = (Header::new(Algorithm::HS256), EncodingKey::from_secret(b"hush"));
    let sign = |claims: Value| encode(&header, &claims, &secret).unwrap();
    let exp = now_s() + 60;
    let rules = Validation::new(Algorithm::HS256);
    assert!(decode::<Value>(&token, &DecodingKey::from_secret(b"hush"), &rules).is_ok());
    assert_eq!(server.post("a", &token, r#"{"data":1}"#).await.status(), 201);
    let own = sign(json!({"sub": id, "company": "", "exp": exp, "topics": "*", "admin": true}));
    assert_eq!(server.post("a", &own, r#"{"data":1}"#).await.status(), 201);
    assert_eq!(server.post("b", &own, r#"{"data":1}"#).await.status(), 403);
    for claims in [json!({"topics": "*", "exp": exp}), json!({"sub": "ada", "topics": "*", "exp": exp})] {
        assert_eq!(code(server.post("a", &sign(claims), "{}").await).await, (401, "token_invalid".into()));
    }
}
