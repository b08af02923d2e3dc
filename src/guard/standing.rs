//! What clients have had of a route so far; it outlives reloads, which change the
//! limits and not what has been.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::buckets::{Buckets, Over};
use super::retry_after;
use super::tunnels::{Tally, TunnelPermit};
use crate::config::{RouteLimits, TunnelLimits};
use crate::exchange::Refusal;
use crate::net::client_network;

#[derive(Debug)]
pub struct Standing {
    handshakes: Buckets,
    requests: Buckets,
    tunnels: Arc<Tally>,
}

impl Default for Standing {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            handshakes: Buckets::new(now),
            requests: Buckets::new(now),
            tunnels: Arc::default(),
        }
    }
}

impl Standing {
    /// Counts a request.
    ///
    /// # Errors
    /// If it is one too many.
    pub fn count(
        &self,
        limits: &RouteLimits,
        is_upgrade: bool,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let client = client.map(client_network);
        if is_upgrade {
            let counted = self.handshakes.take(limits.handshakes, client, now);
            return counted.map_err(|over| match over {
                Over::All(wait) => Refusal::HandshakeRate(retry_after(wait)),
                Over::Client(wait) => Refusal::HandshakeRatePerClient(retry_after(wait)),
            });
        }
        let counted = self.requests.take(limits.requests, client, now);
        counted.map_err(|over| match over {
            Over::All(wait) => Refusal::RequestRate(retry_after(wait)),
            Over::Client(wait) => Refusal::RequestRatePerClient(retry_after(wait)),
        })
    }

    /// The right to a tunnel; `None` where tunnels are not counted.
    ///
    /// # Errors
    /// If it were one too many.
    pub fn permit(
        &self,
        limits: &TunnelLimits,
        client: Option<IpAddr>,
        key: Option<u64>,
    ) -> Result<Option<TunnelPermit>, Refusal> {
        if *limits == TunnelLimits::default() {
            return Ok(None);
        }
        let client = client
            .map(client_network)
            .filter(|_| limits.per_client.is_some());
        let key = key.filter(|_| limits.per_sticky_key.is_some());
        self.tunnels.permit(limits, client, key).map(Some)
    }
}
