//! What a backend is told about a client by the PROXY protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::exchange::Exchange;
use crate::net::Peer;
use crate::proxy_protocol::{Addresses, Origin, Tls};

/// What is spoken behind the header, whatever the client speaks.
const ALPN: &str = "http/1.1";

/// The client is the one of the access log: through trusted proxies.
pub(super) fn origin(exchange: &Exchange) -> Origin {
    let client = &exchange.client;
    let told = client.origin.as_deref();
    let ip = exchange.client_ip.filter(|_| exchange.is_placed);
    let addresses = ip.map(|ip| {
        let source = match client.peer {
            Peer::Tcp(peer) if peer.ip().to_canonical() == ip => peer,
            // A header has said it, without a port.
            _ => SocketAddr::new(ip, 0),
        };
        let destination = client.local.unwrap_or_else(|| unspecified(ip));
        Addresses::new(source, destination)
    });
    let own = client.tls.as_ref().map(|facts| Tls {
        version: Some(facts.version.to_owned()),
        verified: exchange.certified,
    });
    let tls = own
        .or_else(|| told?.tls.clone())
        .or_else(|| exchange.secure.then(Tls::default));
    let sni = client.tls.as_ref().and_then(|facts| facts.sni.clone());
    Origin {
        addresses,
        alpn: tls.is_some().then(|| ALPN.to_owned()),
        authority: sni.or_else(|| told?.authority.clone()),
        tls,
    }
}

/// Of a Unix socket.
fn unspecified(like: IpAddr) -> SocketAddr {
    let ip = match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}
