//! Connections whose frames are written by hand, over memory instead of a socket.

use super::frame::{self, HEAD, Head, PAYLOAD_MAX, PREFACE, Reason, flag, kind};
use super::windows::{CONNECTION_WINDOW, STREAM_WINDOW};
use super::{Answer, Answering, Answers, Connection, Incoming, Times, hpack};
use crate::looks::Looks;
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use proptest::prelude::*;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;

/// Gives every body back, but for requests to `/hold`, whose bodies it never reads.
struct Echo;

impl Answers for Echo {
    type Known = Infallible;

    fn answer(&self, request: Request<Incoming>) -> Answering {
        Box::pin(async move {
            match request.uri().path() {
                "/hold" => {
                    let _held = request;
                    pending().await
                }
                "/panic" => panic!("as if an answer had a fault"),
                _ => Answer::Response(Response::new(Body::new(request.into_body()))),
            }
        })
    }

    fn known(&self, _: &Request<()>) -> Option<Arc<Infallible>> {
        None
    }

    fn again(&self, known: &Arc<Infallible>, _: Bytes) -> Answering {
        match **known {}
    }
}

/// A connection, and its client's end.
fn connection() -> (Connection<DuplexStream, Echo>, DuplexStream) {
    let (client, server) = tokio::io::duplex(1 << 20);
    (served(server), client)
}

fn served(server: DuplexStream) -> Connection<DuplexStream, Echo> {
    let within = Duration::from_secs(60);
    let looks = Looks::new(&CancellationToken::new(), within);
    let times = Times { ping: within, read: within, write: within };
    Connection::new(server, Echo, looks, times)
}

/// A client that has said hello.
async fn greeted() -> DuplexStream {
    let (mut connection, mut client) = connection();
    tokio::spawn(async move { poll_fn(|cx| connection.poll(cx)).await });
    let mut hello = PREFACE.to_vec();
    frame::put_settings(&mut hello, &[]);
    frame::put_window(&mut hello, 0, 1 << 30);
    client.write_all(&hello).await.unwrap();
    client
}

fn post(stream: u32, path: &str) -> Vec<u8> {
    let (mut block, mut out) = (b"\x83\x86".to_vec(), Vec::new());
    hpack::put(&mut block, b":path", path.as_bytes(), false);
    frame::put_block(&mut out, stream, 0, &block);
    out
}

async fn next(client: &mut DuplexStream) -> Option<(Head, Vec<u8>)> {
    let mut head = [0; HEAD];
    client.read_exact(&mut head).await.ok()?;
    let head = Head::read(&head).unwrap();
    let mut payload = vec![0; head.len];
    client.read_exact(&mut payload).await.ok()?;
    Some((head, payload))
}

/// The next frame of that kind: its stream and its payload.
async fn until(client: &mut DuplexStream, kind: u8) -> (u32, Vec<u8>) {
    loop {
        let (head, payload) = next(client).await.expect("the connection goes on");
        if head.kind == kind {
            return (head.stream, payload);
        }
    }
}

async fn send(client: &mut DuplexStream, stream: u32, mut bytes: usize) {
    while bytes > 0 {
        let part = bytes.min(PAYLOAD_MAX);
        let mut out = Vec::new();
        frame::put(&mut out, kind::DATA, 0, stream, &vec![0; part]);
        client.write_all(&out).await.unwrap();
        bytes -= part;
    }
}

const FLOW_CONTROL: [u8; 4] = (Reason::FlowControl as u32).to_be_bytes();

#[tokio::test]
async fn a_stream_takes_a_window_and_no_more() {
    let mut client = greeted().await;
    client.write_all(&post(1, "/hold")).await.unwrap();
    send(&mut client, 1, STREAM_WINDOW as usize).await;
    let mut ping = Vec::new();
    frame::put(&mut ping, kind::PING, 0, 0, b"is there");
    client.write_all(&ping).await.unwrap();
    // Nothing was read, so nothing is given back.
    loop {
        let (head, _) = next(&mut client).await.unwrap();
        assert_ne!((head.kind, head.stream), (kind::WINDOW_UPDATE, 1));
        if head.kind == kind::PING {
            break;
        }
    }
    send(&mut client, 1, 1).await;
    assert_eq!(until(&mut client, kind::RST_STREAM).await, (1, FLOW_CONTROL.to_vec()));
    // What nobody has read of it goes back to the connection, for others.
    for stream in [3, 5, 7] {
        client.write_all(&post(stream, "/")).await.unwrap();
        send(&mut client, stream, 1 << 19).await;
    }
    assert_eq!(until(&mut client, kind::HEADERS).await.0, 3);
}

