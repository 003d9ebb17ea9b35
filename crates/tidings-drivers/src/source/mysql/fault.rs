//! What MySQL and MariaDB complain about, as sentences that say what to do.

use crate::source::Fault;
use mysql_async::{Error, ServerError};

/// Numbers of the server's errors.
mod number {
    pub const DATABASE_ACCESS: u16 = 1044;
    pub const ACCESS: u16 = 1045;
    pub const DATABASE_UNKNOWN: u16 = 1049;
    pub const COMMAND_DENIED: u16 = 1142;
    pub const COLUMN_DENIED: u16 = 1143;
    pub const PRIVILEGE: u16 = 1227;
    pub const BINARY_LOG: u16 = 1236;
    pub const READ_ONLY: u16 = 1290;
    pub const PASSWORD_NEEDS_TLS: u16 = 1275;
    pub const TRIGGER_NEEDS_SUPER: u16 = 1419;
}

/// Why a run ended, from an error of the client's library.
pub fn fault(error: Error) -> Fault {
    match error {
        Error::Server(error) => of_server(&error),
        Error::Url(_) => {
            Fault::setting("the URL is not understood; it is mysql://USER:PASSWORD@HOST:PORT/DATABASE")
        }
        Error::Driver(error) => Fault::lost(format!("the connection to the database broke: {error}")),
        Error::Io(error) => Fault::lost(format!("the database is out of reach: {error}")),
        Error::Other(error) => Fault::lost(format!("the connection to the database broke: {error}")),
    }
}

/// The same of an error that a request for the binary log is answered with: who is let in may still not read it.
pub fn of_log_request(error: Error) -> Fault {
    match error {
        Error::Server(error) if error.code == number::ACCESS => may_not_read(&error.message),
        error => fault(error),
    }
}

fn may_not_read(said: &str) -> Fault {
    Fault::setting(format!(
        "the database user may not read the binary log; grant it REPLICATION SLAVE (and BINLOG MONITOR or \
         REPLICATION CLIENT), or set mode = \"triggers\" ({said})"
    ))
}

fn of_server(error: &ServerError) -> Fault {
    let said = &error.message;
    match error.code {
        number::ACCESS | number::PASSWORD_NEEDS_TLS => Fault::setting(format!(
            "the database refuses the user or the password in the URL; correct them ({said})"
        )),
        number::DATABASE_ACCESS | number::COMMAND_DENIED | number::COLUMN_DENIED => Fault::setting(format!(
            "the database user lacks a privilege; grant SELECT on the tables, and for triggers also TRIGGER on \
             them and CREATE, ALTER, SELECT, INSERT, DELETE on the database ({said})"
        )),
        number::DATABASE_UNKNOWN => {
            Fault::setting(format!("the database in the URL does not exist; correct the URL ({said})"))
        }
        number::PRIVILEGE => may_not_read(said),
        number::BINARY_LOG => of_log(said),
        number::READ_ONLY => Fault::setting(format!("the database is read-only; name its primary ({said})")),
        number::TRIGGER_NEEDS_SUPER => Fault::setting(format!(
            "the server does not let this user create triggers while the binary log is on; set \
             log_bin_trust_function_creators=ON there ({said})"
        )),
        _ => Fault::lost(format!("the database answers with an error: {said}")),
    }
}

/// The server can't go on from the position it was asked for.
fn of_log(said: &str) -> Fault {
    let purged = ["purged", "not in the master", "Could not find", "could not find", "oldest", "missing"];
    if purged.iter().any(|word| said.contains(word)) {
        return Fault::setting(format!(
            "the server has removed the part of its binary log that was not read yet, so changes are missing; to go \
             on, give the source another name and set snapshot = true, and keep the log longer on the server \
             ({said})"
        ));
    }
    Fault::lost(format!("the server ended the binary log: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> Fault {
        fault(Error::Server(ServerError { code, message: message.into(), state: "HY000".into() }))
    }

    #[test]
    fn what_somebody_must_change_is_told_apart_from_what_heals() {
        for (fault, word) in [
            (server(1045, "Access denied for user"), "password"),
            (server(1227, "Access denied; you need"), "REPLICATION SLAVE"),
            (server(1236, "Could not find first log file name in binary log index file"), "snapshot"),
        ] {
            assert!(matches!(&fault, Fault::Setting(text) if text.contains(word)), "{fault:?}");
        }
        assert!(matches!(server(1053, "Server shutdown in progress"), Fault::Lost(_)));
    }
}
