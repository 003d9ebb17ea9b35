//! The bytes that are written by hand, read by the messages that are generated.

use super::{METHODS, protobuf};
use proptest::prelude::*;
use prost::Message as _;
use std::collections::BTreeSet;
use tidings_engine::Entry;
use tidings_model::{Attributes, Epoch, Event, NewEvent, Offset, RecordWriter, Timestamp, Topic, Uuid};
use tidings_proto::client::{eventrelay, tidings::v1};

fn any_event() -> impl Strategy<Value = NewEvent> {
    let text = || prop::option::of("[a-zé]{1,20}".prop_map(String::into_boxed_str));
    let time = || {
        prop::option::of(
            (-62_000_000_000_000i64..250_000_000_000_000).prop_map(|ms| Timestamp::from_millis(ms).unwrap()),
        )
    };
    let data = prop::option::of("\"[a-z]{0,400}\"".prop_map(bytes::Bytes::from));
    let context = prop::option::of(r#"\{"a":"[a-z]{0,200}"\}"#.prop_map(bytes::Bytes::from));
    let attributes = (text(), text(), prop::option::of(any::<bool>()));
    let key = prop::option::of("[a-z]{1,9}");
    ((text(), text(), text(), time(), time()), data, context, attributes, key, any::<bool>()).prop_map(
        |((name, source, user, occurred_at, available_at), data, context, own, key, deleted)| NewEvent {
            name,
            source,
            user,
            occurred_at,
            available_at,
            data,
            context,
            attributes: Attributes {
                group_key: own.0,
                prev_id: own.1,
                verified: own.2,
                ..Attributes::default()
            },
            deleted: deleted && key.is_some(),
            ..NewEvent::new(
                Topic::parse(&key.map_or("users".to_owned(), |key| format!("users:{key}"))).unwrap(),
                bytes::Bytes::new(),
            )
        },
    )
}

fn stored(new: &NewEvent, offset: u64) -> Event {
    let record = RecordWriter::encode(new, Uuid::from_u128(7));
    Event::new(new.topic.name.clone(), Epoch(3), Offset(offset), record.into()).unwrap()
}

fn millis(at: &Option<prost_types::Timestamp>) -> Option<i64> {
    at.as_ref().map(|at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000)
}

proptest! {
    #[test]
    fn an_event_comes_out_as_it_went_in(new in any_event(), offset in 1u64..u64::MAX) {
        let entry = Entry::new(stored(&new, offset));
        let bytes = protobuf::subscribed(&entry, None).encode_to_vec();
        let read = v1::SubscribeResponse::decode(&bytes[..]).unwrap();
        let Some(v1::subscribe_response::Item::Event(event)) = read.item else { panic!("{read:?}") };
        prop_assert_eq!(&read.cursor, &crate::wire::own_cursor(&entry.event).to_string());
        prop_assert_eq!(event.topic, new.topic.to_string());
        prop_assert_eq!(event.id, Uuid::from_u128(7).to_string());
        prop_assert_eq!(event.offset, offset);
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
        prop_assert_eq!(event.key, new.topic.key.as_ref().map_or("", |key| key.as_str()));
        prop_assert_eq!(event.name, text(&new.name));
        prop_assert_eq!(event.source, text(&new.source));
        prop_assert_eq!(event.user, text(&new.user));
        prop_assert_eq!(millis(&event.occurred_at), new.occurred_at.map(Timestamp::as_millis));
        prop_assert_eq!(millis(&event.available_at), new.available_at.map(Timestamp::as_millis));
        prop_assert_eq!(millis(&event.published_at), Some(0));
        prop_assert_eq!(event.data.map(bytes::Bytes::from), new.data.clone());
        prop_assert_eq!(event.context.map(bytes::Bytes::from), new.context.clone());
        prop_assert_eq!(event.group_key.map(String::into_boxed_str), new.attributes.group_key.clone());
        prop_assert_eq!(event.prev_id.map(String::into_boxed_str), new.attributes.prev_id.clone());
        prop_assert_eq!(event.verified, new.attributes.verified);
        prop_assert_eq!(event.deleted, new.deleted);
    }

    #[test]
    fn a_page_for_event_relay_holds_what_was_sent(new in any_event(), offset in 1i32..i32::MAX) {
        let page = protobuf::relay_page(&[stored(&new, offset as u64)], |out| protobuf::number(out, 2, 9));
        let page = eventrelay::PullEventsResponse::decode(&page.encode_to_vec()[..]).unwrap();
        prop_assert_eq!(page.total_count, 9);
        let event = &page.events[0];
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
        prop_assert_eq!(&event.topic, &new.topic.to_string());
        prop_assert_eq!(&event.user_key, &text(&new.user));
        prop_assert_eq!(&event.group_key, &text(&new.attributes.group_key));
        prop_assert_eq!(&event.prev_id, &text(&new.attributes.prev_id));
        prop_assert_eq!(event.context.is_empty(), new.context.is_none());
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        prop_assert_eq!(&event.occurred_at, &time(new.occurred_at));
        prop_assert_eq!(&event.available_at, &time(new.available_at));
        prop_assert_eq!(event.offset, offset);
    }

    #[test]
    fn no_bytes_make_an_event_that_breaks_a_rule(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use tidings_proto::server::eventrelay as relay;
        if let Ok(request) = relay::PublishEventsRequest::decode(&bytes[..]) {
            let topic = Topic::parse("t").unwrap();
            for event in &request.events {
                if let Ok(new) = super::event_relay::read(event, &topic, Timestamp::default()) {
                    stored(&new, 1);
                }
            }
        }
    }

    #[test]
    fn whatever_fields_a_client_fills_an_event_is_taken_or_refused(
        texts in prop::collection::vec("\\PC{0,12}|\\{\"a\":[0-9a-f]{0,3}\\}|20[0-9]{2}-01-01T00:00:00Z|[\\x00-\\x7f]{0,5}", 13),
        seconds in any::<i64>(),
        nanos in any::<i32>(),
    ) {
        use tidings_proto::server::{eventrelay as relay, tidings::v1};
        let text = |i: usize| texts[i].clone();
        let topic = Topic::parse("t").unwrap();
        let event = relay::NewEvent {
            name: text(0), data: text(1), source: text(2), group_key: text(3), user_key: text(4),
            occurred_at: text(5), available_at: text(6), context: [(text(7), text(8))].into(),
            ..Default::default()
        };
        if let Ok(new) = super::event_relay::read(&event, &topic, Timestamp::default()) {
            let data: serde_json::Value = serde_json::from_slice(new.data.as_ref().unwrap()).unwrap();
            prop_assert!(data.is_object());
            prop_assert!(new.check().is_ok());
            stored(&new, 1);
        }
        let at = prost_types::Timestamp { seconds, nanos };
        let event = v1::NewEvent {
            topic: text(0), key: text(1), id: text(2), name: text(3), data: Some(text(4)),
            context: Some(text(5)), occurred_at: Some(at), ..Default::default()
        };
        if let Ok(new) = super::native::read(event, Some(&topic), 0)
            && new.check().is_ok()
        {
            stored(&new, 1);
        }
    }
}

#[test]
fn a_readers_own_cursor_counts_instead_of_the_shared_one() {
    let entry = Entry::new(stored(&NewEvent::new(Topic::parse("a").unwrap(), "1"), 1));
    let mut own = crate::wire::own_cursor(&entry.event);
    own.positions[0].offset = Offset(99);
    let bytes = protobuf::subscribed(&entry, Some(&own)).encode_to_vec();
    assert_eq!(v1::SubscribeResponse::decode(&bytes[..]).unwrap().cursor, own.to_string());
}

#[test]
fn the_table_holds_every_method_that_is_described() {
    let files = prost_types::FileDescriptorSet::decode(tidings_proto::DESCRIPTORS).unwrap();
    let mut described = BTreeSet::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                described.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    let own = METHODS.iter().filter(|m| !m.starts_with("/grpc.")).map(ToString::to_string);
    let table: BTreeSet<String> = own.chain(NOT_SERVED.iter().map(ToString::to_string)).collect();
    assert_eq!(described, table);
}

/// Declared because clients are generated from the whole file; answered with UNIMPLEMENTED.
const NOT_SERVED: &[&str] = &[
    "/eventrelay.Metrics/ListMetrics",
    "/eventrelay.Metrics/GetMetric",
    "/eventrelay.Metrics/CreateMetric",
    "/eventrelay.Metrics/DeleteMetric",
    "/eventrelay.Metrics/GetMetricValue",
    "/eventrelay.Events/PullQueuedEvents",
    "/eventrelay.Events/UnLockQueuedEvents",
    "/eventrelay.Destinations/ListDestinations",
    "/eventrelay.Destinations/GetDestination",
    "/eventrelay.Destinations/CreateDestination",
    "/eventrelay.Destinations/DeleteDestination",
    "/eventrelay.ApiKeys/CreateApiKey",
    "/eventrelay.ApiKeys/RevokeApiKey",
    "/eventrelay.ApiKeys/AddDestinationsToApiKey",
    "/eventrelay.ApiKeys/DeleteDestinationsFromApiKey",
    "/eventrelay.ApiKeys/AddTopicsToApiKey",
    "/eventrelay.ApiKeys/DeleteTopicsFromApiKey",
    "/eventrelay.JWT/CreateJWT",
];
