//! Databases: PostgreSQL and MariaDB. `settings` are lines of the server's own configuration, `name=value`.
//!
//! Both run without syncing, for speed; a kill loses nothing that the operating system has taken.

use crate::peer::Peer;
use crate::program::needed;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

const HOST: &str = "127.0.0.1";

/// A PostgreSQL cluster: user `postgres`, any password, database `postgres`.
pub fn postgres(settings: &[&str]) -> Peer {
    let peer = Peer::new(needed("postgres"), startup).database(libc::SIGQUIT);
    let data = peer.dir().join("data").display().to_string();
    let init = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
    peer.prepare(&needed("initdb"), &init);
    let (port, dir) = (peer.port().to_string(), peer.dir().display().to_string());
    let own = ["fsync=off", "full_page_writes=off", "shared_buffers=16MB"];
    let settings = own.iter().chain(settings).flat_map(|setting| ["-c", setting]);
    let peer_settings: Vec<String> = settings.map(str::to_owned).collect();
    peer.args(["-D", &data, "-h", HOST, "-p", &port, "-k", &dir]).args(peer_settings)
}

/// A MariaDB server: user `root` without a password, database `test`.
pub fn mariadb(settings: &[&str]) -> Peer {
    let peer = Peer::new(needed("mariadbd"), greeting).database(libc::SIGKILL);
    let dir = peer.dir().display().to_string();
    let data = format!("--datadir={dir}/data");
    // Servers that start remove what looks like a temporary table from the place for them, whoever made it.
    let temporary = format!("--tmpdir={dir}");
    let init = [
        "--no-defaults",
        &data,
        &temporary,
        "--auth-root-authentication-method=normal",
        "--skip-name-resolve",
    ];
    peer.prepare(&needed("mariadb-install-db"), &init);
    let own = [
        "--no-defaults".to_owned(),
        data,
        temporary,
        format!("--socket={dir}/socket"),
        format!("--pid-file={dir}/pid"),
        format!("--bind-address={HOST}"),
        format!("--port={}", peer.port()),
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
        "--innodb-buffer-pool-size=16M".to_owned(),
        "--skip-name-resolve".to_owned(),
        "--character-set-server=utf8mb4".to_owned(),
    ];
    peer.args(own).args(settings.iter().map(|setting| format!("--{setting}")))
}

/// PostgreSQL answers a start-up message with a request for authentication, or with an error while it
/// still recovers.
fn startup(stream: &mut TcpStream) -> io::Result<bool> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    body.extend(b"user\0postgres\0database\0postgres\0\0");
    stream.write_all(&(body.len() as u32 + 4).to_be_bytes())?;
    stream.write_all(&body)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(kind == *b"R")
}

/// MariaDB speaks first: a packet with protocol version 10.
fn greeting(stream: &mut TcpStream) -> io::Result<bool> {
    let mut packet = [0; 5];
    stream.read_exact(&mut packet)?;
    Ok(packet[4] == 10)
}
