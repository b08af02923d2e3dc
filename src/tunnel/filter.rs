//! Which tunnels an operator means.
//!
//! It only tells one tunnel from another; finding them is `registry`'s, and
//! reading what was asked for is `admin`'s.
//!
//! Invariant: what is not said accepts every tunnel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::entry::{Facts, State, Tunnel};
use crate::net::canonical_network;

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
    /// A text that must be somewhere in what is shown of it.
    pub search: Option<String>,
}

impl Filter {
    /// Quick, and calls nobody: it may run under the registry's locks.
    pub fn accepts(&self, tunnel: &Tunnel) -> bool {
        self.state.is_none_or(|state| tunnel.standing() == state) && self.fits(tunnel.facts())
    }

    /// The same of a tunnel that is over, and in no state any more.
    pub fn accepts_ended(&self, facts: &Facts) -> bool {
        self.state.is_none() && self.fits(facts)
    }

    fn fits(&self, facts: &Facts) -> bool {
        let labels = &facts.labels;
        let is = |wanted: &Option<String>, label: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == label)
        };
        is(&self.backend, &labels.backend)
            && is(&self.upstream, &labels.upstream)
            && is(&self.route, &labels.route)
            && is(&self.listener, &labels.listener)
            && self.key.is_none_or(|key| key != 0 && facts.key == key)
            && self.client.is_none_or(|net| is_from(facts, net))
            && self.search.as_ref().is_none_or(|it| facts.mentions(it))
    }

    /// Whether it accepts every tunnel.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Facts {
    /// The client as trusted proxies tell it, or else whoever is connected,
    /// without the port.
    pub fn client(&self) -> &str {
        if let Some(client) = self.opening.words().forwarded_for() {
            return client;
        }
        match self.opening.client().rsplit_once(':') {
            Some((address, _)) => address.trim_matches(['[', ']']),
            None => self.opening.client(),
        }
    }

    /// Whether a text is somewhere in what a person sees of it, in any case of
    /// ASCII letters; or is its id.
    fn mentions(&self, text: &str) -> bool {
        let labels = &self.labels;
        let words = self.opening.words();
        let seen = [
            self.client(),
            words.host,
            words.path,
            words.sni,
            &labels.listener,
            &labels.route,
            &labels.upstream,
            &labels.backend,
        ];
        seen.iter().any(|whole| holds(whole, text)) || text.parse() == Ok(self.id)
    }
}

fn holds(whole: &str, part: &str) -> bool {
    let mut windows = whole.as_bytes().windows(part.len().max(1));
    part.is_empty() || windows.any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

impl Tunnel {
    /// As its [`Facts::client`].
    pub fn client(&self) -> &str {
        self.facts().client()
    }
}

fn is_from(facts: &Facts, net: IpNet) -> bool {
    let address = facts.client().parse::<IpAddr>();
    let net = canonical_network(net).unwrap_or(net);
    address.is_ok_and(|address| net.contains(&address.to_canonical()))
}
