//! A change event on a topic is a change of the entity that its key names.
//!
//! Owns: one reader for each entity that follows a topic. A reader that lost its place says so, and then every
//! watched entity is fetched anew; so they are when the topic's table was emptied. A key that holds encoded
//! characters names two: itself and, as the application writes its ids, what it stands for. That something changed is
//! told whoever may see it: the resolver decides about rows.

use crate::bus::Status;
use crate::{Error, Item, Services, Tidings};
use std::sync::Arc;
use tidings_model::{EntityKey, Filter, From, Key, Principal, Topic, TopicName};

/// Tells of a change of `entity` for every event with a key on `topic` that is published from now on.
///
/// # Errors
/// When the topic cannot be read.
pub async fn follow(
    tidings: &Tidings,
    services: &Services,
    entity: TopicName,
    topic: TopicName,
) -> Result<(), Error> {
    let who = Arc::new(Principal::admin());
    let topics = vec![Topic::whole(topic)];
    let mut events = tidings.subscribe(who, topics, &From::Latest, &Filter::default()).await?;
    let (tidings, stop) = (tidings.clone(), services.stop().clone());
    services.spawn("follow", async move {
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = events.next() => next,
            };
            match next {
                Ok(Item::Events(batch)) => {
                    if batch.entries.iter().any(|e| e.event.record().truncates()) {
                        tidings.entities().all_changed(&entity);
                    }
                    let keys = batch.entries.iter().filter_map(|e| Key::parse(e.event.key()?).ok());
                    let ids: Vec<Key> = keys.flat_map(|key| [key.decoded(), Some(key)]).flatten().collect();
                    for id in ids {
                        tell(&tidings, EntityKey { entity: entity.clone(), id }).await;
                    }
                }
                Ok(Item::Gap(_)) => tidings.entities().all_changed(&entity),
                Ok(Item::Passing(_) | Item::Live(_) | Item::Rows(_) | Item::Trouble(_)) => {}
                Err(error) => {
                    tracing::error!(%error, %entity, "an entity no longer follows its topic");
                    return;
                }
            }
        }
    });
    Ok(())
}

async fn tell(tidings: &Tidings, key: EntityKey) {
    let entities = tidings.entities();
    if matches!(entities.bus_status(), Status::Lost { .. }) {
        // Other nodes fetch everything anew when the bus is back; waiting for it would hold up this one.
        entities.changed_here(&key);
    } else if let Err(error) = entities.notify_changed(key).await {
        tracing::debug!(%error, "a change was told to this server only");
    }
}
