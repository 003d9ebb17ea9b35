//! How long a topic's events are kept, and what else is set for a topic.

use crate::rules::check_filter;
use crate::schema::TopicSchemas;
use crate::{Error, NamedTopic, Services, Tidings, delivery};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tidings_log::{Batch, Bounds, RegistryChange, Trim};
use tidings_model::{Offset, Principal, RowRule, Topic, TopicName};

pub(crate) const KIND: &str = "topic";

/// Bounds on what is kept of a topic; an absent one does not bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
}

/// What an admin sets for a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    pub retention: Retention,
    /// Whether the newest event of each key outlives retention.
    pub state: bool,
    /// Whether Broker's interface reaches the topic; set when it is first used there, and left as it is where
    /// settings do not mention it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<bool>,
    /// Who may see an event: whoever's id stands in one of these columns of its data. Without one everyone with
    /// the grant may, and nobody where the topic holds captured rows. Left as it is where settings do not mention it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_rule: Option<RowRule>,
    /// Columns taken out of data before it is stored; left as they are where settings do not mention them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_columns: Option<Vec<Box<str>>>,
    /// What the data of events must fulfil, by their name; `*` is for all names without a schema of their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, Value>,
}

/// How long the history of the schedule is kept where nothing else is set; what is coming up stays in State.
const SCHEDULE_AGE_MS: u64 = 7 * 86_400_000;
const SCHEDULE_EVENTS: u64 = 1_000_000;
/// The same for destinations: their trouble, and what was delivered.
const TROUBLES_AGE_MS: u64 = 30 * 86_400_000;
const DELIVERIES_AGE_MS: u64 = 7 * 86_400_000;
const DELIVERIES_EVENTS: u64 = 1_000_000;
/// How long and how much of what was refused is kept where nothing else is set.
const DEAD_AGE_MS: u64 = 7 * 86_400_000;
const DEAD_EVENTS: u64 = 1_000_000;
const DEAD_BYTES: u64 = 256 << 20;

impl TopicSettings {
    /// What holds for a topic while nothing was set.
    fn initial(name: &TopicName) -> Self {
        let mut settings = Self::default();
        if name.is_schedule() {
            settings.retention.age_ms = Some(SCHEDULE_AGE_MS);
            settings.retention.events = Some(SCHEDULE_EVENTS);
        }
        let [troubles, deliveries] = delivery::topics();
        if *name == troubles {
            settings.retention.age_ms = Some(TROUBLES_AGE_MS);
            settings.retention.events = Some(SCHEDULE_EVENTS);
        }
        if *name == deliveries {
            settings.retention.age_ms = Some(DELIVERIES_AGE_MS);
            settings.retention.events = Some(DELIVERIES_EVENTS);
        }
        if name.is_dead() {
            let (age_ms, events, bytes) = (Some(DEAD_AGE_MS), Some(DEAD_EVENTS), Some(DEAD_BYTES));
            settings.retention = Retention { age_ms, bytes, events };
        }
        settings
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            state: true,
            broker: None,
            row_rule: None,
            filter_columns: None,
            schemas: BTreeMap::new(),
        }
    }
}

pub(crate) fn start(tidings: &Tidings, services: &Services, every: Duration) {
    let (tidings, stop) = (tidings.clone(), services.stop().clone());
    services.spawn("retention", async move {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            if let Err(error) = tidings.retain().await {
                tracing::warn!(%error, "retention could not be applied, trying again later");
            }
        }
    });
}

impl Tidings {
    /// Reads which topics have schemas.
    pub async fn load_schemas(&self) -> Result<(), Error> {
        for (key, value) in self.log().registry(KIND).await? {
            if let Ok(name) = TopicName::parse_captured(&key) {
                let schemas = parse(&value)?.schemas;
                self.schemas().set(&name, TopicSchemas::stored(&schemas));
            }
        }
        Ok(())
    }

    /// The settings of a topic; defaults where none were made.
    pub async fn topic_settings(&self, name: &TopicName) -> Result<TopicSettings, Error> {
        match self.log().registered(KIND, name.as_str()).await? {
            None => Ok(TopicSettings::initial(name)),
            Some(bytes) => parse(&bytes),
        }
    }

    /// A topic's bounds, `None` before its first event, and its settings.
    ///
    /// # Errors
    /// Without a grant that concerns the topic; when there is neither an event nor a setting.
    pub async fn topic(
        &self,
        who: &Principal,
        name: &TopicName,
    ) -> Result<(Option<Bounds>, TopicSettings), Error> {
        if !who.is_admin && !who.subscribe.touch(name) {
            return Err(Error::MayNotSubscribe(Topic::whole(name.clone())));
        }
        let (bounds, settings) = (self.log().bounds(name), self.topic_settings(name).await?);
        if bounds.is_none() && settings == TopicSettings::initial(name) {
            return Err(Error::TopicUnknown(name.clone()));
        }
        Ok((bounds, settings))
    }

