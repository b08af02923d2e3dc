//! Streams: transports, socket options, places under the connection limits,
//! streams of HTTP/2 connections ([`http2`]), and the two wrappers that let a
//! proxy see and pass on what hyper hides (half-close, interim responses, read
//! deadlines).
//!
//! Knows nothing of routes or configuration files.

mod asked;
mod backend_io;
mod client_io;
mod connect;
mod departure;
mod fault;
mod head_guard;
pub mod http2;
mod link;
mod opening;
mod options;
mod patience;
mod permit;
mod resolve;
mod socket_file;
mod transport;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub use backend_io::{BackendIo, Finish};
pub use client_io::{ClientIo, ReadDeadlines};
pub use connect::{ConnectFault, connect};
pub use fault::ClientFault;
pub use head_guard::Ambiguous;
pub(crate) use head_guard::HeadGuard;
pub use link::{ClientLink, InFlight};
pub use opening::{Opening, read_opening};
pub use options::{Keepalive, reset_when_closed, tune, tune_tcp};
pub use permit::{Limiter, Permit, Refused};
pub use resolve::Resolver;
pub use socket_file::remove_stale_socket;
pub use transport::{Socket, Transport};

/// The address of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// Unix sockets have no address worth the name.
    Unix,
}

impl Peer {
    /// The address without its port; IPv4-mapped IPv6 becomes IPv4.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => {
                SocketAddr::new(address.ip().to_canonical(), address.port()).fmt(f)
            }
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The part of an address that stands for one client: all of IPv4, the /64 of
/// IPv6, which is what one subscriber is given (RFC 6177).
pub fn client_network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_subscriber_is_one_client() {
        let network = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
