//! Why a destination is not made, changed or read from.

use tidings_model::{Code, Uuid};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    #[error("there is no destination {0}")]
    Unknown(Uuid),
    #[error("another destination has this name")]
    NameTaken,
    #[error("{field}: {why}")]
    Invalid { field: &'static str, why: String },
    #[error("there are {0} destinations already; no new one can be created")]
    Full(usize),
    #[error("destination {0} is not a queue")]
    NotQueue(Uuid),
    #[error("destination {0} is not a webhook")]
    NotWebhook(Uuid),
    #[error("no grant to take events of destination {0}")]
    MayNotConsume(Uuid),
    #[error("there is no delivery {0}")]
    DeliveryUnknown(String),
    #[error("destination {id} is not ready, or has {max} replays to do already")]
    ReplaysFull { id: Uuid, max: usize },
}

impl DestinationError {
    /// The stable word for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::DestinationUnknown,
            Self::NameTaken => Code::DestinationNameTaken,
            Self::Invalid { .. } | Self::NotQueue(_) | Self::NotWebhook(_) => Code::DestinationInvalid,
            Self::Full(_) => Code::DestinationsFull,
            Self::MayNotConsume(_) => Code::Forbidden,
            Self::DeliveryUnknown(_) => Code::DeliveryUnknown,
            Self::ReplaysFull { .. } => Code::ReplaysTooMany,
        }
    }

    pub(super) fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }
}
