//! Listeners, and the certificates that both sides of longhaul show.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::diagnostic::WrittenAt;
use crate::config::listeners::{ClientCertificates, ServedCertificate};
use crate::config::networks::Networks;
use crate::config::proxy_protocol::ProxyProtocol;
use crate::config::route_limits::RateLimits;

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: String,
    pub address: ListenAddress,
    /// `Some`: a PROXY header is required of every connection.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The first pair serves clients whose SNI matches none. Empty: plain, or
    /// by [`acme_names`](Self::acme_names).
    pub certificates: Vec<ServedCertificate>,
    /// `Some`: its certificates come by ACME, one for each of these names, in
    /// lower case and without repetition.
    pub acme_names: Option<Vec<String>>,
    pub client_certificates: Option<ClientCertificates>,
    /// TLS 1.3 only, instead of 1.2 and 1.3.
    pub tls_1_3_only: bool,
    /// `Some(port)`: every request is answered with a redirect to `https` there.
    pub redirect_to_https: Option<u16>,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    /// Whether they may open WebSockets over it (RFC 8441).
    pub websocket_over_http2: bool,
    /// Where connections may come from.
    pub networks: Networks,
    /// Of new connections.
    pub rates: RateLimits,
    pub place: WrittenAt,
}

impl Listener {
    /// Whether its clients speak TLS.
    pub fn is_tls(&self) -> bool {
        !self.certificates.is_empty() || self.acme_names.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix { path: PathBuf, mode: u32 },
}

impl fmt::Display for ListenAddress {
    /// As the config writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificatePair {
    pub chain: PathBuf,
    pub key: PathBuf,
}
