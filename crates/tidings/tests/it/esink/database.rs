//! A real database of one test, and how a test writes to it.

use peers::Peer;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

pub struct Database {
    pub kind: Kind,
    pub peer: Peer,
}

impl Database {
    pub fn start(kind: Kind) -> Self {
        let peer = match kind {
            Kind::Postgres => peers::postgres(&["wal_level=logical"]),
            // A kill right after a write shall not take it back.
            Kind::MariaDb => peers::mariadb(&["innodb-flush-log-at-trx-commit=1"]),
        };
        Self { kind, peer: peer.started() }
    }

    pub fn url(&self) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{}/postgres", self.peer.port()),
            Kind::MariaDb => format!("mysql://root@127.0.0.1:{}/test", self.peer.port()),
        }
    }

    /// Runs statements; each is a transaction of its own unless they say otherwise.
    pub fn write(&self, text: &str) {
        let port = self.peer.port().to_string();
        let (program, args) = match self.kind {
            Kind::Postgres => (
                "psql",
                vec!["-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port, "-U", "postgres"],
            ),
            Kind::MariaDb => {
                let args = ["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", "root", "test"];
                ("mariadb", [&args[..], &["--default-character-set=utf8mb4"]].concat())
            }
        };
        let program = peers::find(program).expect("installed with the peers");
        let flag = if self.kind == Kind::Postgres { "-c" } else { "-e" };
        let done = Command::new(&program).args(args).args([flag, text]).output().expect("it starts");
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A name as this database quotes it.
    pub fn quoted(&self, name: &str) -> String {
        let mark = if self.kind == Kind::Postgres { '"' } else { '`' };
        format!("{mark}{name}{mark}")
    }
}
