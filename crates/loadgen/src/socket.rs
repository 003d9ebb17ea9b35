//! Sockets: loopback connections, non-blocking reads and writes, epoll.

use crate::args::die;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::RawFd;
use std::time::Duration;

/// A blocking connection; anything but loopback is refused.
pub fn connect(address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr =
        address.parse().unwrap_or_else(|_| die(format!("address {address}: want 127.0.0.1:PORT")));
    if !address.ip().is_loopback() {
        die("only loopback addresses are allowed");
    }
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub enum Received {
    Bytes(usize),
    NothingYet,
    Closed,
}

#[inline]
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> Received {
    // SAFETY: the pointer and the length describe `buffer`.
    let n = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    match n {
        1.. => Received::Bytes(n as usize),
        -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock => {
            Received::NothingYet
        }
        _ => Received::Closed,
    }
}

/// Sends without waiting; whether all of it was taken.
#[inline]
pub fn send(fd: RawFd, data: &[u8]) -> bool {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the pointer and the length describe `data`.
    let n = unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), flags) };
    n == data.len() as isize
}

pub fn close(fd: RawFd) {
    // SAFETY: callers own `fd` and forget it.
    unsafe { libc::close(fd) };
}

/// Waits for readable sockets, each known by a key.
pub struct Epoll {
    fd: RawFd,
    events: Vec<libc::epoll_event>,
    ready: usize,
}

impl Epoll {
    pub fn new() -> Self {
        // SAFETY: no preconditions.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            die(format!("epoll: {}", std::io::Error::last_os_error()));
        }
        Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024], ready: 0 }
    }

    pub fn add(&self, fd: RawFd, key: u64) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        // SAFETY: `event` is a valid event, and both descriptors are open.
        if unsafe { libc::epoll_ctl(self.fd, libc::EPOLL_CTL_ADD, fd, &mut event) } != 0 {
            die(format!("epoll: {}", std::io::Error::last_os_error()));
        }
    }

    /// Waits at most `ms` (-1: without end) and returns how many are ready.
    pub fn wait(&mut self, ms: i32) -> usize {
        let (events, len) = (self.events.as_mut_ptr(), self.events.len() as i32);
        // SAFETY: the pointer and the length describe `events`.
        self.ready = unsafe { libc::epoll_wait(self.fd, events, len, ms) }.max(0) as usize;
        self.ready
    }

    /// The key of the `i`th of those that the last wait found ready.
    pub fn key(&self, i: usize) -> u64 {
        self.events[..self.ready][i].u64
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        close(self.fd);
    }
}
