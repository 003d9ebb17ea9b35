//! What was held back, on its way to a few readers, to more, and to one that takes nothing.

use super::socket::serve;
use super::*;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tidings_model::{NewEvent, Principal, Topic};

/// Somebody who reads `t` live.
struct Reader {
    socket: TcpStream,
    text: String,
    /// The number it has come to.
    number: u64,
}

impl Reader {
    fn new(site: &Site, address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let token = site.anyone();
        let head = format!(
            "GET /v1/topics/t/events?from=latest HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut reader = Self { socket, text: String::new(), number: 0 };
        while !reader.text.contains("\r\n\r\n") {
            reader.read();
        }
        reader
    }

    fn read(&mut self) {
        let mut some = vec![0; 1 << 16];
        let count = self.socket.read(&mut some).expect("what is sent arrives");
        assert!(count > 0, "the stream has ended after {}", self.number);
        self.text += std::str::from_utf8(&some[..count]).unwrap();
    }

    /// Reads up to that number; each comes once, after the one before.
    fn read_to(&mut self, number: u64) {
        while self.number < number {
            let Some((before, after)) = self.text.split_once(';') else {
                self.read();
                continue;
            };
            let came = before.rsplit('#').next().unwrap().parse().unwrap();
            assert_eq!(self.number + 1, came);
            (self.number, self.text) = (came, after.to_owned());
        }
    }
}

/// Publishes a number while it is held back.
async fn publish(site: &Site, number: u64, filler: usize) {
    let topic = Topic::parse("t").unwrap();
    let held = site.door.tidings.hold([topic.name.clone()]);
    let mut event = NewEvent::new(topic, "n");
    let data = serde_json::to_string(&format!("#{number};{}", "x".repeat(filler))).unwrap();
    event.data = Some(data.into());
    site.door.tidings.publish(&Principal::admin(), vec![event]).await.unwrap();
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_readers_and_many_have_it_all_in_its_order() {
    for count in [1, 3, 9] {
        let (site, address) = serve().await;
        let mut readers: Vec<_> = (0..count).map(|_| Reader::new(&site, address)).collect();
        for number in 1..=300 {
            publish(&site, number, 0).await;
            readers[number as usize % count].read_to(number);
        }
        readers.iter_mut().for_each(|reader| reader.read_to(300));
    }
}

#[tokio::test]
async fn who_follows_the_log_is_woken_a_moment_after_it_is_told() {
    let site = Site::start();
    site.door.tidings.start(&site.door.services, Duration::from_secs(3600));
    for number in 1..=3 {
        let before = site.log.follows.load(Ordering::SeqCst);
        publish(&site, number, 0).await;
        assert_eq!(site.log.follows.load(Ordering::SeqCst), before);
        let woken = async {
            while site.log.follows.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), woken).await.expect("somebody wakes it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_nothing_delays_neither_the_others_nor_who_tells() {
    const COUNT: u64 = 200;
    let (site, address) = serve().await;
    let [mut stuck, mut other] = [0; 2].map(|_| Reader::new(&site, address));
    for number in 1..=COUNT {
        publish(&site, number, 1 << 17).await;
        other.read_to(number);
    }
    stuck.read_to(COUNT);
}
