//! The bound of every queue, body, batch and loop an outsider can lengthen (I8).

use serde::{Deserialize, Serialize};

/// Settings under `[limits]`. Sizes are bytes, times milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Topics that may exist.
    pub topics: usize,
    /// API keys that may exist.
    pub api_keys: usize,
    /// Largest `data`, `context` and attributes of one event together.
    pub event_bytes: usize,
    /// Largest body of one publish that is taken as a whole (one event or an array).
    pub body_bytes: usize,
    /// Events in one array.
    pub batch_events: usize,
    /// Topics that one stream may name, and subscriptions of one WebSocket.
    pub stream_topics: usize,
    /// Events in one page, and the page size where none is asked for.
    pub page_events: usize,
    pub page_events_default: usize,
    /// Events that one `PullEvents` of EventRelay's interface looks at to count what matches.
    pub pull_scan_events: usize,
    /// Connections at once.
    pub connections: usize,
    /// Largest WebSocket message.
    pub frame_bytes: usize,
    /// A write to a socket that makes no progress for this long ends the connection.
    pub write_timeout_ms: u64,
    /// A request's head, and each part of its body, must arrive within this time.
    pub read_timeout_ms: u64,
    /// Newest events kept in memory for live delivery: per topic, and in bytes.
    pub ring_events: usize,
    pub ring_bytes: usize,
    /// Newest events that only pass (`durable = false`), kept for readers that lag: per address, and in bytes.
    pub passing_events: usize,
    pub passing_bytes: usize,
    /// How far ahead an event may be scheduled.
    pub schedule_ahead_ms: u64,
    /// Events read from the log at once for one reader.
    pub read_batch_events: usize,
    pub read_batch_bytes: usize,
    /// Readings from the log going on at the same time for readers that fell behind.
    pub reads_at_once: usize,
    /// Entities that one connection may be subscribed to.
    pub entity_keys: usize,
    /// Connections at once that speak entity-sync.
    pub entity_connections: usize,
    /// Rows of entities kept for a moment, for readers that have not taken them yet.
    pub entity_rows_bytes: usize,
    /// Channels of one Phoenix socket, and the largest payload of a join.
    pub socket_channels: usize,
    pub join_bytes: usize,
    /// Broker's lists (a collection's, a user's): the newest so many events, within so many bytes.
    pub broker_list_events: usize,
    pub broker_list_bytes: usize,
    /// Broker's state of one name; the collections with the oldest events are left out beyond it.
    pub broker_frame_bytes: usize,
    /// Broker's state of all names kept in memory while somebody listens; the rest is made anew when asked for.
    pub broker_view_bytes: usize,
    /// Destinations that may exist.
    pub destinations: usize,
    /// Events of one queue that are lent at the same time.
    pub queue_lent: usize,
    /// Webhooks on their way at the same time, for all destinations together.
    pub webhooks_at_once: usize,
    /// Events of one destination that wait behind others or for their next attempt.
    pub destination_open: usize,
    /// Dead deliveries that are kept of one destination; the oldest go first.
    pub destination_dead: usize,
    /// Ranges of events that one destination has to send again.
    pub destination_replays: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            topics: 100_000,
            api_keys: 10_000,
            event_bytes: 1 << 20,
            body_bytes: 8 << 20,
            batch_events: 10_000,
            stream_topics: 64,
            page_events: 1000,
            page_events_default: 100,
            pull_scan_events: 100_000,
            connections: 100_000,
            frame_bytes: 1 << 20,
            write_timeout_ms: 60_000,
            read_timeout_ms: 30_000,
            ring_events: 1024,
            ring_bytes: 4 << 20,
            passing_events: 256,
            passing_bytes: 256 << 10,
            schedule_ahead_ms: 10 * 366 * 86_400_000,
            read_batch_events: 512,
            read_batch_bytes: 256 << 10,
            reads_at_once: 8,
            entity_keys: 1000,
            entity_connections: 100_000,
            entity_rows_bytes: 64 << 20,
            socket_channels: 100,
            join_bytes: 96 << 10,
            broker_list_events: 10_000,
            broker_list_bytes: 16 << 20,
            broker_frame_bytes: 64 << 20,
            broker_view_bytes: 256 << 20,
            destinations: 100_000,
            queue_lent: 10_000,
            webhooks_at_once: 2048,
            destination_open: 10_000,
            destination_dead: 1000,
            destination_replays: 1000,
        }
    }
}
