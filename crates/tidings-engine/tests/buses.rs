//! The buses of this crate pass the suite that every bus must pass.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tidings_engine::bus::conformance::{Done, Rig, suite};
use tidings_engine::bus::{Bus, LocalBus, Own, OwnQueue};

struct Local(LocalBus);

impl Rig for Local {
    fn node(&mut self) -> Done<'_, Arc<dyn Bus>> {
        Box::pin(async { Arc::new(self.0.clone()) as Arc<dyn Bus> })
    }

    fn kill(&mut self) -> Done<'_, bool> {
        Box::pin(async { false })
    }

    fn restart(&mut self) -> Done<'_, ()> {
        Box::pin(async {})
    }
}

/// A program's queue: lists of subscribers by topic.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<HashMap<String, Vec<Own>>>>);

impl Rig for Queue {
    fn node(&mut self) -> Done<'_, Arc<dyn Bus>> {
        let (out, back) = (self.clone(), self.clone());
        let publish = move |topic: String, message: bytes::Bytes| {
            let to = out.0.lock().unwrap().get(&topic).cloned().unwrap_or_default();
            to.iter().for_each(|own| own.message(&message));
            std::future::ready(Ok::<(), String>(()))
        };
        let subscribe = move |topic: String, own: Own| {
            back.0.lock().unwrap().entry(topic).or_default().push(own);
            std::future::ready(Ok::<(), String>(()))
        };
        Box::pin(async { Arc::new(OwnQueue::new(publish, subscribe)) as Arc<dyn Bus> })
    }

    fn kill(&mut self) -> Done<'_, bool> {
        Box::pin(async { false })
    }

    fn restart(&mut self) -> Done<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_within_a_process_conforms() {
    suite(&mut Local(LocalBus::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_of_two_functions_conforms() {
    suite(&mut Queue::default()).await;
}
