//! Entities without a socket: who fetches when, and who gets what.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_engine::bus::{LocalBus, News, Sink};
use tidings_engine::entities::{Access, Closure, Error, Resolver, Secret, Settings, Wish};
use tidings_engine::{Item, Services, Subscription, Tidings};
use tidings_log::SystemClock;
use tidings_log::memory::MemoryLog;
use tidings_model::{EntityKey, Limits, Principal, TopicName};

async fn hub() -> (Tidings, Services) {
    let limits = Limits::default();
    let hub = Arc::new(tidings_engine::Hub::new(&limits));
    let log = MemoryLog::new(Arc::new(SystemClock), hub.clone());
    let tidings = Tidings::new(Arc::new(log), hub, Arc::new(SystemClock), limits);
    let services = Services::new();
    tidings.start(&services, Duration::from_secs(60));
    (tidings, services)
}

async fn configure(tidings: &Tidings, resolver: Arc<dyn Resolver>) {
    let name = TopicName::parse("items").unwrap();
    tidings.entities().configure(name, resolver, Settings::default()).await.unwrap();
}

fn key(id: &str) -> EntityKey {
    EntityKey::parse("items", id).unwrap()
}

fn watch(tidings: &Tidings, id: &str, secret: &str, state: bool) -> Subscription {
    let mut subscription = tidings.subscription(Arc::new(Principal::admin()));
    subscription.with_entities(tidings.entities(), Access::Open);
    subscription.change_watches(|w| {
        w.set_secret(Secret::new(secret));
        w.watch(&key(id), Wish { state, trouble: true }).unwrap();
    });
    subscription
}

async fn next(subscription: &mut Subscription) -> String {
    let next = tokio::time::timeout(Duration::from_secs(20), subscription.next());
    match next.await.expect("in time").expect("it goes on") {
        Item::Rows(rows) => {
            let rows: Vec<_> = rows.rows.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect();
            rows.join(" ")
        }
        Item::Trouble(trouble) => format!("{:?}", trouble.error),
        _ => panic!("rows are wanted"),
    }
}

