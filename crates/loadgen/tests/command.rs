//! Every command against the yardstick, as its users run it.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// A running yardstick, ended with the test.
struct Yardstick {
    process: Child,
    address: String,
}

impl Yardstick {
    fn start() -> Self {
        let mut process =
            Command::new(LOADGEN).args(["serve", "--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on ").expect("the yardstick says where it is").to_owned();
        Self { process, address }
    }

    /// Runs a command against it and returns what was printed.
    fn run(&self, words: &str) -> String {
        let pid = self.process.id().to_string();
        let output = Command::new(LOADGEN)
            .args(words.split_whitespace())
            .args(["--addr", &self.address, "--pid", &pid, "--runs", "1"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{words}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("LOST"), "{words}: {text}");
        text
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn fan_out_reaches_every_subscriber_over_both_protocols_beside_a_yardstick() {
    let (server, other) = (Yardstick::start(), Yardstick::start());
    for proto in ["sse", "ws"] {
        for mode in ["", "--apart"] {
            let vs = format!("--vs {} --vs-pid {} {mode}", other.address, other.process.id());
            let load = "--subs 5 --rate 100 --count 30 --settle 0.1";
            let text = server.run(&format!("fan --proto {proto} {load} {vs}"));
            assert!(text.contains("150 deliveries") && text.contains("ratio_p99"), "{text}");
        }
    }
    let text = server.run("fan --subs 3 --window 4 --secs 0.3 --settle 0.1 --count 20");
    assert!(text.contains("60 deliveries"), "{text}");
}

#[test]
fn publishing_singly_and_as_a_stream_is_acknowledged() {
    let server = Yardstick::start();
    let text = server.run("pub --conns 2 --secs 0.2 --topics 3 --pub-path /t%N");
    assert!(text.contains("acknowledged") && !text.contains(" 0 acknowledged"), "{text}");
    for keys in ["", "--keys 1000"] {
        let text = server.run(&format!("stream --count 5000 {keys}"));
        assert!(text.contains("5000 events"), "{text}");
    }
}

#[test]
fn idle_connections_and_start_are_measured() {
    let server = Yardstick::start();
    for proto in ["sse", "ws"] {
        let text = server.run(&format!("idle --proto {proto} --conns 5,20 --settle 0.1 --hold 0.2"));
        assert!(text.contains("20 connections") && text.contains(" 0 closed"), "{text}");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = Command::new(LOADGEN)
        .args(["start", "--runs", "1", "--addr", &format!("127.0.0.1:{port}")])
        .args(["--cmd", &format!("{LOADGEN} serve --port {port}")])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("first answer after"), "{output:?}");
}
