//! What is counted, and its form for Prometheus.
//!
//! Owns: names and labels. A label takes its values from a fixed list, so that no client can make new series.
//! Never: reads what it counts from a request.

use crate::http::ROUTES;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use std::sync::OnceLock;
use tidings_engine::bus::Status;
use tidings_engine::entities::Counts;
use tidings_engine::{SourceState, SourceStatus, Tidings};
use tidings_log::ClockState;
use tidings_model::TopicName;

/// The counters of one server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    /// The busiest of these: single events that were taken. Looked up once.
    published: OnceLock<Counter>,
    grpc: GrpcCalls,
    subscribe: Gauge,
    sse: Gauge,
    ws: Gauge,
    entity_sync: Gauge,
    phoenix: Gauge,
    socketio: Gauge,
    turned_away: Counter,
    fell_back: Counter,
    delivered: Counter,
    pass_through_failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
    code: &'static str,
}

/// Counts gRPC calls. Cheap to clone.
#[derive(Clone, Default)]
pub struct GrpcCalls(Family<Call, Counter>);

impl GrpcCalls {
    /// A call is over. `method` is one of the door's own words.
    pub fn ended(&self, method: &'static str, code: tonic::Code) {
        let code = match code {
            tonic::Code::Ok => "ok",
            tonic::Code::Cancelled => "cancelled",
            tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::DataLoss => "internal",
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => "unavailable",
            tonic::Code::ResourceExhausted => "exhausted",
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => "denied",
            _ => "refused",
        };
        self.0.get_or_create(&Call { method, code }).inc();
    }
}

/// A stream counted as open until this is dropped.
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub fn new(tidings: &Tidings) -> Self {
        let mut registry = Registry::with_prefix("tidings");
        let requests = Family::<Request, Counter>::default();
        let streams = Family::<Kind, Gauge>::default();
        let (turned_away, fell_back, delivered) =
            (Counter::default(), Counter::default(), Counter::default());
        registry.register("http_requests", "Requests answered, by route and status class", requests.clone());
        let grpc = GrpcCalls::default();
        registry.register("grpc_calls", "gRPC calls ended, by method and outcome", grpc.0.clone());
        registry.register("streams", "Streams open now", streams.clone());
        let help = "Connections closed at once because `limits.connections` were open";
        registry.register("connections_turned_away", help, turned_away.clone());
        let help = "Times a reader was too slow for live delivery and went on from the log";
        registry.register("stream_fallbacks", help, fell_back.clone());
        let help = "Events sent to streams, counted when a stream ends";
        registry.register("events_delivered", help, delivered.clone());
        registry.register_collector(Box::new(Engine(tidings.clone())));
        let of = |kind| streams.get_or_create(&Kind { kind }).clone();
        let (sse, ws, entity_sync) = (of("sse"), of("ws"), of("entity-sync"));
        let subscribe = of("grpc");
        let phoenix = of("phoenix");
        let socketio = of("socketio");
        let pass_through_failed = Counter::default();
        let help = "Messages of entity-sync's clients that could not be passed on";
        registry.register("entity_pass_through_failures", help, pass_through_failed.clone());
        Self {
            registry,
            requests,
            published: OnceLock::new(),
            grpc,
            subscribe,
            sse,
            ws,
            entity_sync,
            phoenix,
            socketio,
            turned_away,
            fell_back,
            delivered,
            pass_through_failed,
        }
    }

    /// A request was answered. `method` and `route` are the route table's own words.
    pub fn request(&self, method: &'static str, route: &'static str, status: http::StatusCode) {
        let status = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        let counter = || self.requests.get_or_create(&Request { method, route, status }).clone();
        let is_busiest = (method, route) == (ROUTES[0].method, ROUTES[0].path) && status == "2xx";
        if is_busiest {
            self.published.get_or_init(counter).inc()
        } else {
            counter().inc()
        };
    }

    pub fn grpc(&self) -> GrpcCalls {
        self.grpc.clone()
    }

    pub fn open_grpc(&self) -> Open {
        self.subscribe.inc();
        Open(self.subscribe.clone())
    }

    pub fn open_sse(&self) -> Open {
        self.sse.inc();
        Open(self.sse.clone())
    }

    pub fn open_ws(&self) -> Open {
        self.ws.inc();
        Open(self.ws.clone())
    }

    pub fn open_phoenix(&self) -> Open {
        self.phoenix.inc();
        Open(self.phoenix.clone())
    }

    pub fn open_entity_sync(&self) -> Open {
        self.entity_sync.inc();
        Open(self.entity_sync.clone())
    }

    pub fn open_socketio(&self) -> Open {
        self.socketio.inc();
        Open(self.socketio.clone())
    }

    /// A message without an action was lost.
    pub fn pass_through_failed(&self) {
        self.pass_through_failed.inc();
    }

    /// A connection found no room.
    pub fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A slow reader goes on from the log.
    pub fn fell_back(&self) {
        self.fell_back.inc();
    }

    /// Events that a stream, now ended, was sent.
    pub fn delivered(&self, events: u64) {
        self.delivered.inc_by(events);
    }

    /// Everything in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(4096);
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("memory");
        text
    }
}

