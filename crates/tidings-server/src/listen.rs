//! The ports: accept connections, speak HTTP/1.1 and HTTP/2 on them, with or without TLS.
//!
//! Owns: the listeners (one for everything, and one for gRPC alone where that is set), the bound on connections, and their end on shutdown. Never: knows a route.

use crate::answers::{Answers, ConnectionId, Doors, Peer, Slot};
use crate::coarse::Coarse;
use crate::grpc::Grpc;
use crate::handover::{Handover, Io};
use crate::http2::{self, Connection, Times};
use crate::lane::Leave;
use crate::looks::{Look, Looks};
use crate::tls::{self, TlsError};
use crate::transport::{Transport, Wire};
use crate::{Door, TlsFiles, grpc, http, lane};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Bound ports, ready to serve.
pub struct Server {
    door: Door,
    main: Port,
    /// For gRPC alone.
    grpc: Option<Port>,
}

/// One bound port.
struct Port {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

/// Why the port can't be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Grpc(#[from] grpc::config::ConfigError),
}

/// The wait after the system had no room for another connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// A TLS handshake takes no longer.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

impl Server {
    /// Binds eagerly, so that [`Server::address`] is known before anything is served.
    pub async fn bind(door: Door) -> Result<Self, BindError> {
        let (http, own) = (&door.config, &door.config.grpc);
        let files = own.files(http.tls.as_ref())?;
        let main = Port::bind(http.listen, http.tls.as_ref(), None, &door)?;
        let grpc = match own.listen.filter(|_| !own.off) {
            None => None,
            Some(address) => Some(Port::bind(address, files, own.client_ca.as_deref(), &door)?),
        };
        Ok(Self { door, main, grpc })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.main.address
    }

    /// Where the port for gRPC alone is.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(|port| port.address)
    }

    pub fn is_tls(&self) -> bool {
        self.main.tls.is_some()
    }

    /// Serves until the services are asked to stop; ends when no new connection is taken any more.
    pub async fn run(self) {
        let Self { door, main, grpc } = self;
        let room = Arc::new(Semaphore::new(door.tidings.limits().connections));
        let calls = (!door.config.grpc.off).then(|| Grpc::new(door.clone()));
        let shared = calls.clone().filter(|_| door.config.grpc.is_shared());
        let all = Doors { routes: Some(http::router(door.clone())), grpc: shared };
        let own = Doors { routes: None, grpc: calls };
        let own_port = async {
            if let Some(port) = grpc {
                port.run(&door, &room, &own).await;
            }
        };
        tokio::join!(main.run(&door, &room, &all), own_port);
    }
}

impl Port {
    fn bind(
        address: SocketAddr,
        files: Option<&TlsFiles>,
        authorities: Option<&std::path::Path>,
        door: &Door,
    ) -> Result<Self, BindError> {
        let refuse = |source| BindError::Listen { address, source };
        let listener = listen(address).map_err(refuse)?;
        let tls = match files {
            None => None,
            Some(files) => Some(TlsAcceptor::from(Arc::new(tls::serve(files, authorities, &door.services)?))),
        };
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Self { listener, address, tls })
    }

    async fn run(self, door: &Door, room: &Arc<Semaphore>, doors: &Doors) {
        let stop = door.services.stop().clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok((tcp, peer)) => (tcp, Peer(peer.ip())),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
                door.metrics.turned_away();
                continue; // Closed at once: with no room there is none for an answer either.
            };
            let (own, tls, doors) = (door.clone(), self.tls.clone(), doors.clone());
            door.services.spawn("connection", async move {
                let _ = tcp.set_nodelay(true);
                serve(own, tcp, peer, tls, doors, permit).await;
            });
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

async fn serve(
    door: Door,
    tcp: TcpStream,
    peer: Peer,
    tls: Option<TlsAcceptor>,
    doors: Doors,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let slot: Slot = Arc::new(permit);
    let handover = Handover::default();
    let (wire, handover) = match tls {
        None => (Wire::Plain(Io::new(tcp, handover.clone())), Some(handover)),
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => (Wire::Tls(Box::new(tls)), None),
            _ => return,
        },
    };
    let limits = door.tidings.limits();
    let mut transport = Transport::from(wire);
    let mut looks = Looks::new(door.services.stop(), Duration::from_millis(limits.read_timeout_ms));
    if doors.routes.is_some() && lane::is_open(&door) {
        match lane::serve(&door, &mut transport, &mut looks).await {
            Leave::Library(early) => transport.early = early,
            Leave::Over => return,
        }
    }
    let answers = Answers { door: door.clone(), doors, peer, slot, handover, id: ConnectionId::default() };
    match http2::is_ahead(&mut transport, &mut looks).await {
        Some(true) => {
            transport.keep();
            over_http2(transport, answers, looks).await;
        }
        Some(false) => over_http1(transport, answers, looks).await,
        None => {}
    }
}

async fn over_http2(transport: Transport, answers: Answers, looks: Looks) {
    let limits = answers.door.tidings.limits();
    let times = Times {
        ping: Duration::from_millis(answers.door.config.ping_ms),
        read: Duration::from_millis(limits.read_timeout_ms),
        write: Duration::from_millis(limits.write_timeout_ms),
    };
    let mut connection = Connection::new(transport, answers, looks, times);
    poll_fn(|cx| connection.poll(cx)).await;
}

async fn over_http1(transport: Transport, answers: Answers, mut looks: Looks) {
    let limits = answers.door.tidings.limits();
    let within = Duration::from_millis(limits.read_timeout_ms);
    let service = hyper::service::service_fn(move |request| answers.to(request));
    let mut builder = http1::Builder::new();
    builder
        .timer(Coarse)
        .header_read_timeout(within)
        .max_buf_size(64 << 10)
        .writev(false)
        .pipeline_flush(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(transport), service).with_upgrades());
    // What a client does wrong on its connection is its own business; errors end it.
    // Polling it now and then is what makes the deadline of a slow request head seen.
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            look = poll_fn(|cx| looks.poll(cx)) => match look {
                Look::Stop => break,
                Look::Time => {}
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
