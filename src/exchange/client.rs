//! Who is at the other end of a client connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::drain::Watch;
use crate::net::{Peer, Permit};
use crate::proxy_protocol::Proxied;

/// A client, as the transport says, or the PROXY header before it.
#[derive(Debug)]
pub struct Client {
    pub listener: Arc<str>,
    pub peer: Peer,
    /// What the client connected to; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// What a PROXY header said of it.
    pub proxied: Option<Box<Proxied>>,
    pub tls: Option<TlsFacts>,
    pub http: Http,
    pub place: Arc<Place>,
}

impl Client {
    /// Whether it speaks TLS, to longhaul or to the proxy that said so.
    pub fn is_secure(&self) -> bool {
        let told = self.proxied.as_ref();
        self.tls.is_some() || told.is_some_and(|proxied| proxied.tls.is_some())
    }
}

/// What a connection holds as long as anything of it is alive; a tunnel does to
/// its end, and needs nothing else of its client.
#[derive(Debug)]
pub struct Place {
    /// Under the limits.
    pub _permit: Permit,
    /// A stopping process waits for it.
    pub watch: Watch,
}

/// What is spoken on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

impl Http {
    /// The word of the access log.
    pub fn label(self) -> &'static str {
        match self {
            Self::One => "1.1",
            Self::Two => "2",
        }
    }
}

/// What a finished TLS handshake established.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// The server name the client asked for.
    pub sni: Option<String>,
    /// The subject of a verified client certificate.
    pub client_subject: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}
