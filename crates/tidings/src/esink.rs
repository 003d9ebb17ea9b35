//! Puts Esink's interface together at the start: names checked, tokens looked up, a certificate where none is set.

use crate::config::esink::TableSight;
use crate::config::{Config, ConfigError};
use crate::drivers;
use crate::entities::{EntitiesError, refuse};
use crate::secret;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_engine::auth::TokenLookup;
use tidings_engine::{Tidings, TopicSettings};
use tidings_model::{Principal, TopicName};
use tidings_server::TlsFiles;

/// Whether the names of topics, tables and columns are such.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let refuse = |said_by: &str, what: String| ConfigError::Value { said_by: said_by.to_owned(), what };
    for name in &config.socketio.topics {
        let done = TopicName::parse_captured(name);
        done.map_err(|e| refuse("socketio.topics", format!("{name:?}: {e}")))?;
    }
    let topic = TopicName::parse(&config.esink.topic);
    let topic = topic.map_err(|e| refuse("esink.topic", format!("{:?}: {e}", config.esink.topic)))?;
    if topic.is_system() {
        return Err(refuse("esink.topic", format!("{topic} belongs to the system")));
    }
    config.esink.filtered().map(drop).map_err(|what| refuse("esink.filters", what))
}

/// Sets who sees the rows of captured tables, before the first of them is captured.
pub async fn set_sights(config: &Config, tidings: &Tidings) -> Result<(), EntitiesError> {
    if let Some(source) = config.esink.auth_database.as_ref().filter(|_| !config.table_sights.is_empty()) {
        // As the source does itself once its database answers.
        let topics: Vec<TopicName> = config.table_sights.iter().map(|sight| sight.topic.clone()).collect();
        tidings.captured(source, &topics).await.map_err(|e| refuse("TABLE_NAMES", e))?;
    }
    for TableSight { topic, row_rule, filter_columns } in &config.table_sights {
        let done = async {
            let known = tidings.topic_settings(topic).await?;
            let settings = TopicSettings {
                row_rule: Some(row_rule.clone()),
                filter_columns: Some(filter_columns.clone()),
                ..known.clone()
            };
            match settings == known {
                true => Ok(()),
                false => tidings.set_topic(&Principal::admin(), topic, &settings).await,
            }
        };
        done.await
            .map_err(|e: tidings_engine::Error| refuse(format!("TABLE_AUTH_COLUMN_ROUTING, {topic}"), e))?;
    }
    Ok(())
}

/// Looks up the application's own tokens, where a database of them is set.
pub fn token_lookup(config: &Config) -> Result<Option<Arc<dyn TokenLookup>>, EntitiesError> {
    let Some(name) = &config.esink.auth_database else { return Ok(None) };
    let origins = drivers::Origins::open(config)?;
    let database = origins.database("esink.auth_database", name)?;
    let lookup = database.tokens(&config.esink.auth_table, &config.esink.auth_column);
    Ok(Some(Arc::new(lookup.map_err(|e| refuse("esink.auth_table", e))?)))
}

/// A certificate that nobody else vouches for, kept in the data directory from the first time on.
pub fn self_signed(data: &Path) -> io::Result<TlsFiles> {
    let dir = data.join("tls");
    let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    tracing::warn!(
        cert = %files.cert.display(),
        "USE_SSL without a certificate: serving one that browsers do not trust; set TIDINGS_HTTP_TLS_CERT and TIDINGS_HTTP_TLS_KEY"
    );
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    secret::make_dir(&dir)?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    // The key first: a certificate means that its key is there.
    write(&files.key, &made.signing_key.serialize_pem())?;
    write(&files.cert, &made.cert.pem())?;
    Ok(files)
}

fn write(path: &PathBuf, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
