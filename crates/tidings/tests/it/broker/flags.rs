//! A command line, an environment and origins as Broker has them.

use super::*;
use crate::harness::Program;
use std::path::Path;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

/// Starts the program as a command line of Broker's would, and reads until it listens.
async fn start(
    program: &Program,
    dir: &Path,
    args: &[&str],
    env: &[(&str, &str)],
) -> (Child, String, Vec<String>) {
    let mut child = program.command(dir, args).envs(env.iter().copied()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let url = soon("the start", async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("{said:?}"));
            match line.strip_prefix("listening on ") {
                Some(url) => return url.to_owned(),
                None => said.push(line),
            }
        }
    })
    .await;
    (child, url, said)
}

async fn stop(mut child: Child) {
    child.start_kill().unwrap();
    child.wait().await.unwrap();
}

fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("broker.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("broker.rsa"), made.signing_key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn the_command_of_brokers_readme_runs() {
    let (program, dir) = (Program::new(), tempfile::tempdir().unwrap());
    certificate(dir.path());
    let line = "--port 0 --connection https --origin http://localhost:3000 --expiry 3600 --secret secret --key-path ./broker.rsa --cert-path ./broker.pem";
    let args: Vec<&str> = line.split(' ').collect();
    let (child, url, said) = start(&program, dir.path(), &args, &[("SAVE_PATH", "./tmp/broker_data")]).await;
    assert!(url.starts_with("https://"), "{url}");
    let said = said.join("\n");
    for part in ["everybody may sign up", "on all addresses"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(dir.path().join("tmp/broker_data/secret").exists());
    let pem = std::fs::read(dir.path().join("broker.pem")).unwrap();
    let root = reqwest::Certificate::from_pem(&pem).unwrap();
    let http = reqwest::Client::builder().no_proxy().add_root_certificate(root).build().unwrap();
    let port = url.rsplit_once(':').unwrap().1;
    let url = |path: &str| format!("https://localhost:{port}{path}");
    let body = json!({"username": "ann", "password": "correct horse", "collection_id": A}).to_string();
    let json = |request: reqwest::RequestBuilder| async {
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    assert!(json(http.post(url("/users")).body(body.clone())).await["id"].is_string());
    let token = json(http.post(url("/login")).body(body)).await["jwt"].as_str().unwrap().to_owned();
    let insert = json!({"event": "user", "collection_id": A, "timestamp": 1, "data": {"n": 1}}).to_string();
    assert!(
        json(http.post(url("/insert")).header("authorization", &token).body(insert)).await["event"]
            .is_object()
    );
    let response = http.get(url("/events")).bearer_auth(&token).send().await.unwrap();
    let mut live = Events { response, text: Vec::new() };
    assert_eq!(live.next().await.data(), [json!({"n": 1})]);
    drop(live);
    stop(child).await;
}

#[tokio::test]
async fn flags_take_one_dash_or_two_and_unknown_ones_end_it() {
    let (program, dir) = (Program::new(), tempfile::tempdir().unwrap());
    for args in [&["-port", "0"][..], &["--port", "0"], &["--port=0"], &["-port=0", "-expiry=5"]] {
        let (child, url, _) = start(&program, dir.path(), args, &[("SAVE_PATH", "./data")]).await;
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        stop(child).await;
    }
    for args in
        [["-nope", "1"], ["--nope", "1"], ["--port", "x"], ["--connection", "ftp"], ["--expiry", "soon"]]
    {
        let complaint = program.run(dir.path(), &args, b"").await.fails(2);
        assert!(complaint.len() > 10, "{complaint}");
    }
}

/// The library's one call is the same program. Cargo builds the example when it runs all tests of the package.
#[tokio::test]
async fn the_library_starts_it_all_in_one_call() {
    let (program, dir) = (Program::new(), tempfile::tempdir().unwrap());
    let example = Path::new(env!("CARGO_BIN_EXE_tidings")).with_file_name("examples").join("broker");
    assert!(example.exists(), "cargo build -p tidings --example broker");
    let command = |args: &[&str]| program.command_of(&example, dir.path(), args);
    let mut child = command(&["-port", "0", "--expiry=60"]).env("SAVE_PATH", "./data").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let port = soon("the start", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it starts");
            if let Some((_, port)) = line.strip_prefix("listening on ").and_then(|url| url.rsplit_once(':')) {
                return port.to_owned();
            }
        }
    })
    .await;
    let body = json!({"username": "ann", "password": "correct horse", "collection_id": A}).to_string();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let made = http.post(format!("http://127.0.0.1:{port}/users")).body(body).send().await.unwrap();
    assert!(json_of(made, 200).await["id"].is_string());
    // SAFETY: a plain system call on our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id().unwrap() as i32, libc::SIGTERM) }, 0);
    assert!(soon("its end", child.wait()).await.unwrap().success());
    let refused = crate::harness::finish(command(&["--nope"]).spawn().unwrap(), b"").await.fails(2);
    assert!(refused.contains("--nope: no such flag"), "{refused}");
}

#[tokio::test]
async fn what_is_set_wins_over_brokers_defaults() {
    let (program, dir) = (Program::new(), tempfile::tempdir().unwrap());
    let env = [("SAVE_PATH", "./data"), ("TIDINGS_USERS_SIGN_UP", "closed"), ("TIDINGS_DATA", "./other")];
    let (child, _, said) = start(&program, dir.path(), &["--port", "0", "--listen", "127.0.0.1"], &env).await;
    assert!(!said.iter().any(|line| line.contains("sign up") || line.contains("all addresses")), "{said:?}");
    assert!(dir.path().join("other/secret").exists() && !dir.path().join("data").exists());
    stop(child).await;
}

#[tokio::test]
async fn only_the_pages_of_the_allowed_origin_get_through() {
    let server = Server::start_with(&["--origin", "http://app.example", "--expiry", "600"]).await;
    let ann = user(&server, "ann", A).await;
    let ask = |method: Method, path: &str, origin: &str| {
        let request = server.request(method, path, &ann.token).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        let request = request.header("access-control-request-headers", "authorization, content-type");
        async { request.send().await.expect("an answer") }
    };
    for path in ["/users", "/login", "/insert", "/events", "/user_events", "/collections/x", "/cancel/x"] {
        let leave = ask(Method::OPTIONS, path, "http://app.example").await;
        assert_eq!(leave.status(), 200, "{path}");
        let header = |name: &str| leave.headers()[name].to_str().unwrap();
        assert_eq!(header("access-control-allow-origin"), "http://app.example");
        assert_eq!(header("access-control-allow-methods"), "GET, POST");
        assert_eq!(header("access-control-allow-headers"), "authorization, content-type");
        for method in [Method::OPTIONS, Method::GET] {
            let refused = ask(method, path, "http://evil.example").await;
            assert!(!refused.headers().contains_key("access-control-allow-origin"));
            assert_eq!(json_of(refused, 403).await["code"], "origin_forbidden", "{path}");
        }
    }
    let own = ask(Method::GET, "/user_events", "http://app.example").await;
    assert_eq!(
        (own.status().as_u16(), &own.headers()["access-control-allow-origin"]),
        (200, &"http://app.example".parse().unwrap())
    );
    let none = get(&server, "/user_events", &ann.token).await;
    assert!(none.status() == 200 && !none.headers().contains_key("access-control-allow-origin"));
}
