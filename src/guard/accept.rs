//! What a listener asks of a connection at accept, before TLS is paid for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use super::buckets::{Buckets, Over};
use super::lets_in;
use crate::config::{Networks, RateLimits};
use crate::net::{client_network, is_in};

/// What one listener asks.
#[derive(Clone, Debug)]
pub struct AcceptRules {
    pub networks: Networks,
    pub rates: RateLimits,
    /// Proxies, each of which is many clients: no rate of one address is theirs.
    pub trusted: Arc<[IpNet]>,
    pub counted: Counted,
}

/// The connections of a listener so far; a shared handle, which outlives reloads.
#[derive(Clone, Debug)]
pub struct Counted(Arc<Buckets>);

/// Why a connection does not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shut {
    #[error("the listener is not for this network")]
    Network,
    #[error("the listener has as many new connections as it may have in this time")]
    Rate,
    #[error("the address has opened as many connections as it may in this time")]
    AddressRate,
}

impl Shut {
    /// The word for it in log and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Network => "network_denied",
            Self::Rate => "connection_rate",
            Self::AddressRate => "connection_rate_per_address",
        }
    }
}

impl Default for Counted {
    fn default() -> Self {
        Self(Arc::new(Buckets::new(Instant::now())))
    }
}

impl AcceptRules {
    /// # Errors
    /// If the connection is to be closed.
    pub fn admit(&self, peer: Option<IpAddr>, now: Instant) -> Result<(), Shut> {
        if !lets_in(&self.networks, peer) {
            return Err(Shut::Network);
        }
        let address = peer.filter(|ip| !is_in(*ip, &self.trusted));
        let address = address.map(client_network);
        let counted = self.counted.0.take(self.rates, address, now);
        counted.map_err(|over| match over {
            Over::All(_) => Shut::Rate,
            Over::Client(_) => Shut::AddressRate,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_has_its_rate_and_a_trusted_proxy_has_none() {
        let rules = AcceptRules {
            networks: Networks::default(),
            rates: RateLimits {
                all: None,
                per_client: Some("2/s".parse().unwrap()),
            },
            trusted: ["10.0.0.0/8".parse().unwrap()].into(),
            counted: Counted::default(),
        };
        let now = Instant::now();
        let admit = |peer: &str, now| rules.admit(Some(peer.parse().unwrap()), now);
        for peer in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(admit(peer, now), Ok(()));
            assert_eq!(admit(peer, now), Ok(()));
            assert_eq!(admit(peer, now), Err(Shut::AddressRate));
        }
        assert_eq!(admit("2001:db8::ffff:2", now), Err(Shut::AddressRate));
        assert_eq!(admit("2001:db8:0:1::1", now), Ok(()));
        for _ in 0..100 {
            assert_eq!(admit("10.0.0.1", now), Ok(()));
        }
        let later = now + Duration::from_millis(600);
        assert_eq!(admit("192.0.2.1", later), Ok(()));
    }
}
