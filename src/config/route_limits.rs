//! How much of a route clients may have: rates of handshakes and requests, and
//! tunnels at once.
//!
//! The values beside their reader; the counting is `guard`'s.

use super::rate::{Rate, rate};
use super::section::{Section, has_no_effect};
use super::value::integer;

/// The limits of one route; the default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Requests for a tunnel.
    pub handshakes: RateLimits,
    /// All others.
    pub requests: RateLimits,
    pub tunnels: TunnelLimits,
}

/// How many may come per time; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// In all.
    pub all: Option<Rate>,
    /// Of one client.
    pub per_client: Option<Rate>,
}

/// How many may live at once; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelLimits {
    pub all: Option<usize>,
    pub per_client: Option<usize>,
    pub per_sticky_key: Option<usize>,
}

impl RouteLimits {
    /// Whether any of them tells one client from another.
    pub fn count_clients(&self) -> bool {
        self.handshakes.per_client.is_some()
            || self.requests.per_client.is_some()
            || self.tunnels.per_client.is_some()
    }
}

/// As many as the kernel has file descriptors for.
const MANY: usize = 100_000_000;

pub(super) fn route_limits(section: &Section<'_>) -> RouteLimits {
    let tunnels = |key| section.optional(key, integer(1, MANY));
    RouteLimits {
        handshakes: RateLimits {
            all: section.optional("handshake_rate", rate),
            per_client: section.optional("handshake_rate_per_client", rate),
        },
        requests: RateLimits {
            all: section.optional("request_rate", rate),
            per_client: section.optional("request_rate_per_client", rate),
        },
        tunnels: TunnelLimits {
            all: tunnels("max_tunnels"),
            per_client: tunnels("max_tunnels_per_client"),
            per_sticky_key: tunnels("max_tunnels_per_sticky_key"),
        },
    }
}

/// Findings about what concerns tunnels where there are none.
pub(super) fn without_upgrades(section: &Section<'_>) {
    for key in [
        "handshake_rate",
        "handshake_rate_per_client",
        "max_tunnels",
        "max_tunnels_per_client",
        "max_tunnels_per_sticky_key",
    ] {
        has_no_effect(section, key, "`upgrades`");
    }
}
