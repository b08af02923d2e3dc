//! Opens a transport to a backend, within a deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::config::BackendAddress;
use crate::net::{Keepalive, Socket, Transport, tune};
use crate::tls;

/// How the backends of one upstream are dialled.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// TLS towards the backends, if they speak it.
    pub tls: Option<Arc<ClientConfig>>,
    /// The name to verify; `None` is the host of the address.
    pub server_name: Option<String>,
    pub keepalive: Keepalive,
    /// For resolving, connecting and the TLS handshake together.
    pub timeout: Duration,
}

/// Why a backend could not be reached. Nothing has been sent to it, so another
/// one may be tried.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("resolving the name failed: {0}")]
    Resolve(io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("connecting failed: {0}")]
    Connect(io::Error),
    #[error("the tls handshake failed: {0}")]
    Tls(io::Error),
    #[error("there is no name to verify: {0}")]
    ServerName(#[from] tls::ServerNameError),
    #[error("dial_timeout has passed")]
    Timeout,
}

impl Dialer {
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, address: &BackendAddress) -> Result<Transport, DialError> {
        let deadline = Instant::now() + self.timeout;
        timeout_at(deadline, self.open(address, deadline))
            .await
            .map_err(|_| DialError::Timeout)?
    }

    async fn open(
        &self,
        address: &BackendAddress,
        deadline: Instant,
    ) -> Result<Transport, DialError> {
        let socket = match address {
            BackendAddress::Tcp { host, port } => {
                Socket::Tcp(connect(host, *port, deadline).await?)
            }
            BackendAddress::Unix(path) => Socket::Unix(
                UnixStream::connect(path)
                    .await
                    .map_err(DialError::Connect)?,
            ),
        };
        tune(&socket, &self.keepalive).map_err(DialError::Connect)?;
        let Some(config) = &self.tls else {
            return Ok(Transport::Plain(socket));
        };
        let mut stream = TlsConnector::from(Arc::clone(config))
            .connect(
                tls::server_name(self.server_name.as_deref(), address)?,
                socket,
            )
            .await
            .map_err(DialError::Tls)?;
        stream.get_mut().1.set_buffer_limit(Some(tls::SEND_BUFFER));
        Ok(Transport::Tls(Box::new(TlsStream::Client(stream))))
    }
}

/// Tries each address of the name, giving each its share of the time left, so
/// that one that swallows packets does not use up the others' chance.
async fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(DialError::Resolve)?
        .collect();
    let mut last = DialError::NoAddress;
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = DialError::Connect(error),
            Err(_) => last = DialError::Timeout,
        }
    }
    Err(last)
}
