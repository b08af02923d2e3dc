//! Which tunnels an operator means.
//!
//! It only tells one tunnel from another; finding them is `registry`'s, and
//! reading what was asked for is `admin`'s.
//!
//! Invariant: what is not said accepts every tunnel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::entry::{State, Tunnel};

/// What tunnels must have in common; `None` is anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The client's address, behind trusted proxies too.
    pub client: Option<IpNet>,
    /// The hash of the sticky key.
    pub key: Option<u64>,
    pub listener: Option<String>,
    pub route: Option<String>,
    pub upstream: Option<String>,
    pub backend: Option<String>,
    pub state: Option<State>,
}

impl Filter {
    /// Quick, and calls nobody: it may run under the registry's locks.
    pub fn accepts(&self, tunnel: &Tunnel) -> bool {
        let labels = &tunnel.facts().labels;
        let is = |wanted: &Option<String>, label: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == label)
        };
        is(&self.backend, &labels.backend)
            && is(&self.upstream, &labels.upstream)
            && is(&self.route, &labels.route)
            && is(&self.listener, &labels.listener)
            && self
                .key
                .is_none_or(|key| key != 0 && tunnel.facts().key == key)
            && self.state.is_none_or(|state| tunnel.standing() == state)
            && self.client.is_none_or(|net| is_from(tunnel, net))
    }

    /// Whether it accepts every tunnel.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Tunnel {
    /// The client as trusted proxies tell it, or else whoever is connected,
    /// without the port.
    pub fn client(&self) -> &str {
        let opening = &self.facts().opening;
        if let Some(client) = opening.words().forwarded_for() {
            return client;
        }
        match opening.client().rsplit_once(':') {
            Some((address, _)) => address.trim_matches(['[', ']']),
            None => opening.client(),
        }
    }
}

fn is_from(tunnel: &Tunnel, net: IpNet) -> bool {
    let client = tunnel.client();
    let address = client.parse::<IpAddr>();
    address.is_ok_and(|address| net.contains(&address.to_canonical()))
}
