//! HTTP/2: what the standard asks for, what every client may count on, and what none may do.

mod abuse;

use crate::grpc::ports::own_port;
use crate::harness::{Server, soon};
use crate::http::certificate;
use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::net::TcpStream;
use tokio::process::Command;

/// What h2spec finds fault with on a port.
async fn faults(port: u16, flags: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(peers::needed(peers::H2SPEC));
    command.args(["--strict", "--host", "127.0.0.1", "--port", &port.to_string()]).args(flags);
    let done = soon("h2spec's verdict", command.kill_on_drop(true).output()).await.unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("146 tests, "), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let faults = said.lines().filter_map(|line| line.trim().rsplit_once("× "));
    faults.filter_map(|(_, fault)| fault.split_once(": ")).map(|(_, fault)| fault.to_owned()).collect()
}

#[tokio::test]
async fn everything_that_the_standard_asks_for_holds() {
    let server = Server::start_with(&["--grpc-listen", "127.0.0.1:0"]).await;
    let own = own_port(&server).rsplit_once(':').unwrap().1.parse().unwrap();
    // What does not begin as HTTP/2 does is HTTP/1.1, and answered as such.
    let shared = BTreeSet::from(["Sends invalid connection preface".to_owned()]);
    for port in [server.port(), own] {
        assert_eq!(faults(port, &[]).await, shared);
        assert_eq!(faults(port, &["--path", "/tidings.v1.Events/Publish"]).await, shared);
    }
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let tls = Server::start_with(&["--tls-cert", &file("cert.pem"), "--tls-key", &file("key.pem")]).await;
    assert_eq!(faults(tls.port(), &["--tls", "--insecure"]).await, shared);
}

/// A client on a connection of its own.
async fn connect(server: &Server, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let (client, connection) = builder.handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(server: &Server, method: &str, path: &str) -> http::request::Builder {
    let request = http::Request::builder().method(method).uri(server.url(path));
    request.header("authorization", format!("Bearer {}", server.admin))
}

/// The rest of a body, taken in parts as they come.
async fn rest(mut body: h2::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(part) = soon("a part", body.data()).await {
        let part = part.unwrap();
        all.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len()).unwrap();
    }
    all
}

#[tokio::test]
async fn an_answer_follows_the_windows_of_its_client() {
    let server = Server::start().await;
    for i in 0..20 {
        server.publish("t", &[json!({"i": i, "text": "x".repeat(400)})]).await;
    }
    let path = "/v1/topics/t/events?from=earliest&limit=20";
    let known: Value = server.json(path).await;
    for window in [1_u32, 100, 5_000, 1 << 20] {
        let mut client = connect(&server, h2::client::Builder::new().initial_window_size(window)).await;
        let get = request(&server, "GET", path).body(()).unwrap();
        let answer = client.send_request(get, true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), 200);
        let page: Value = serde_json::from_slice(&rest(answer.into_body()).await).unwrap();
        assert_eq!(page, known, "{window}");
    }
}

#[tokio::test]
async fn a_body_arrives_however_it_is_cut_and_whatever_its_size() {
    let server = Server::start().await;
    let mut client = connect(&server, &h2::client::Builder::new()).await;
    let lines: String =
        (0..30_000).map(|i| json!({"data": {"i": i, "text": "y".repeat(100)}}).to_string() + "\n").collect();
    for (topic, part) in [("large", 300_000), ("small", 700)] {
        let post = request(&server, "POST", &format!("/v1/topics/{topic}/events"));
        let post = post.header("content-type", "application/x-ndjson").body(()).unwrap();
        let (answer, mut body) = client.send_request(post, false).unwrap();
        let sending = async {
            for part in lines.as_bytes().chunks(part) {
                let mut part = Bytes::copy_from_slice(part);
                while !part.is_empty() {
                    body.reserve_capacity(part.len());
                    let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
                    body.send_data(part.split_to(room.min(part.len())), false).unwrap();
                }
            }
            body.send_data(Bytes::new(), true).unwrap();
        };
        let answer = soon("the answer", async { tokio::join!(sending, answer).1.unwrap() }).await;
        assert_eq!(answer.status(), 201);
        rest(answer.into_body()).await;
        let events = server.read_all(topic).await;
        assert_eq!(events.len(), 30_000);
        assert!(events.iter().enumerate().all(|(i, event)| event["data"]["i"] == i), "{topic}");
    }
}

/// 256 streams may be open on a connection; one more waits until one of them ends.
#[tokio::test]
async fn as_many_streams_as_may_be_open_go_on_beside_each_other() {
    let server = Server::start().await;
    // This client takes no more small frames that nobody reads than go into part of its window.
    let builder = h2::client::Builder::new().initial_connection_window_size(64 << 20).clone();
    let mut client = connect(&server, &builder).await;
    let open = async || {
        let mut ready = soon("room for a stream", client.clone().ready()).await.unwrap();
        let get = request(&server, "GET", "/v1/topics/t/events").header("accept", "text/event-stream");
        let answer = ready.send_request(get.body(()).unwrap(), true).unwrap().0;
        soon("an answer", answer).await.unwrap().into_body()
    };
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(open().await);
    }
    server.publish("t", &[json!("to all of them")]).await;
    for stream in &mut streams {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("to all of them") {
            said.extend_from_slice(&soon("the event", stream.data()).await.unwrap().unwrap());
        }
    }
    // The client keeps to what it was told, so this goes out only when there is room.
    let get = request(&server, "GET", "/livez").body(()).unwrap();
    let (answer, _) = client.send_request(get, true).unwrap();
    let mut answer = std::pin::pin!(answer);
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), answer.as_mut()).await;
    assert!(early.is_err());
    drop(streams.pop());
    assert_eq!(soon("an answer", answer).await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_was_begun_is_finished_when_the_server_stops() {
    let mut server = Server::start().await;
    let tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let (mut client, mut connection) = h2::client::handshake(tcp).await.unwrap();
    let mut ping = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    let post = request(&server, "POST", "/v1/topics/t/events").header("content-type", "application/json");
    let (answer, mut body) = client.send_request(post.body(()).unwrap(), false).unwrap();
    body.send_data("{\"data\":".into(), false).unwrap();
    soon("the server's having read that", ping.ping(h2::Ping::opaque())).await.unwrap();
    server.signal(15);
    // The client is told, and sends what was on its way.
    soon("the word that the server goes", async {
        while client.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    body.send_data("1}".into(), true).unwrap();
    assert_eq!(soon("the answer", answer).await.unwrap().status(), 201);
    assert!(server.ended().await.success());
}

/// A head that is not answered like others, for it has no body.
#[tokio::test]
async fn an_answer_to_head_is_a_head() {
    let server = Server::start().await;
    let mut client = connect(&server, &h2::client::Builder::new()).await;
    let head = request(&server, "HEAD", "/openapi.json").body(()).unwrap();
    let answer = client.send_request(head, true).unwrap().0.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap() > 1000);
    httpdate::parse_http_date(answer.headers()["date"].to_str().unwrap()).unwrap();
    assert_eq!(rest(answer.into_body()).await, b"");
}
