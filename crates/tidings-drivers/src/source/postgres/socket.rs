//! The socket under a replication connection: TCP, TLS over it, or a Unix socket.
//!
//! Owns: opening it, and how much has to arrive until the system wakes who waits for it. A database under load sends
//! three messages for each small transaction, each at once; woken for each we would cost it more than the rows do.
//! Never: knows what is said over it.

use super::line::Error;
use crate::postgres::Address;
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect as _};

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub struct Socket {
    pub stream: Box<dyn Duplex>,
    /// The same TCP socket; none where the system cannot wait for more than one byte.
    tcp: Option<OwnedFd>,
    wakes_at: usize,
}

impl Socket {
    /// Connects to the first of the address's hosts that answers.
    pub async fn open(address: &Address) -> Result<Self, Error> {
        let config = &address.config;
        let mut last = Error::Broke("the URL names no host".into());
        for (i, host) in config.get_hosts().iter().enumerate() {
            let ports = config.get_ports();
            let port = ports.get(i).or_else(|| ports.first()).copied().unwrap_or(5432);
            let opened = match host {
                Host::Unix(dir) => {
                    let path = dir.join(format!(".s.PGSQL.{port}"));
                    UnixStream::connect(path).await.map(|socket| Self::new(socket, None))
                }
                Host::Tcp(name) => Self::open_tcp(address, name, port).await,
            };
            match opened {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    async fn open_tcp(address: &Address, name: &str, port: u16) -> io::Result<Self> {
        let mut socket = TcpStream::connect((name, port)).await?;
        socket.set_nodelay(true)?;
        // Linux tells of bytes that are there already when fewer are waited for. Others may not.
        let tcp = cfg!(target_os = "linux").then(|| socket.as_fd().try_clone_to_owned()).transpose()?;
        let Some(tls) = &address.tls else { return Ok(Self::new(socket, tcp)) };
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        socket.write_all(&request).await?;
        if socket.read_u8().await? != b'S' {
            return Err(io::Error::other(
                "the server speaks no TLS; sslmode=disable in the URL goes without",
            ));
        }
        let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls.clone(), name);
        let connect = connect.map_err(io::Error::other)?;
        Ok(Self::new(connect.connect(socket).await?, tcp))
    }

    fn new(stream: impl Duplex + 'static, tcp: Option<OwnedFd>) -> Self {
        Self { stream: Box::new(stream), tcp, wakes_at: 1 }
    }

    /// Who reads is woken when at least `bytes` have arrived or the connection has ended, over TCP on Linux; elsewhere
    /// whatever arrives wakes. With fewer than before, what is there already counts.
    pub fn wake_at(&mut self, bytes: usize) {
        let Some(tcp) = self.tcp.as_ref().filter(|_| self.wakes_at != bytes) else { return };
        self.wakes_at = bytes;
        let (value, size) = (bytes as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
        // A system that refuses wakes sooner, as it did before.
        // SAFETY: the socket is open while `tcp` lives, and the option is read from a live `c_int` of that size.
        unsafe {
            let option = (&raw const value).cast();
            libc::setsockopt(tcp.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, option, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use url::Url;

    /// Long for a few bytes on one machine.
    const PATIENCE: Duration = Duration::from_secs(10);
    #[cfg(target_os = "linux")]
    const MOMENT: Duration = Duration::from_millis(50);

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@{}/d?sslmode=disable", listener.local_addr().unwrap());
        let address = Address::parse(Url::parse(&url).unwrap()).unwrap();
        let socket = Socket::open(&address).await.unwrap();
        (socket, listener.accept().await.unwrap().0)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_has_arrived_is_read_as_soon_as_so_much_is_waited_for() {
        let (mut socket, mut peer) = pair().await;
        let mut room = [0; 100];
        peer.write_all(&[7; 10]).await.unwrap();
        assert_eq!(timeout(PATIENCE, socket.stream.read(&mut room)).await.unwrap().unwrap(), 10);

        socket.wake_at(50);
        peer.write_all(&[7; 10]).await.unwrap();
        assert!(timeout(MOMENT, socket.stream.read(&mut room)).await.is_err());
        peer.write_all(&[7; 40]).await.unwrap();
        assert_eq!(timeout(PATIENCE, socket.stream.read(&mut room)).await.unwrap().unwrap(), 50);

        peer.write_all(&[7; 10]).await.unwrap();
        assert!(timeout(MOMENT, socket.stream.read(&mut room)).await.is_err());
        socket.wake_at(1);
        assert_eq!(timeout(PATIENCE, socket.stream.read(&mut room)).await.unwrap().unwrap(), 10);
    }

    #[tokio::test]
    async fn the_end_is_noticed_however_much_is_waited_for() {
        let (mut socket, mut peer) = pair().await;
        socket.wake_at(50);
        peer.write_all(&[7; 10]).await.unwrap();
        drop(peer);
        let mut room = [0; 100];
        assert_eq!(timeout(PATIENCE, socket.stream.read(&mut room)).await.unwrap().unwrap(), 10);
        assert_eq!(timeout(PATIENCE, socket.stream.read(&mut room)).await.unwrap().unwrap(), 0);
    }
}
