//! Puts entities together at the start: resolvers, pass-through and bus, from the settings and from the program.
//!
//! Owns: which driver a setting means. Never: speaks to a database or queue itself.

use crate::config::Config;
use crate::{Embedded, Error, drivers};
use std::future::Future;
use std::sync::Arc;
use tidings_engine::bus::Bus;
use tidings_engine::entities::{
    Closure, Outcome, PassThrough, Resolver, Rows, Secret, Settings, ToTopic, follow,
};
use tidings_model::{EntityKey, Topic, TopicName};

/// Why entities cannot be had as they are set.
#[derive(Debug, thiserror::Error)]
pub enum EntitiesError {
    #[error("{place}: {why}")]
    Setting { place: String, why: String },
    #[error("entity {entity}: {source}")]
    Entity { entity: String, source: Error },
}

/// What the program brings itself.
#[derive(Default)]
pub struct Own {
    pub resolvers: Vec<(String, Arc<dyn Resolver>, Settings)>,
    pub pass_through: Option<Arc<dyn PassThrough>>,
    pub bus: Option<Arc<dyn Bus>>,
}

impl Own {
    pub fn fetch<F, Done>(&mut self, entity: &str, fetch: F)
    where
        F: Fn(EntityKey, Secret, Rows) -> Done + Send + Sync + 'static,
        Done: Future<Output: Outcome> + Send + 'static,
    {
        self.resolvers.push((entity.to_owned(), Closure::new(fetch).boxed(), Settings::default()));
    }
}

pub fn refuse(place: impl Into<String>, why: impl ToString) -> EntitiesError {
    EntitiesError::Setting { place: place.into(), why: why.to_string() }
}

/// Configures all entities, and answers where messages are passed through to.
pub async fn start(
    config: &Config,
    own: Own,
    embedded: &Embedded,
) -> Result<Option<Arc<dyn PassThrough>>, EntitiesError> {
    if let Some(why) = config.entities.door.complaint() {
        return Err(refuse("entities.path", why));
    }
    let tidings = embedded.tidings();
    let bus = match own.bus {
        Some(bus) => Some(bus),
        None => match &config.bus.url {
            Some(url) => Some(drivers::bus(url, &config.bus.prefix, embedded)?),
            None => None,
        },
    };
    bus.into_iter().for_each(|bus| tidings.entities().join(bus));
    let origins = drivers::Origins::open(config)?;
    let mut all = own.resolvers;
    let mut follows = Vec::new();
    for (name, entity) in &config.entities.kinds {
        let place = format!("entities.{name}");
        let topic = match &entity.topic {
            None => None,
            Some(topic) => {
                Some(TopicName::parse_captured(topic).map_err(|e| refuse(format!("{place}.topic"), e))?)
            }
        };
        let resolver = match (&entity.http, &entity.database, &topic) {
            (Some(_), None, _) | (None, Some(_), _) => origins.resolver(&place, entity)?,
            (None, None, Some(topic)) => tidings.newest_event(topic.clone()),
            _ => return Err(refuse(place, "one of `http`, `database` and `topic` says where the rows are")),
        };
        follows.extend(topic.map(|topic| (name.clone(), topic)));
        all.push((name.clone(), resolver, entity.settings()));
    }
    // At once: each may have to wait for a queue that does not answer.
    let tasks: Vec<_> = all
        .into_iter()
        .map(|(name, resolver, settings)| {
            let tidings = tidings.clone();
            tokio::spawn(async move {
                let done = async {
                    let entity = TopicName::parse(&name)?;
                    tidings.entities().configure(entity, resolver, settings).await
                };
                done.await.map_err(|source| EntitiesError::Entity { entity: name, source })
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("configuring does not panic")?;
    }
    for (entity, topic) in follows {
        let name = TopicName::parse(&entity).expect("configured before");
        let follows = follow(tidings, embedded.services(), name, topic).await;
        follows.map_err(|source| EntitiesError::Entity { entity, source })?;
    }
    match (own.pass_through, config.entities.pass_through.as_deref()) {
        (Some(to), _) => Ok(Some(to)),
        (None, None) => Ok(None),
        (None, Some(to)) => match to.strip_prefix("topic:") {
            Some(topic) => {
                let topic = Topic::parse(topic).map_err(|e| refuse("entities.pass_through", e))?;
                Ok(Some(Arc::new(ToTopic::new(tidings, topic))))
            }
            None => Ok(Some(origins.pass_through(to)?)),
        },
    }
}
