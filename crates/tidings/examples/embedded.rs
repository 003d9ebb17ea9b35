//! Tidings inside a program, without a server: publish, subscribe, resume.

use std::sync::Arc;
use tidings::{Embedded, Filter, From, Item, NewEvent, Principal, Topic};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run().await
}

pub async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let me = Principal::admin();
    let orders = Topic::parse("orders")?;

    let hub = Embedded::open(dir.path()).await?;
    let first = NewEvent::new(Topic::parse("orders:17")?, r#"{"state":"placed"}"#);
    let second = NewEvent::new(Topic::parse("orders:17")?, r#"{"state":"shipped"}"#);
    let receipt = hub.publish(&me, vec![first]).await?;
    let behind_the_first = receipt.cursor();
    hub.publish(&me, vec![second]).await?;
    // Everything acknowledged is on stable storage: it is all there when the directory is opened again.
    hub.close().await?;

    let hub = Embedded::open(dir.path()).await?;
    let from = From::Cursor(behind_the_first);
    let mut events =
        hub.subscribe(Arc::new(me.clone()), vec![orders.clone()], &from, &Filter::default()).await?;
    hub.publish(&me, vec![NewEvent::new(orders, r#""all done""#)]).await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Item::Events(batch) = events.next().await? {
            for entry in batch.entries {
                println!("{}", entry.event.to_json());
                seen.push(entry.event.data().unwrap_or_default().to_owned());
            }
        }
    }
    assert_eq!(seen, [r#"{"state":"shipped"}"#, r#""all done""#]);
    drop(events);
    hub.close().await?;
    Ok(())
}
