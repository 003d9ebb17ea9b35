//! gRPC, with grpcurl and with a client that Python generates from `spec/proto`.

mod clients;
mod dead;
mod destinations;
mod events;
mod gate;
mod keys;
pub mod ports;
mod rates;
mod topics;

use crate::harness::{PATIENCE, Server};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Why a call was refused.
#[derive(Debug, PartialEq)]
pub struct Refused {
    /// As gRPC writes it: `NotFound`.
    pub status: String,
    pub message: String,
    /// Everything that was said.
    pub all: String,
}

impl Refused {
    pub fn is(&self, status: &str, message: &str) -> bool {
        (self.status.as_str(), self.message.as_str()) == (status, message)
    }
}

/// Where grpcurl goes, as whom.
pub struct Caller {
    /// `host:port`.
    pub address: String,
    /// An empty one is not sent.
    pub token: String,
    /// What the connection needs, such as `-plaintext`.
    pub flags: Vec<String>,
}

/// Calls the port of HTTP as an admin.
pub fn admin(server: &Server) -> Caller {
    caller(server, &server.admin)
}

/// Calls the port of HTTP with a token.
pub fn caller(server: &Server, token: &str) -> Caller {
    Caller {
        address: format!("127.0.0.1:{}", server.port()),
        token: token.to_owned(),
        flags: vec!["-plaintext".into()],
    }
}

impl Caller {
    /// Calls a method, whose description grpcurl gets by reflection.
    pub async fn call(&self, method: &str, request: &Value) -> Result<Value, Refused> {
        let (answer, _) = self.answered(method, request).await?;
        Ok(answer)
    }

    /// The same with everything said about the call: headers and trailers.
    pub async fn answered(&self, method: &str, request: &Value) -> Result<(Value, String), Refused> {
        let mut words = vec!["-max-time".to_owned(), PATIENCE.as_secs().to_string(), "-emit-defaults".into()];
        words.extend(["-v".into(), "-d".into(), "@".into()]);
        if !self.token.is_empty() {
            words.extend(["-H".into(), format!("authorization: Bearer {}", self.token)]);
        }
        words.extend([self.address.clone(), method.to_owned()]);
        let all = self.run(&words, &request.to_string()).await?;
        let (head, rest) = all.split_once("Response contents:\n").unwrap_or_else(|| panic!("{all}"));
        let (answer, tail) = rest.split_once("\nResponse trailers").unwrap_or_else(|| panic!("{all}"));
        let answer = serde_json::from_str(answer).unwrap_or_else(|e| panic!("{e}: {all}"));
        Ok((answer, format!("{head}{tail}")))
    }

    /// Runs grpcurl with these words.
    pub async fn run(&self, words: &[String], input: &str) -> Result<String, Refused> {
        let mut command = Command::new(peers::needed(peers::GRPCURL));
        command.args(&self.flags).args(words).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("grpcurl starts");
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let done = child.wait_with_output().await.expect("it ends");
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let all = format!("{out}{err}");
        if done.status.success() {
            return Ok(all);
        }
        let field = |name: &str| {
            let line = all.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        Err(Refused { status: field("Code:"), message: field("Message:"), all })
    }
}

/// Runs a scenario of `clients.py` or `relay.py`, whichever has it, and fails with what it complains about.
pub async fn python(server: &Server, scenario: &str, further: &[(&str, &str)]) {
    let (own, out) = (Path::new(env!("CARGO_MANIFEST_DIR")), server.root().join("stubs"));
    std::fs::create_dir_all(&out).unwrap();
    let (program, spec) = (peers::needed(peers::PYTHON), own.join("../../spec/proto"));
    let run = |words: Vec<String>| {
        let mut command = Command::new(&program);
        command.args(words).env("PYTHONPATH", &out).env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
        command.env("ADDRESS", format!("127.0.0.1:{}", server.port())).env("TOKEN", &server.admin);
        command.envs(further.iter().copied());
        async move {
            let done = tokio::time::timeout(2 * PATIENCE, command.output()).await;
            let done = done.expect("it ends in time").expect("Python starts");
            let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            assert!(done.status.success(), "{out}{err}");
        }
    };
    let text = |path: &Path| path.display().to_string();
    run(vec![
        "-m".into(),
        "grpc_tools.protoc".into(),
        format!("-I{}", text(&spec)),
        format!("--python_out={}", text(&out)),
        format!("--grpc_python_out={}", text(&out)),
        "tidings/v1/events.proto".into(),
        "eventrelay.proto".into(),
    ])
    .await;
    let has = |file: &&str| {
        let text = std::fs::read_to_string(own.join("tests/it/grpc").join(file)).expect("a file");
        text.contains(&format!("def scenario_{scenario}("))
    };
    let file = ["clients.py", "relay.py"].into_iter().find(has).expect("a scenario of one of them");
    run(vec![text(&own.join("tests/it/grpc").join(file)), scenario.into()]).await;
}
