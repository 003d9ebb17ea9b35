//! The yardstick: a server of one thread that does nothing but the system calls. It is no product; it shows
//! what the kernel alone costs when measured with the same load.
//!
//! GET with `Upgrade: websocket` or `Accept: text/event-stream` subscribes; POST sends its body to every
//! subscriber and is answered with 200. With `--fsync FILE` all POSTs of one round of epoll are written and
//! synced together before they are answered.

use crate::args::{Args, die};
use crate::frame;
use crate::http::find;
use crate::sha1::accept_key;
use crate::socket::{Epoll, Received, close, receive, send};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

struct Yardstick {
    epoll: Epoll,
    listener: TcpListener,
    log: Option<File>,
    /// Bytes of requests that are not whole yet.
    partial: HashMap<RawFd, Vec<u8>>,
    sse: Vec<RawFd>,
    websocket: Vec<RawFd>,
    posts: Vec<(RawFd, Vec<u8>)>,
    /// Messages that a full socket did not take; there is no queue.
    dropped: u64,
}

pub fn command(args: &Args) {
    let port: u16 = args.number("port", 18080);
    let listener =
        TcpListener::bind(("127.0.0.1", port)).unwrap_or_else(|error| die(format!("port {port}: {error}")));
    // SAFETY: the listener is open; listening again only widens its queue.
    unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    listener.set_nonblocking(true).unwrap_or_else(|error| die(error));
    // With port 0 the system chooses; whoever starts the yardstick reads where it is.
    println!("listening on {}", listener.local_addr().unwrap_or_else(|error| die(error)));
    let log = args
        .optional("fsync")
        .map(|path| File::create(&path).unwrap_or_else(|error| die(format!("{path}: {error}"))));
    let epoll = Epoll::new();
    epoll.add(listener.as_raw_fd(), listener.as_raw_fd() as u64);
    let (partial, sse, websocket, posts) = Default::default();
    Yardstick { epoll, listener, log, partial, sse, websocket, posts, dropped: 0 }.run()
}

impl Yardstick {
    fn run(&mut self) -> ! {
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            for i in 0..self.epoll.wait(-1) {
                let fd = self.epoll.key(i) as RawFd;
                if fd == self.listener.as_raw_fd() {
                    self.accept();
                    continue;
                }
                match receive(fd, &mut buffer) {
                    Received::Bytes(bytes) => self.take(fd, &buffer[..bytes]),
                    Received::NothingYet => {}
                    Received::Closed => {
                        close(fd);
                        self.partial.remove(&fd);
                        self.sse.retain(|other| *other != fd);
                        self.websocket.retain(|other| *other != fd);
                    }
                }
            }
            if !self.posts.is_empty() {
                self.commit();
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let _ = stream.set_nodelay(true);
            let fd = stream.into_raw_fd();
            self.epoll.add(fd, fd as u64);
        }
    }

    /// Handles every whole request of a connection.
    fn take(&mut self, fd: RawFd, data: &[u8]) {
        let mut pending = self.partial.remove(&fd).unwrap_or_default();
        pending.extend_from_slice(data);
        while let Some(head) = find(&pending, b"\r\n\r\n").map(|end| end + 4) {
            if !pending.starts_with(b"POST") {
                self.greet(fd, &String::from_utf8_lossy(&pending[..head]));
                pending.clear();
                break;
            }
            let text = String::from_utf8_lossy(&pending[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let body = length.and_then(|length| length.trim().parse::<usize>().ok()).unwrap_or(0);
            if pending.len() < head + body {
                break;
            }
            self.posts.push((fd, pending[head..head + body].to_vec()));
            pending.drain(..head + body);
        }
        if !pending.is_empty() {
            self.partial.insert(fd, pending);
        }
    }

    fn greet(&mut self, fd: RawFd, head: &str) {
        let lower = head.to_ascii_lowercase();
        if lower.contains("upgrade: websocket") {
            let field = "sec-websocket-key:";
            let key = lower.find(field).map(|at| head[at + field.len()..].lines().next().unwrap_or(""));
            let accept = accept_key(key.unwrap_or("").trim());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            send(fd, answer.as_bytes());
            self.websocket.push(fd);
        } else if lower.contains("event-stream") {
            let answer =
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n";
            send(fd, answer);
            self.sse.push(fd);
        } else {
            send(fd, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    }

    /// One write and one sync for all that came in this round, then the answers, then the deliveries.
    fn commit(&mut self) {
        if let Some(log) = &mut self.log {
            let mut group = vec![];
            for (_, body) in &self.posts {
                group.extend_from_slice(&(body.len() as u32).to_le_bytes());
                group.extend_from_slice(body);
            }
            log.write_all(&group).and_then(|()| log.sync_data()).unwrap_or_else(|error| die(error));
        }
        for (fd, _) in &self.posts {
            send(*fd, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        let (mut for_sse, mut for_websocket) = (vec![], vec![]);
        for (_, body) in &self.posts {
            if !self.sse.is_empty() {
                for_sse.extend_from_slice(b"data: ");
                for_sse.extend_from_slice(body);
                for_sse.extend_from_slice(b"\n\n");
            }
            if !self.websocket.is_empty() {
                frame::of_server(&mut for_websocket, frame::TEXT, body);
            }
        }
        self.posts.clear();
        let before = self.dropped;
        for (fds, bytes) in [(&self.sse, &for_sse), (&self.websocket, &for_websocket)] {
            self.dropped += fds.iter().filter(|fd| !send(**fd, bytes)).count() as u64;
        }
        if self.dropped / 1000 != before / 1000 {
            eprintln!("yardstick: {} messages dropped", self.dropped);
        }
    }
}
