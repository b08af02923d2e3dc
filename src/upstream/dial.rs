//! Opens a transport to a backend, within a deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};

use super::Backend;
use crate::config::BackendAddress;
use crate::metrics::{Dialled, Metrics};
use crate::net::{ConnectFault, Keepalive, Socket, Transport, connect, tune};
use crate::proxy_protocol::{Header, Version};
use crate::tls;

/// How the backends of one upstream are dialled.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// TLS towards the backends, if they speak it.
    pub tls: Option<Arc<ClientConfig>>,
    /// The same for HTTP/2.
    pub tls_http2: Option<Arc<ClientConfig>>,
    /// Whether plain requests go over HTTP/2.
    pub http2: bool,
    /// With which PROXY header a connection begins; `None`: with none.
    pub proxy_protocol: Option<Version>,
    /// The name to verify; `None` is the host of the address.
    pub server_name: Option<String>,
    pub keepalive: Keepalive,
    /// For resolving, connecting and the TLS handshake together.
    pub timeout: Duration,
    pub metrics: Arc<Metrics>,
}

/// Why a backend could not be reached. Nothing has been sent to it, so another
/// one may be tried.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("resolving the name failed: {0}")]
    Resolve(io::Error),
    #[error("connecting failed: {0}")]
    Connect(io::Error),
    #[error("the tls handshake failed: {0}")]
    Tls(io::Error),
    #[error("there is no name to verify: {0}")]
    ServerName(#[from] tls::ServerNameError),
    #[error("the backend does not speak http/2")]
    NotHttp2,
    #[error("dial_timeout has passed")]
    Timeout,
}

impl From<ConnectFault> for DialError {
    fn from(fault: ConnectFault) -> Self {
        match fault {
            ConnectFault::Failed(error) => Self::Connect(error),
            ConnectFault::Timeout => Self::Timeout,
        }
    }
}

impl DialError {
    /// The word of the metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "resolve",
            Self::Connect(_) => "connect",
            Self::Tls(_) | Self::ServerName(_) => "tls",
            Self::NotHttp2 => "not_http2",
            Self::Timeout => "timeout",
        }
    }
}

impl Dialer {
    /// `header` is what the backend is told, if it is told anything.
    ///
    /// # Errors
    /// See [`DialError`].
    pub(super) async fn dial(
        &self,
        backend: &Backend,
        header: &Header,
    ) -> Result<Transport, DialError> {
        self.dial_for(backend, header, self.tls.as_ref()).await
    }

    /// With the TLS of one protocol.
    pub(super) async fn dial_for(
        &self,
        backend: &Backend,
        header: &Header,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Transport, DialError> {
        let start = Instant::now();
        let deadline = start + self.timeout;
        let dialled = timeout_at(deadline, self.open(backend, header, tls, deadline)).await;
        let dialled = dialled.unwrap_or(Err(DialError::Timeout));
        let labels = Dialled {
            upstream: Arc::clone(backend.upstream()),
            result: dialled.as_ref().map_or_else(DialError::label, |_| "ok"),
        };
        let duration = self.metrics.dial_duration.get(&labels);
        duration.observe(start.elapsed().as_secs_f64());
        dialled
    }

    async fn open(
        &self,
        backend: &Backend,
        header: &Header,
        tls: Option<&Arc<ClientConfig>>,
        deadline: Instant,
    ) -> Result<Transport, DialError> {
        let address = backend.address();
        let mut socket = match address {
            BackendAddress::Tcp { host, port } => {
                let found = backend.resolver.addresses(host, *port).await;
                let addresses = found.map_err(DialError::Resolve)?;
                Socket::Tcp(connect(&addresses, deadline).await?)
            }
            BackendAddress::Unix(path) => Socket::Unix(
                UnixStream::connect(path)
                    .await
                    .map_err(DialError::Connect)?,
            ),
        };
        tune(&socket, &self.keepalive).map_err(DialError::Connect)?;
        if let Some(version) = self.proxy_protocol {
            let header = version.write(header);
            let written = socket.write_all(&header).await;
            written.map_err(DialError::Connect)?;
        }
        let Some(config) = tls else {
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
