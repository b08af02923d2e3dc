//! How many tunnels of a route may live at once: in all, of one client, and of
//! one sticky key.
//!
//! Invariant: a permit counts until it is dropped, at the tunnel's end; only what
//! has a permit is in a table, so the tunnels bound it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::retry_after;
use crate::config::TunnelLimits;
use crate::exchange::Refusal;

/// What those are told to wait who find no place: nobody knows when one will be
/// free.
const WAIT: Duration = Duration::from_secs(5);

/// The tunnels of one route, whatever the configuration it had.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
    by_key: HashMap<u64, usize>,
}

/// The right to one tunnel; given back when dropped.
#[derive(Debug)]
pub struct TunnelPermit {
    tally: Arc<Tally>,
    client: Option<IpAddr>,
    key: Option<u64>,
}

impl Tally {
    /// `client`: its network, if it has one. `key`: the hash of its sticky key.
    ///
    /// # Errors
    /// Which limit is reached.
    pub(super) fn permit(
        self: &Arc<Self>,
        limits: &TunnelLimits,
        client: Option<IpAddr>,
        key: Option<u64>,
    ) -> Result<TunnelPermit, Refusal> {
        let mut counts = self.counts();
        let is_full = |open: Option<&usize>, most: Option<usize>| {
            most.is_some_and(|most| open.copied().unwrap_or(0) >= most)
        };
        let of_client = client.and_then(|it| counts.by_client.get(&it));
        if client.is_some() && is_full(of_client, limits.per_client) {
            return Err(Refusal::MaxTunnelsPerClient(retry_after(WAIT)));
        }
        let of_key = key.and_then(|it| counts.by_key.get(&it));
        if key.is_some() && is_full(of_key, limits.per_sticky_key) {
            return Err(Refusal::MaxTunnelsPerStickyKey(retry_after(WAIT)));
        }
        if is_full(Some(&counts.all), limits.all) {
            return Err(Refusal::MaxTunnels(retry_after(WAIT)));
        }
        counts.all += 1;
        add(&mut counts.by_client, client);
        add(&mut counts.by_key, key);
        Ok(TunnelPermit {
            tally: Arc::clone(self),
            client,
            key,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing in between two counts can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        let mut counts = self.tally.counts();
        counts.all -= 1;
        take_off(&mut counts.by_client, self.client);
        take_off(&mut counts.by_key, self.key);
    }
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: Option<K>) {
    if let Some(key) = key {
        *counts.entry(key).or_insert(0) += 1;
    }
}

fn take_off<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: Option<K>) {
    let Some(key) = key else { return };
    if let Some(open) = counts.get_mut(&key) {
        *open -= 1;
        if *open == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: usize, per_client: usize, per_sticky_key: usize) -> TunnelLimits {
        TunnelLimits {
            all: Some(all),
            per_client: Some(per_client),
            per_sticky_key: Some(per_sticky_key),
        }
    }

    #[test]
    fn each_limit_holds_and_is_given_back() {
        let (tally, limits) = (Arc::new(Tally::default()), limits(4, 2, 3));
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|it| it.parse().ok());
        let permit = |client, key| tally.permit(&limits, client, key);
        let label = |refused: Result<TunnelPermit, Refusal>| refused.unwrap_err().label();
        let first = permit(a, Some(1)).unwrap();
        let mut held = vec![permit(a, Some(1)).unwrap()];
        assert_eq!(label(permit(a, Some(2))), "max_tunnels_per_client");
        held.push(permit(b, Some(1)).unwrap());
        assert_eq!(label(permit(b, Some(1))), "max_tunnels_per_sticky_key");
        held.push(permit(b, Some(2)).unwrap());
        assert_eq!(label(permit(c, Some(3))), "max_tunnels");
        assert_eq!(label(permit(None, None)), "max_tunnels");
        drop(first);
        held.push(permit(a, Some(1)).unwrap());
        drop(held);
        let counts = tally.counts();
        assert_eq!(counts.all, 0);
        assert!(counts.by_client.is_empty() && counts.by_key.is_empty());
    }
}
