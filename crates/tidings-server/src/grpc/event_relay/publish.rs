//! `PublishEvents`: answers for each event, in their order.
//!
//! Owns: parting good events from bad ones. The good ones go to the log as one call, or pass to those who listen
//! where they are not to be stored; those that are refused come back with `errors`.

use super::{event, out_of_range, topic};
use crate::Door;
use crate::grpc::status;
use crate::refusal::Refusal;
use tidings_engine::{Error, Fate, Published};
use tidings_model::{NewEvent, Principal, Topic};
use tidings_proto::server::eventrelay as relay;
use tonic::Status;

pub async fn publish(
    door: &Door,
    who: &Principal,
    request: relay::PublishEventsRequest,
) -> Result<relay::PublishEventsResponse, Status> {
    let topic = topic(&request.topic, "publish_events")?;
    check(door, who, &topic, request.events.len())?;
    if request.durable {
        check_room(door, &topic, request.events.len())?;
    }
    let now = door.tidings.clock().now();
    let (mut good, mut answers) = (Vec::new(), Vec::with_capacity(request.events.len()));
    for (index, sent) in request.events.into_iter().enumerate() {
        let new = event::read(&sent, &topic, now);
        let mut answer = event::echo(sent, &topic);
        match new.and_then(|new| acceptable(door, who, new, index)) {
            Ok(new) => {
                answer.occurred_at = new.occurred_at.map(|at| at.to_string()).unwrap_or_default();
                answer.available_at = new.available_at.map(|at| at.to_string()).unwrap_or_default();
                good.push(new);
            }
            Err(errors) => answer.errors = errors,
        }
        answers.push(answer);
    }
    let accepted = answers.iter_mut().filter(|answer| answer.errors.is_empty());
    if request.durable {
        let receipt = door.tidings.publish(who, good).await.map_err(status::of)?;
        accepted.zip(&receipt.events).for_each(|(answer, published)| stamp(answer, published));
    } else {
        let passed = door.tidings.pass_on(who, good).await.map_err(status::of)?;
        accepted.zip(&passed).for_each(|(answer, event)| answer.id = event.id().to_string());
    }
    Ok(relay::PublishEventsResponse { events: answers })
}

/// What holds for all events of the call.
fn check(door: &Door, who: &Principal, topic: &Topic, found: usize) -> Result<(), Status> {
    if topic.name.is_system() {
        return Err(status::of(Error::SystemTopic(topic.name.clone())));
    }
    if !who.may_publish(topic) {
        return Err(status::of(Error::MayNotPublish(topic.clone())));
    }
    let max = door.tidings.limits().batch_events;
    if found > max {
        return Err(status::of(Error::BatchTooLarge { found, max }));
    }
    Ok(())
}

/// Whether the offsets that the events would get fit into this interface's numbers.
fn check_room(door: &Door, topic: &Topic, found: usize) -> Result<(), Status> {
    let tail = door.tidings.log().bounds(&topic.name).map_or(0, |bounds| bounds.tail.0);
    if tail.saturating_add(found as u64) > i32::MAX as u64 {
        return Err(out_of_range("the topic's offsets no longer fit into this interface's numbers"));
    }
    Ok(())
}

/// What holds for one event, whichever door it came through.
fn acceptable(door: &Door, who: &Principal, new: NewEvent, index: usize) -> Result<NewEvent, Vec<String>> {
    let address = new.topic.clone();
    match door.tidings.check(who, &new, index, Some(&address)) {
        Ok(()) => Ok(new),
        Err(Error::Event { source, .. }) => Err(vec![source.to_string()]),
        Err(error) => Err(vec![Refusal::from(error).detail]),
    }
}

fn stamp(answer: &mut relay::Event, published: &Published) {
    answer.id = published.id.to_string();
    if let Fate::Stored { offset, .. } = published.fate {
        answer.offset = i32::try_from(offset.0).unwrap_or_default();
    }
}