#[tokio::test]
async fn one_fetch_serves_everybody_where_the_secret_does_not_matter() {
    let fetches = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&fetches);
    let (tidings, _services) = hub().await;
    let fetch = move |_, secret: Secret, rows: tidings_engine::entities::Rows| {
        assert!(secret.is_empty());
        let n = count.fetch_add(1, Ordering::Relaxed);
        async move { rows.push(n.to_string()) }
    };
    configure(&tidings, Closure::shared(fetch).boxed()).await;
    let mut readers: Vec<_> = (0..1000).map(|n| watch(&tidings, "1", &n.to_string(), false)).collect();
    tidings.notify_changed("items", "1").await.unwrap();
    for reader in &mut readers {
        assert_eq!(next(reader).await, "0");
    }
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn one_fetch_serves_all_with_the_same_secret() {
    let (tidings, _services) = hub().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let fetch = move |_, secret: Secret, rows: tidings_engine::entities::Rows| {
        note.lock().unwrap().push(secret.expose().to_owned());
        async move { rows.push(secret.expose().to_owned()) }
    };
    configure(&tidings, Closure::new(fetch).boxed()).await;
    let secrets = ["a", "b", "a", "b", "a"];
    let mut readers: Vec<_> = secrets.iter().map(|secret| watch(&tidings, "1", secret, false)).collect();
    tidings.notify_changed("items", "1").await.unwrap();
    for (reader, secret) in readers.iter_mut().zip(secrets) {
        assert_eq!(next(reader).await, *secret);
    }
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["a", "b"]);
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again_and_a_refusal_is_final() {
    let (tidings, _services) = hub().await;
    let tries = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&tries);
    let fetch = move |key: EntityKey, _, rows: tidings_engine::entities::Rows| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        async move {
            match (key.id.as_str(), n) {
                ("secret", _) => Err(Error::Refused),
                (_, 0) => panic!("a resolver's own mistake"),
                (_, 1) => Err(Error::Failed("the database is away".into())),
                _ => rows.push("there"),
            }
        }
    };
    configure(&tidings, Closure::new(fetch).boxed()).await;
    let mut reader = watch(&tidings, "1", "", false);
    tidings.notify_changed("items", "1").await.unwrap();
    assert!(next(&mut reader).await.contains("panicked"));
    assert!(next(&mut reader).await.contains("away"));
    assert_eq!(next(&mut reader).await, "there");
    let before = tries.load(Ordering::Relaxed);
    let refused = tidings.entities().rows(&key("secret"), Secret::default()).await;
    assert!(matches!(refused, Err(tidings_engine::Error::Rows(Error::Refused))));
    assert_eq!(tries.load(Ordering::Relaxed), before + 1);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_given_up() {
    struct Guard(Arc<AtomicU64>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (tidings, services) = hub().await;
    let (begun, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (begin, end) = (Arc::clone(&begun), Arc::clone(&ended));
    let fetch = move |_, _, _| {
        begin.fetch_add(1, Ordering::SeqCst);
        let guard = Guard(Arc::clone(&end));
        async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        }
    };
    configure(&tidings, Closure::new(fetch).boxed()).await;
    let reader = watch(&tidings, "1", "", true);
    let is = |counter: Arc<AtomicU64>, n| async move {
        while counter.load(Ordering::SeqCst) != n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is(begun, 1)).await.expect("it begins");
    drop(reader);
    tokio::time::timeout(Duration::from_secs(10), is(ended, 1)).await.expect("it is dropped");
    assert_eq!(tidings.entities().counts()[0].1.watchers, 0);
    assert!(services.drain(Duration::from_secs(5)).await, "nothing is left running");
}

#[tokio::test]
async fn a_bus_that_was_away_has_everything_fetched_anew() {
    /// Hands out the sink it was given.
    struct Handed(LocalBus, Mutex<Option<Arc<dyn Sink>>>);
    impl tidings_engine::bus::Bus for Handed {
        fn publish(&self, signal: tidings_engine::bus::Signal) -> tidings_engine::bus::Answer<'_, ()> {
            self.0.publish(signal)
        }
        fn subscribe(&self, entity: &TopicName, sink: Arc<dyn Sink>) -> tidings_engine::bus::Answer<'_, ()> {
            *self.1.lock().unwrap() = Some(Arc::clone(&sink));
            self.0.subscribe(entity, sink)
        }
        fn status(&self) -> tokio::sync::watch::Receiver<tidings_engine::bus::Status> {
            self.0.status()
        }
    }
    let (tidings, _services) = hub().await;
    let bus = Arc::new(Handed(LocalBus::new(), Mutex::default()));
    tidings.entities().join(bus.clone());
    configure(
        &tidings,
        Closure::new(|key: EntityKey, _, rows: tidings_engine::entities::Rows| async move {
            rows.push(key.id.as_str().to_owned())
        })
        .boxed(),
    )
    .await;
    let mut readers = [watch(&tidings, "1", "", false), watch(&tidings, "2", "", false)];
    let sink = bus.1.lock().unwrap().clone().unwrap();
    sink.hear(News::Missed(TopicName::parse("items").unwrap()));
    for (reader, id) in readers.iter_mut().zip(["1", "2"]) {
        assert_eq!(next(reader).await, id);
    }
}

/// Whatever the timing: changes while fetches run, readers that come late and step slowly; the last state arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_state_always_arrives_and_states_never_go_back() {
    for seed in 0..20u64 {
        let stored = Arc::new(AtomicU64::new(0));
        let fetched = Arc::clone(&stored);
        let (tidings, _services) = hub().await;
        let fetch = move |_, _, rows: tidings_engine::entities::Rows| {
            let fetched = Arc::clone(&fetched);
            async move {
                let now = fetched.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_micros((now * 7919 + seed) % 400)).await;
                rows.push(now.to_string())
            }
        };
        configure(&tidings, Closure::new(fetch).boxed()).await;
        const LAST: u64 = 100;
        let readers: Vec<_> = (0..8u64)
            .map(|n| {
                let tidings = tidings.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(n * 900)).await;
                    let mut reader = watch(&tidings, "1", "", true);
                    let mut before = 0;
                    while before < LAST {
                        let state: u64 = next(&mut reader).await.parse().expect("a number");
                        assert!(state >= before, "seed {seed}: {state} after {before}");
                        before = state;
                        tokio::time::sleep(Duration::from_micros((state * 31 + n) % 700)).await;
                    }
                })
            })
            .collect();
        for n in 1..=LAST {
            stored.store(n, Ordering::SeqCst);
            tidings.notify_changed("items", "1").await.unwrap();
            tokio::time::sleep(Duration::from_micros((n * 13 + seed) % 200)).await;
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}
