//! What PostgreSQL keeps for a slot: asked over a connection of its own, beside the stream.
//!
//! Never: disturbs the stream; where it cannot ask, numbers are missing.

use super::catalog::{Captured, Catalog, dropped};
use super::lsn::Lsn;
use super::slot;
use crate::postgres::Address;
use crate::source::{Fault, Settings};
use std::time::Duration;
use tidings_engine::SourceReport;
use tokio_util::task::AbortOnDropHandle;

/// Why a stream has to end, and how far it goes before.
pub struct Ending {
    pub fault: Fault,
    pub at: Lsn,
}

/// Reports every few seconds until it is dropped, or one of `tables` was, which it answers.
pub fn start(
    address: &Address,
    report: &SourceReport,
    name: &str,
    settings: &Settings,
    tables: Vec<Captured>,
) -> AbortOnDropHandle<Ending> {
    let (address, report, name) = (address.clone(), report.clone(), name.to_owned());
    let (alarm, source) = (settings.retained_bytes_alarm, settings.name.clone());
    let every = Duration::from_millis(settings.heartbeat_ms.clamp(100, 10_000));
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut is_alarmed = false;
        loop {
            if let Ok(catalog) = Catalog::connect(&address).await {
                while let Ok(Some(found)) = slot::find(&catalog, &name).await {
                    report.retained(found.retained_bytes, Some(alarm));
                    report.lag_bytes(found.lag_bytes);
                    let retained = found.retained_bytes.unwrap_or(0);
                    if retained > alarm && !is_alarmed {
                        tracing::error!(
                            source,
                            retained,
                            alarm,
                            "PostgreSQL keeps too much for a source; is it behind?"
                        );
                    }
                    is_alarmed = retained > alarm;
                    if let Ok(Some(table)) = catalog.gone(&tables).await
                        && let Ok(at) = catalog.written().await
                    {
                        return Ending { fault: dropped(table), at };
                    }
                    tokio::time::sleep(every).await;
                }
            }
            report.retained(None, Some(alarm));
            report.lag_bytes(None);
            tokio::time::sleep(every).await;
        }
    }))
}
