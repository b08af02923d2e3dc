//! Who a connection is from: on a listener with `proxy_protocol` the proxy before
//! it says so in a PROXY header, which must be there.
//!
//! It reads not one byte beyond the header, because what follows is TLS's or
//! HTTP's.
//!
//! Invariant: nothing is read from a peer that may not say it.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::config::ProxyProtocol;
use crate::exchange::Refusal;
use crate::net::{Peer, Socket, is_in};
use crate::proxy_protocol::{Header, MAX_HEADER, Proxied, Step, parse};

/// The two ends of a connection, and what else was said of it.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) peer: Peer,
    pub(super) local: Option<SocketAddr>,
    pub(super) proxied: Option<Box<Proxied>>,
}

impl Introduction {
    /// The connection speaks for itself.
    pub(super) fn of(socket: &Socket, peer: Peer) -> Self {
        let local = match socket {
            Socket::Tcp(stream) => stream.local_addr().ok(),
            Socket::Unix(_) => None,
        };
        Self {
            peer,
            local,
            proxied: None,
        }
    }
}

/// Reads the header. `None` if the peer has left without a word, as the probes of
/// many load balancers do.
pub(super) async fn hear(
    socket: &mut Socket,
    peer: Peer,
    rule: &ProxyProtocol,
) -> Result<Option<Introduction>, Refusal> {
    let of_itself = Introduction::of(socket, peer);
    // Who reaches a Unix socket says its mode.
    if !peer.ip().is_none_or(|ip| is_in(ip, &rule.from)) {
        return Err(Refusal::UntrustedProxy);
    }
    let header = timeout(rule.timeout, read(socket)).await;
    let Some(header) = header.map_err(|_| Refusal::ProxyHeaderTimeout)?? else {
        return Ok(None);
    };
    let Header::Proxied(proxied) = header else {
        return Ok(Some(of_itself));
    };
    let told = proxied.addresses;
    Ok(Some(Introduction {
        peer: told.map_or(peer, |told| Peer::Tcp(told.source)),
        local: told.map(|told| told.destination).or(of_itself.local),
        proxied: Some(Box::new(proxied)),
    }))
}

async fn read(socket: &mut Socket) -> Result<Option<Header>, Refusal> {
    let mut bytes = Vec::new();
    loop {
        let wanted = match parse(&bytes)? {
            Step::Done(header, _) => return Ok(Some(header)),
            Step::More(wanted) => wanted,
        };
        debug_assert!(bytes.len() + wanted <= MAX_HEADER);
        let mut more = (&mut *socket).take(wanted as u64);
        match more.read_buf(&mut bytes).await {
            Ok(1..) => {}
            Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
            Ok(0) | Err(_) => return Err(Refusal::ProxyLeft),
        }
    }
}
