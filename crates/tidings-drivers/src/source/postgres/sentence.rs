//! What PostgreSQL refuses, as a sentence that says what to do.

use crate::source::Fault;

/// What a refusal with this SQLSTATE means for a source.
pub fn refused(state: &str, text: &str) -> Fault {
    match state {
        "28P01" => Fault::setting(format!("PostgreSQL refuses the password ({text}); correct it in `url`")),
        "28000" => Fault::setting(format!(
            "PostgreSQL does not let this user in ({text}); check the user in `url`, and pg_hba.conf"
        )),
        "3D000" => Fault::setting(format!("{text}; correct the database's name in `url`, or create it")),
        "53400" => Fault::setting(format!(
            "{text}; drop a replication slot that nobody needs, or raise max_replication_slots and max_wal_senders \
             and restart PostgreSQL"
        )),
        "42501" => Fault::setting(format!(
            "PostgreSQL does not allow it ({text}); grant the role of `url` what it lacks"
        )),
        // In use, by a connection of ours that the server has not given up yet, or by another server.
        "55006" => Fault::lost(format!("{text}; only one server may read it at a time")),
        // Class 57: shutting down, starting up, connection ended by an administrator. Class 53: out of something.
        _ if ["57", "53", "08", "40", "55"].iter().any(|class| state.starts_with(class)) => Fault::lost(text),
        _ => Fault::lost(format!("{text} (SQLSTATE {state})")),
    }
}

/// The same for what the general client says.
pub fn failed(error: &tokio_postgres::Error) -> Fault {
    match error.as_db_error() {
        Some(refusal) => refused(refusal.code().code(), refusal.message()),
        None => {
            let cause =
                std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            Fault::lost(format!("PostgreSQL is out of reach: {error}{cause}"))
        }
    }
}

/// A name as SQL takes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it, with standard_conforming_strings or without.
pub fn literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_to_change_is_told_from_what_passes() {
        assert!(matches!(refused("28P01", "x"), Fault::Setting(text) if text.contains("`url`")));
        assert!(matches!(refused("57P01", "terminating connection"), Fault::Lost(_)));
        assert!(matches!(refused("55006", "slot is active"), Fault::Lost(_)));
    }

    #[test]
    fn names_and_texts_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's \\"), "E'it''s \\\\'");
    }
}
