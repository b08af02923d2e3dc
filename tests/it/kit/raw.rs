//! A backend whose every byte the test decides.
//!
//! It answers nothing by itself: the test accepts a connection and plays the
//! backend's part on the [`Wire`], in the order the test is written.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::soon;
use super::wire::{Transport, Wire};
use super::ws::handshake;

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
    Tls(TcpListener, TlsAcceptor),
}

pub struct RawBackend {
    socket: Socket,
    address: String,
}

impl RawBackend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        Self {
            socket: Socket::Tcp(listener),
            address,
        }
    }

    pub async fn tls(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        Self {
            socket: Socket::Tls(listener, acceptor),
            address,
        }
    }

    pub fn unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a Unix socket");
        Self {
            socket: Socket::Unix(listener),
            address: format!("unix:{}", path.display()),
        }
    }

    /// As the config file names it.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub async fn accept(&self) -> Wire {
        self.try_accept().await.expect("to accept")
    }

    /// As [`try_accept`](Self::try_accept), for whoever may wait as long as its test.
    pub async fn accept_forever(&self) -> std::io::Result<Wire> {
        self.next().await
    }

    /// The next connection; the error is the TLS handshake's.
    pub async fn try_accept(&self) -> std::io::Result<Wire> {
        soon("a connection at the backend", self.next()).await
    }

    async fn next(&self) -> std::io::Result<Wire> {
        Ok(Wire::new(match &self.socket {
            Socket::Tcp(listener) => Transport::Tcp(listener.accept().await?.0),
            Socket::Unix(listener) => Transport::Unix(listener.accept().await?.0),
            Socket::Tls(listener, acceptor) => {
                let stream = acceptor.accept(listener.accept().await?.0).await?;
                Transport::Tls(Box::new(stream.into()))
            }
        }))
    }

    /// Has this client open a tunnel to here; its end and ours.
    pub async fn join(&self, client: Wire) -> (Wire, Wire) {
        self.join_with(client, handshake("/", "h", "")).await
    }

    /// The same by this handshake.
    pub async fn join_with(&self, mut client: Wire, handshake: String) -> (Wire, Wire) {
        client.send(handshake).await;
        let mut server = self.accept().await;
        let request = server.request().await;
        server.send(request.switching("")).await;
        assert_eq!(client.response_head().await.status, 101);
        (client, server)
    }

    /// Nobody connects within `time`.
    pub async fn unvisited_for(&self, time: Duration) {
        let accepted = tokio::time::timeout(time, self.try_accept()).await;
        assert!(
            accepted.is_err(),
            "a connection at a backend that expects none"
        );
    }
}

/// A listener whose queue is full: it leaves further SYNs unanswered.
pub struct Stuck {
    address: SocketAddr,
    _socket: socket2::Socket,
    _queued: Vec<TcpStream>,
}

impl Stuck {
    pub fn start() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a port");
        socket.listen(0).expect("to listen");
        let address = socket.local_addr().expect("an address");
        let address = address.as_socket().expect("TCP");
        let mut queued = Vec::new();
        let quick = Duration::from_millis(100);
        while let Ok(stream) = TcpStream::connect_timeout(&address, quick) {
            queued.push(stream);
        }
        Self {
            address,
            _socket: socket,
            _queued: queued,
        }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// An address where nobody listens.
pub async fn nobody() -> String {
    let [address] = nobodies().await;
    address
}

/// Addresses where nobody listens, each another.
pub async fn nobodies<const N: usize>() -> [String; N] {
    // All at once: one that is free again may be given twice.
    let mut listening = Vec::new();
    for _ in 0..N {
        listening.push(RawBackend::start().await);
    }
    std::array::from_fn(|index| listening[index].address.clone())
}
