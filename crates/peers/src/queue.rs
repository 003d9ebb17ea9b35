//! Queues: NATS, NSQ and Redis. `options` are further arguments of the server's command line.

use crate::peer::Peer;
use crate::program::{NSQD, needed};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

const HOST: &str = "127.0.0.1";

/// A NATS server.
pub fn nats(options: &[&str]) -> Peer {
    let peer = Peer::new(needed("nats-server"), |stream| begins_with(stream, b"", b"INFO "));
    let port = peer.port().to_string();
    peer.args(["--addr", HOST, "--port", &port]).args(options.iter().copied())
}

/// An nsqd; its second port is its HTTP interface.
pub fn nsqd(options: &[&str]) -> Peer {
    // It says at once, in a frame of fewer than 256 bytes, that there is no such protocol.
    let peer = Peer::new(needed(NSQD), |stream| begins_with(stream, b"  V0", b"\0\0\0"));
    let tcp = format!("--tcp-address={HOST}:{}", peer.port());
    let http = format!("--http-address={HOST}:{}", peer.second_port());
    let data = format!("--data-path={}", peer.dir().display());
    peer.args([tcp, http, data, format!("--broadcast-address={HOST}")]).args(options.iter().copied())
}

/// A Redis server without persistence.
pub fn redis(options: &[&str]) -> Peer {
    // One that wants a password answers too, with an error.
    let probe = |stream: &mut TcpStream| {
        stream.write_all(b"PING\r\n")?;
        let mut said = [0; 5];
        stream.read_exact(&mut said)?;
        Ok(matches!(&said, b"+PONG" | b"-NOAU"))
    };
    let peer = Peer::new(needed("redis-server"), probe);
    let port = peer.port().to_string();
    let dir = peer.dir().display().to_string();
    peer.args(["--bind", HOST, "--port", &port, "--dir", &dir, "--save", "", "--appendonly", "no"])
        .args(options.iter().copied())
}

/// Whether what the peer says after `question` begins with `answer`.
fn begins_with(stream: &mut TcpStream, question: &[u8], answer: &[u8]) -> io::Result<bool> {
    stream.write_all(question)?;
    let mut said = vec![0; answer.len()];
    stream.read_exact(&mut said)?;
    Ok(said == answer)
}
