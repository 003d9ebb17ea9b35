//! Clients that stop reading while ten thousand rows change, whatever database holds the rows.

use super::protocol::{Socket, socket, text};
use super::*;
use futures_util::SinkExt as _;
use tokio_tungstenite::tungstenite::Message;

pub const ROWS: i64 = 10_000;
const STUCK: usize = 20;
/// Each of those who stop lacks about 20 MB.
const GROWN_KIB_MAX: u64 = 100 << 10;

/// Others are told everything, memory stays bounded, and whoever reads on gets everything in order. `write` inserts rows
/// 1 to [`ROWS`] into `news`, which is for everybody, each with a text of 1,000 bytes.
pub async fn hold_up_nobody(server: &Server, write: impl Future<Output = ()>) {
    let mut stuck: Vec<Socket> = Vec::new();
    for _ in 0..STUCK {
        let mut ws = socket(server, "EIO=4&transport=websocket").await;
        ws.send(Message::text(r#"40{"token":"t99"}"#)).await.unwrap();
        while !text(&mut ws).await.unwrap().starts_with(r#"42["connected""#) {}
        stuck.push(ws);
    }
    let mut clients = Clients::node();
    clients.enter("live", &server.url(""), Way::WebSocket, "t100").await;
    let before = server.rss_kib();
    write.await;
    for id in 1..=ROWS {
        assert_eq!(clients.event("live", "changes").await["args"][0]["data"]["id"], id);
        clients.event("live", "news").await;
    }
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < GROWN_KIB_MAX, "{grown} KiB more");
    let mut id = 1;
    while id <= ROWS {
        let frame = text(&mut stuck[0]).await.unwrap();
        if let Some(told) = frame.strip_prefix(r#"42["changes","#) {
            assert!(told.contains(&format!("\"id\":{id},")), "{id}: {told}");
            id += 1;
        }
    }
    clients.end().await;
}
