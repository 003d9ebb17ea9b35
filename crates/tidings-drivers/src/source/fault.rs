//! Why a source's run ended, as a sentence that says what to do.

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It works again by itself, sooner or later: the connection broke, the server restarts.
    #[error("{0}")]
    Lost(String),
    /// It works only after somebody has changed something; the sentence says what.
    #[error("{0}")]
    Setting(String),
}

impl Fault {
    pub fn lost(why: impl std::fmt::Display) -> Self {
        Self::Lost(why.to_string())
    }

    pub fn setting(what_to_do: impl Into<String>) -> Self {
        Self::Setting(what_to_do.into())
    }
}
