//! Streams: transports, socket options, places under the connection limits,
//! streams of HTTP/2 connections ([`http2`]), and the two wrappers that let a
//! proxy see and pass on what hyper hides (half-close, interim responses, read
//! deadlines).
//!
//! Knows nothing of routes or configuration files.

mod alarm;
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

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use alarm::Alarm;
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

/// Whether an address is in one of the networks.
pub fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// All of IPv4 as IPv6 writes it (RFC 4291 section 2.5.5.2).
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// The bits before those that say so.
const BEFORE_MAPPED: u8 = 80;

/// The network as it has to be written for addresses of which IPv4-mapped ones
/// have become IPv4, as everywhere in longhaul; `None` if a part of it is mapped
/// and a part is nothing.
pub fn canonical_network(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = network else {
        return Some(network);
    };
    let is_mapped = MAPPED.contains(&v6.addr()) && v6.prefix_len() >= MAPPED.prefix_len();
    match v6.addr().to_ipv4_mapped().filter(|_| is_mapped) {
        Some(v4) => {
            let v4 = Ipv4Net::new(v4, v6.prefix_len() - MAPPED.prefix_len());
            v4.ok().map(IpNet::from)
        }
        None => {
            let of_marks = v6.prefix_len() > BEFORE_MAPPED && v6.contains(&MAPPED.addr());
            (!of_marks).then_some(network)
        }
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
    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        for (written, meant) in [
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:10.1.2.3/128", Some("10.1.2.3/32")),
            ("::ffff:10.1.2.3/104", Some("10.1.2.3/8")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("::ffff:0:0/95", None),
            ("::ffff:10.0.0.0/90", None),
            ("::/80", Some("::/80")),
            ("::/0", Some("::/0")),
            ("::/96", Some("::/96")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
        ] {
            let meant = meant.map(|text| text.parse().unwrap());
            assert_eq!(
                canonical_network(written.parse().unwrap()),
                meant,
                "{written}"
            );
        }
    }
}
