//! An application's endpoint over real HTTP.

use std::sync::{Arc, Mutex};
use tidings_drivers::resolver::http::{Http, Settings};
use tidings_engine::entities::{Error, Rows, Secret};
use tidings_model::EntityKey;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What was asked for: the head's lines, and the body.
type Asked = (Vec<String>, String);

/// An application that answers by path, and remembers what it was asked.
struct App {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl App {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&notes)));
            }
        });
        Self { port, asked }
    }

    fn url(&self, rest: &str) -> String {
        format!("http://127.0.0.1:{}{rest}", self.port)
    }

    async fn fetch(&self, path: &str, id: &str, secret: &str) -> Result<Vec<String>, Error> {
        let settings = Settings { url: self.url(path), secret_matters: true, body_bytes_max: 10_000 };
        let resolver = Http::new().unwrap().resolver(&settings).unwrap();
        let (key, secret, out) =
            (EntityKey::parse("items", id).unwrap(), Secret::new(secret), Rows::new(100, 100_000));
        resolver.fetch(&key, &secret, out.clone()).await?;
        Ok(out.finish()?.iter().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect())
    }

    fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().cloned().expect("asked")
    }
}

async fn serve(stream: TcpStream, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end() {
                "" => break,
                text => head.push(text.to_owned()),
            }
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        let path = head[0].split(' ').nth(1).unwrap().to_owned();
        asked.lock().unwrap().push((head, String::from_utf8(body).unwrap()));
        let (status, media, answer) = answer(&path);
        let length = answer.len();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {media}\r\nlocation: /one/1\r\ncontent-length: {length}\r\n\r\n{answer}"
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(path: &str) -> (&'static str, &'static str, String) {
    let json = "application/json";
    match path.split('/').nth(1).unwrap() {
        "one" => ("200 OK", json, r#"{"ID": 1.0}"#.to_owned()),
        "three" => ("200 OK", json, r#"[{"a":1}, {"b":2}, {"c":3}]"#.to_owned()),
        "lines" => ("200 OK", "application/x-ndjson", "{\"a\":1}\n[2]\n".to_owned()),
        "none" => ("404 Not Found", "text/plain", "no such thing".to_owned()),
        "empty" => ("204 No Content", json, String::new()),
        "secret" => ("403 Forbidden", json, "{}".to_owned()),
        "moved" => ("302 Found", json, "{}".to_owned()),
        "broken" => ("500 Internal Server Error", json, "{}".to_owned()),
        "page" => ("200 OK", "text/html", "<html>".to_owned()),
        "long" => ("200 OK", json, format!("\"{}\"", "x".repeat(20_000))),
        _ => ("202 Accepted", json, "{}".to_owned()),
    }
}

#[tokio::test]
async fn each_answer_means_what_it_should() {
    let app = App::start().await;
    assert_eq!(app.fetch("/one/{id}", "1", "").await.unwrap(), [r#"{"ID": 1.0}"#]);
    assert_eq!(app.fetch("/three/{id}", "1", "").await.unwrap(), [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#]);
    assert_eq!(app.fetch("/lines/{id}", "1", "").await.unwrap(), [r#"{"a":1}"#, "[2]"]);
    assert!(app.fetch("/none/{id}", "1", "").await.unwrap().is_empty());
    assert!(app.fetch("/empty/{id}", "1", "").await.unwrap().is_empty());
    assert_eq!(app.fetch("/secret/{id}", "1", "").await, Err(Error::Refused));
    for path in ["/moved/{id}", "/broken/{id}", "/page/{id}", "/long/{id}"] {
        let done = app.fetch(path, "1", "").await;
        assert!(matches!(done, Err(Error::Failed(_))), "{path}: {done:?}");
    }
    assert!(!app.last().0[0].contains("/one/"), "a redirect was followed");
}

#[tokio::test]
async fn the_id_is_encoded_and_the_secret_is_a_header() {
    let app = App::start().await;
    let secret = "eyJ.ü";
    app.fetch("/one/{id}?v=1", "a/../b?c#é; drop", secret).await.unwrap();
    let (head, _) = app.last();
    assert_eq!(head[0], "GET /one/a%2F..%2Fb%3Fc%23%C3%A9%3B%20drop?v=1 HTTP/1.1");
    assert!(head.contains(&format!("x-entity-secret: {secret}")), "{head:?}");
    app.fetch("/one/{id}", "1", "").await.unwrap();
    assert!(!app.last().0.iter().any(|line| line.starts_with("x-entity-secret")));
    let count = app.asked.lock().unwrap().len();
    assert_eq!(app.fetch("/one/{id}", "..", "").await, Err(Error::Refused));
    assert_eq!(app.fetch("/one/{id}", "1", "two\r\nlines: 1").await, Err(Error::Refused));
    assert_eq!(app.asked.lock().unwrap().len(), count, "neither was asked for");
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_a_failure_that_names_no_url() {
    let app = App { port: 9, asked: Arc::default() };
    let Err(Error::Failed(text)) = app.fetch("/one/{id}", "hush", "hush").await else { panic!("it is down") };
    assert!(!text.contains("hush") && !text.contains("http://"), "{text}");
}

#[tokio::test]
async fn messages_pass_through_byte_for_byte_with_the_secret() {
    let app = App::start().await;
    let hook = Http::new().unwrap().pass_through(&app.url("/take")).unwrap();
    hook.take(&Secret::new("s1"), r#"{ "foo": 1.0 }"#.into()).await.unwrap();
    let (head, body) = app.last();
    assert_eq!(head[0], "POST /take HTTP/1.1");
    assert!(head.contains(&"x-entity-secret: s1".to_owned()), "{head:?}");
    assert_eq!(body, r#"{ "foo": 1.0 }"#);
    let hook = Http::new().unwrap().pass_through(&app.url("/broken")).unwrap();
    assert!(matches!(hook.take(&Secret::new(""), "{}".into()).await, Err(Error::Failed(_))));
}
