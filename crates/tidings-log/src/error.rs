//! What can go wrong with the log.

use std::path::PathBuf;
use tidings_model::{Code, Offset, TopicName, Uuid};

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("topic {topic} begins at {oldest}, offset {asked} is gone")]
    Trimmed { topic: TopicName, asked: Offset, oldest: Offset },
    #[error("no scheduled event {0}")]
    DueUnknown(Uuid),
    #[error("a batch of {bytes} bytes is larger than {max}")]
    BatchTooLarge { bytes: usize, max: usize },
    #[error("the log refuses writes since {0}")]
    ReadOnly(String),
    #[error("the log cannot say whether this was written: {0}")]
    Unknown(String),
    #[error("the log is closed")]
    Closed,
    #[error("{path} is used by another process")]
    Locked { path: PathBuf },
    #[error("{path} has format {found}, this program writes {known}")]
    Format { path: PathBuf, found: String, known: u32 },
    #[error("{path} is damaged at byte {at}: {what}")]
    Corrupt { path: PathBuf, at: u64, what: String },
    #[error("the index is being rebuilt")]
    IndexBehind,
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::sync::Arc<std::io::Error> },
    #[error("{doing}: {what}")]
    Store { doing: String, what: String },
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Self::DueUnknown(_) => Code::ScheduledUnknown,
            Self::BatchTooLarge { .. } => Code::BatchTooLarge,
            Self::ReadOnly(_) => Code::LogReadOnly,
            Self::Closed => Code::Draining,
            Self::Corrupt { .. } => Code::LogCorrupt,
            Self::IndexBehind => Code::IndexBehind,
            _ => Code::Internal,
        }
    }

    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: std::sync::Arc::new(source) }
    }
}