    /// Sets retention, schemas and the like for a topic, also for one that does not exist yet. Applied within a minute.
    pub async fn set_topic(
        &self,
        who: &Principal,
        name: &TopicName,
        settings: &TopicSettings,
    ) -> Result<(), Error> {
        admin(who)?;
        if self.log().bounds(name).is_none() && self.owners().of(name).is_none() {
            name.check_new()?;
        }
        check_filter(settings.filter_columns.as_deref().unwrap_or_default())?;
        if name.is_system() && (settings.row_rule.is_some() || settings.filter_columns.is_some()) {
            return Err(Error::SystemTopic(name.clone()));
        }
        let refuse = |(name, source)| Error::TopicSchema { name, source };
        let schemas = TopicSchemas::new(&settings.schemas).map_err(refuse)?;
        // Who sets how long events are kept must not open a topic by the way.
        let known = self.topic_settings(name).await?;
        let mut settings = settings.clone();
        settings.broker = settings.broker.or(known.broker);
        settings.row_rule = settings.row_rule.or(known.row_rule);
        settings.filter_columns = settings.filter_columns.or(known.filter_columns);
        let value = serde_json::to_vec(&settings).expect("plain fields");
        let change =
            RegistryChange { kind: KIND.into(), key: name.as_str().into(), value: Some(value.into()) };
        self.log().commit(Batch { registry: vec![change], ..Batch::default() }).await?;
        self.reach().mark(name, settings.broker == Some(true));
        self.rules_set(name, &settings);
        self.schemas().set(name, schemas);
        self.hub().tell(name);
        Ok(())
    }

    /// Ends a topic: its events, State and settings go. A later publish starts a new epoch.
    pub async fn drop_topic(&self, who: &Principal, name: &TopicName) -> Result<(), Error> {
        admin(who)?;
        if name.is_system() {
            return Err(Error::SystemTopic(name.clone()));
        }
        let mut count = self.directory().lock().await;
        let named = self.named_topic(name).await?;
        let exists = self.log().bounds(name).is_some();
        if !exists && named.is_none() {
            return Err(Error::TopicUnknown(name.clone()));
        }
        let mut registry = vec![RegistryChange { kind: KIND.into(), key: name.as_str().into(), value: None }];
        registry.extend(named.iter().flat_map(NamedTopic::remove));
        let drops = if exists { vec![name.clone()] } else { Vec::new() };
        self.log().commit(Batch { drops, registry, ..Batch::default() }).await?;
        *count = count.map(|count| count - named.iter().count());
        drop(count);
        self.reach().mark(name, false);
        self.rules_set(name, &TopicSettings::default());
        self.schemas().set(name, TopicSchemas::default());
        self.hub().tell(name);
        Ok(())
    }

    /// Applies every topic's retention once.
    pub async fn retain(&self) -> Result<(), Error> {
        // They have bounds without a setting.
        let [troubles, deliveries] = delivery::topics();
        let own = [TopicName::schedule(), TopicName::dead(), troubles, deliveries];
        let mut all = Vec::new();
        for name in &own {
            all.push((name.clone(), self.topic_settings(name).await?));
        }
        for (key, value) in self.log().registry(KIND).await? {
            match TopicName::parse_captured(&key) {
                Ok(name) if !own.contains(&name) => all.push((name, parse(&value)?)),
                _ => {}
            }
        }
        for (name, settings) in all {
            self.retain_topic(name, &settings).await?;
        }
        Ok(())
    }

    async fn retain_topic(&self, name: TopicName, settings: &TopicSettings) -> Result<(), Error> {
        let Some(bounds) = self.log().bounds(&name) else { return Ok(()) };
        let mut last_gone = Offset(bounds.oldest.0 - 1);
        if let Some(events) = settings.retention.events {
            last_gone = last_gone.max(Offset(bounds.tail.0.saturating_sub(events)));
        }
        if let Some(age_ms) = settings.retention.age_ms {
            let since = self.clock().now().plus_millis(-i64::try_from(age_ms).unwrap_or(i64::MAX));
            last_gone = last_gone.max(self.log().at_time(&name, since).await?);
        }
        if let Some(bytes) = settings.retention.bytes {
            last_gone = last_gone.max(self.log().at_size(&name, bytes).await?);
        }
        if last_gone.next() > bounds.oldest {
            let trim = Trim { topic: name, oldest: last_gone.next(), keep_state: settings.state };
            self.log().commit(Batch { trims: vec![trim], ..Batch::default() }).await?;
        }
        Ok(())
    }
}

fn admin(who: &Principal) -> Result<(), Error> {
    if who.is_admin { Ok(()) } else { Err(Error::AdminOnly) }
}

fn parse(bytes: &[u8]) -> Result<TopicSettings, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Settings { field: "topic", why: e.to_string() })
}