/// What the engine counts itself, asked when somebody looks.
struct Engine(Tidings);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Collector for Engine {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = self.0.counters();
        let destinations = self.0.destinations();
        let deliveries = destinations.counts();
        for (name, help, value) in [
            ("events_published", "Events accepted through publish", counters.published_total()),
            ("events_passed_on", "Events accepted that only pass", counters.passed_on_total()),
            ("events_fired", "Scheduled events whose time came", counters.fired_total()),
            ("webhooks_delivered", "Events that webhooks' receivers took", deliveries.delivered_total()),
            ("webhooks_failed", "Attempts to deliver that failed", deliveries.failed_total()),
            ("webhooks_dead", "Deliveries given up", deliveries.dead_total()),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, value) in [
            ("topics", "Topics that exist", self.0.log().topic_count() as i64),
            ("webhooks_waiting", "Deliveries that will be tried again", deliveries.waiting_now()),
            ("topics_read", "Topics that somebody reads live", self.0.hub().topics_read() as i64),
            ("log_read_only", "1 when the log takes no writes", self.0.log().read_only().is_some().into()),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let clock = self.0.clock().status();
        let is = |state| f64::from(u8::from(clock.state == state));
        for (name, help, value) in [
            ("clock_follows_servers", "1 while time servers set the clock", Some(is(ClockState::Servers))),
            ("clock_fallback", "1 while none does although wanted", Some(is(ClockState::Fallback))),
            ("clock_offset_seconds", "Ahead of the machine's clock", Some(clock.offset_ms / 1000.0)),
            (
                "clock_answer_age_seconds",
                "Since a time server was last believed",
                clock.since_answer.map(|since| since.as_secs_f64()),
            ),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let is_lost = matches!(self.0.entities().bus_status(), Status::Lost { .. });
        let gauge = ConstGauge::new(i64::from(is_lost));
        let help = "1 when the queue between the servers is out of reach";
        gauge.encode(encoder.encode_descriptor("bus_lost", help, None, gauge.metric_type())?)?;
        self.sources(&mut encoder)?;
        self.entities(&mut encoder)
    }
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct Source {
    /// Only configured names, so nobody else can make new series.
    source: String,
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct Entity {
    /// Only configured names, so nobody else can make new series.
    entity: String,
}

impl Engine {
    fn sources(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let all = self.0.sources().statuses();
        if all.is_empty() {
            return Ok(());
        }
        type Of = fn(&SourceStatus) -> Option<f64>;
        let gauges: [(&str, &str, Of); 5] = [
            ("source_streaming", "1 while changes arrive as they are committed", |s| {
                Some(f64::from(u8::from(s.state == SourceState::Streaming)))
            }),
            ("source_lag_bytes", "Written by the database and not yet in the log", |s| {
                s.lag_bytes.map(|n| n as f64)
            }),
            ("source_lag_seconds", "How old the newest change in the log is while more waits", |s| {
                s.lag.map(|lag| lag.as_secs_f64())
            }),
            ("source_retained_bytes", "What the database keeps on its disk for the source", |s| {
                s.retained_bytes.map(|n| n as f64)
            }),
            ("source_retained_alarm", "1 while that is more than the source's `retained_bytes_alarm`", |s| {
                s.retained_bytes.map(|_| f64::from(u8::from(s.is_alarming())))
            }),
        ];
        for (name, help, of) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for status in &all {
                let Some(value) = of(status) else { continue };
                let labels = Source { source: status.name.clone() };
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        type Count = fn(&SourceStatus) -> u64;
        let counters: [(&str, &str, Count); 2] = [
            ("source_events", "Changes captured", |s| s.events),
            ("source_failures", "Connections that broke or were refused", |s| s.failures),
        ];
        for (name, help, of) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &all {
                let labels = Source { source: status.name.clone() };
                ConstCounter::new(of(status)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn entities(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let all = self.0.entities().counts();
        if all.is_empty() {
            return Ok(());
        }
        let label = |name: &TopicName| Entity { entity: name.to_string() };
        type Of = fn(&Counts) -> u64;
        let counters: [(&str, &str, Of); 3] = [
            ("entity_signals", "Changes of entities heard of", |c| c.signals),
            ("entity_fetches", "Times that rows of entities were fetched", |c| c.fetches),
            ("entity_failures", "Fetches that failed, took too long or gave too much", |c| c.failures),
        ];
        for (name, help, of) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (entity, counts) in &all {
                let labels = label(entity);
                ConstCounter::new(of(counts)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Subscriptions to entities open now";
        let mut family = encoder.encode_descriptor("entity_subscriptions", help, None, MetricType::Gauge)?;
        for (entity, counts) in &all {
            let labels = label(entity);
            ConstGauge::new(counts.watchers as i64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
