//! Who is at the other end of a client connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::drain::Watch;
use crate::net::{Peer, Permit};
use crate::proxy_protocol::Origin;

/// A client, as the transport says, or the PROXY header before it.
#[derive(Debug)]
pub struct Client {
    pub listener: Arc<str>,
    pub peer: Peer,
    /// What the client connected to; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// What a PROXY header said of it.
    pub origin: Option<Box<Origin>>,
    pub tls: Option<TlsFacts>,
    pub http: Http,
    pub place: Arc<Place>,
}

impl Client {
    /// Whether it speaks TLS, to longhaul or to the proxy that said so.
    pub fn is_secure(&self) -> bool {
        let told = self.origin.as_ref();
        self.tls.is_some() || told.is_some_and(|origin| origin.tls.is_some())
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
    /// The verified certificate of the client; `None`: it has shown none.
    pub certificate: Option<Box<Certificate>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// SHA-256 of the certificate of a CA.
pub type CaDigest = [u8; 32];

/// A client's certificate, as it was verified in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// RFC 4514; empty if it has none.
    pub subject: String,
    /// `None`: only the verifier could read it.
    pub not_after: Option<SystemTime>,
    /// The CAs of which one has vouched for it, sorted.
    pub cas: Arc<[CaDigest]>,
}

impl TlsFacts {
    /// Whether the client has shown a certificate that who trusts these CAs, which
    /// are sorted, would accept now. A connection outlives both.
    pub fn is_certified(&self, cas: &[CaDigest], now: SystemTime) -> bool {
        self.certificate.as_deref().is_some_and(|certificate| {
            let is_trusted = |ca: &CaDigest| cas.binary_search(ca).is_ok();
            let is_over = certificate.not_after.is_some_and(|end| end < now);
            // Which of them it was, nobody remembers.
            !is_over && certificate.cas.iter().all(is_trusted)
        })
    }

    /// As the certificate says it, whatever it is worth by now.
    pub fn client_subject(&self) -> Option<&str> {
        let certificate = self.certificate.as_deref();
        certificate.map(|certificate| &*certificate.subject)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_holds_while_all_its_cas_are_trusted_and_to_its_end() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let second = Duration::from_secs(1);
        let (a, b, c) = ([1; 32], [2; 32], [3; 32]);
        let facts = |cas: &[CaDigest], not_after| TlsFacts {
            certificate: Some(Box::new(Certificate {
                subject: "CN=ann".to_owned(),
                not_after,
                cas: cas.into(),
            })),
            ..TlsFacts::default()
        };
        let ann = facts(&[a, b], Some(now));
        for (cas, at, holds) in [
            (&[a, b][..], now, true),
            (&[a, b, c], now, true),
            (&[a, b], now + second, false),
            (&[a], now, false),
            (&[b, c], now, false),
            (&[c], now, false),
            (&[], now, false),
        ] {
            assert_eq!(ann.is_certified(cas, at), holds, "{cas:?}");
        }
        assert!(facts(&[a], None).is_certified(&[a], now));
        assert!(!TlsFacts::default().is_certified(&[a], now));
    }
}