#[tokio::test]
async fn a_connection_takes_a_window_and_no_more() {
    let mut client = greeted().await;
    for stream in [1, 3] {
        client.write_all(&post(stream, "/hold")).await.unwrap();
        send(&mut client, stream, (CONNECTION_WINDOW / 2) as usize).await;
    }
    client.write_all(&post(5, "/hold")).await.unwrap();
    send(&mut client, 5, 1).await;
    assert_eq!(until(&mut client, kind::GOAWAY).await.1[4..], FLOW_CONTROL);
    while next(&mut client).await.is_some() {}
}

#[tokio::test]
async fn an_answer_with_a_fault_ends_alone() {
    let mut client = greeted().await;
    client.write_all(&post(1, "/")).await.unwrap();
    client.write_all(&[post(3, "/panic"), post(5, "/panic")].concat()).await.unwrap();
    let internal = (Reason::Internal as u32).to_be_bytes();
    let mut ended = [until(&mut client, kind::RST_STREAM).await, until(&mut client, kind::RST_STREAM).await];
    ended.sort();
    assert_eq!(ended, [(3, internal.to_vec()), (5, internal.to_vec())]);
    let mut more = Vec::new();
    frame::put(&mut more, kind::DATA, flag::END_STREAM, 1, b"back");
    client.write_all(&more).await.unwrap();
    assert_eq!(until(&mut client, kind::DATA).await, (1, b"back".to_vec()));
}

/// One that always leaves a little untaken makes the server keep that, and not all that was ever written.
#[tokio::test]
async fn a_client_that_never_takes_everything_makes_us_keep_little() {
    let (mut client, server) = tokio::io::duplex(1 << 10);
    let mut connection = served(server);
    let mut sent = PREFACE.to_vec();
    frame::put_settings(&mut sent, &[]);
    for _ in 0..100_000 {
        frame::put(&mut sent, kind::PING, 0, 0, b"whatever");
    }
    let (mut sent, mut taken) = (&sent[..], 0);
    while !sent.is_empty() {
        if let Some(count) = client.write(sent).now_or_never() {
            sent = &sent[count.unwrap()..];
        }
        assert!(poll_fn(|cx| connection.poll(cx)).now_or_never().is_none());
        assert!(
            connection.out.bytes.capacity() <= 256 << 10,
            "{} after {taken}",
            connection.out.bytes.capacity()
        );
        // Otherwise the runtime takes this for a task that hogs its thread.
        tokio::task::yield_now().await;
        let mut some = [0; 900];
        taken += client.read(&mut some).now_or_never().map_or(0, Result::unwrap);
    }
    assert!(taken > 1 << 20, "{taken}");
}

/// Frames that are right in themselves, in any order.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let path = prop_oneof![Just("/"), Just("/hold"), Just("/panic"), Just("")];
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        path.prop_map(|path| post(1, path)[HEAD..].to_vec()),
    ];
    let one = (0_u8..11, any::<u8>(), prop_oneof![Just(0), 1_u32..10, any::<u32>()], payload);
    proptest::collection::vec(one, 0..40).prop_map(|frames| {
        let mut out = PREFACE.to_vec();
        frame::put_settings(&mut out, &[]);
        for (kind, flags, stream, payload) in frames {
            frame::put(&mut out, kind, flags, stream & 0x7fff_ffff, &payload);
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The connection goes on, or it ends with a reason; it never ends because of a fault of ours.
    #[test]
    fn whatever_is_sent_is_answered(frames in frames(), cut in 1_usize..200, noise in any::<Vec<u8>>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut connection, mut client) = connection();
            for part in [frames, noise].concat().chunks(cut) {
                client.write_all(part).await.unwrap();
                let mut said = [0; 4096];
                // A fault shows here.
                if poll_fn(|cx| connection.poll(cx)).now_or_never().is_some() {
                    return;
                }
                while client.read(&mut said).now_or_never().is_some_and(|count| count.unwrap() > 0) {}
            }
        });
    }
}
