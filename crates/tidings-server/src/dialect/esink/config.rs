//! What can be set for Esink's interface.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq as _;

/// Settings under `[esink]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Esink {
    /// Whether `/publish` and `/ping` are there.
    pub enabled: bool,
    /// What `/publish` asks for; without it nobody may publish there.
    #[serde(skip_serializing)]
    pub security_token: Option<SecurityToken>,
    /// The source of an event published there that names none.
    pub default_source: String,
    /// Whether clients may publish with `event`.
    pub allow_republishing: bool,
    /// Whether the token `TEST` is let in, as user -1 with sample data.
    pub test_token: bool,
    /// Where events go whose table is none of the captured or named topics.
    pub topic: String,
    /// `table.column` that is taken out of what is published here.
    pub filters: Vec<String>,
    /// The table of tokens: which of `[databases]` or `[[sources]]` has it, its name and the column. Each row's
    /// `id` is the user.
    pub auth_database: Option<String>,
    pub auth_table: String,
    pub auth_column: String,
    /// The process was started with Esink's variables: an unknown path is answered as Esink does.
    #[serde(skip)]
    pub is_at_home: bool,
}

/// What `/publish` asks for; it is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct SecurityToken(String);

impl SecurityToken {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// In a time that does not tell how much of it is right.
    pub fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl std::fmt::Debug for SecurityToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Default for Esink {
    fn default() -> Self {
        Self {
            enabled: true,
            security_token: None,
            default_source: "API".into(),
            allow_republishing: false,
            test_token: false,
            topic: "esink".into(),
            filters: Vec::new(),
            auth_database: None,
            auth_table: "auth".into(),
            auth_column: "token".into(),
            is_at_home: false,
        }
    }
}

impl Esink {
    /// Columns to take out, by table. The last dot divides, so that a table may have a schema.
    ///
    /// # Errors
    /// With the entry that has no column.
    pub fn filtered(&self) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut tables = BTreeMap::<String, Vec<String>>::new();
        for entry in &self.filters {
            match entry.rsplit_once('.') {
                Some((table, column)) if !table.is_empty() && !column.is_empty() => {
                    tables.entry(table.to_owned()).or_default().push(column.to_owned());
                }
                _ => return Err(format!("{entry:?} is not `table.column`")),
            }
        }
        Ok(tables)
    }
}
