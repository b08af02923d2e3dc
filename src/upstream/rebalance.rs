//! Which tunnels to close so that an upstream's backends are even again.
//!
//! It chooses and closes none. A tunnel that would only come back to the same
//! backend is not chosen: one whose key belongs there, unless `max_load` would
//! send it on, and one whose client has a cookie of longhaul's own.
//!
//! Invariant: no backend is left with less than its share.

use std::sync::Arc;

use super::{Backends, Upstream};
use crate::config::{Balance, StickySource};
use crate::tunnel::{Registry, State, Tunnel};

/// What a rebalance would do.
#[derive(Debug)]
pub struct Plan {
    pub shares: Vec<Share>,
    /// In the order in which they are to be closed.
    pub tunnels: Vec<Arc<Tunnel>>,
}

/// One backend that clients may be sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub backend: Arc<str>,
    pub tunnels: usize,
    /// What it would have if all were even.
    pub share: f64,
    pub closing: usize,
    /// What is in excess, but would come back.
    pub stays: usize,
}

/// A tunnel, and whether its key belongs elsewhere.
struct Candidate {
    tunnel: Arc<Tunnel>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Its key belongs to another backend.
    Elsewhere,
    /// It goes wherever there is room.
    Free,
    /// Its key belongs here.
    Home,
    /// Its client would ask for this backend.
    Bound,
}

impl Plan {
    /// Looks at the live tunnels of an upstream. `to` is how far from its share
    /// a backend may be, 0.0-1.0 of it.
    pub fn new(upstream: &Upstream, registry: &Registry, to: f64) -> Self {
        let backends = upstream.backends();
        let groups = groups(upstream, &backends, registry);
        let counts: Vec<usize> = groups.iter().map(Vec::len).collect();
        let weights: Vec<u32> = (0..counts.len())
            .map(|index| match backends.may_use(index) {
                true => backends.list()[index].weight(),
                false => 0,
            })
            .collect();
        let shares = shares(&counts, &weights);
        let excess = closes(&counts, &shares, to);
        let mut plan = Self {
            shares: Vec::new(),
            tunnels: Vec::new(),
        };
        let mut ranked = Vec::new();
        for (index, group) in groups.into_iter().enumerate() {
            if weights[index] == 0 {
                continue;
            }
            let at_home = may_leave_home(upstream, counts[index], shares[index]);
            let chosen = choose(group, excess[index], at_home);
            plan.shares.push(Share {
                backend: Arc::clone(backends.get(index).name()),
                tunnels: counts[index],
                share: shares[index],
                closing: chosen.len(),
                stays: excess[index] - chosen.len(),
            });
            ranked.extend(chosen.into_iter().enumerate());
        }
        // Those of all backends side by side, so that none is relieved first.
        ranked.sort_by_key(|(rank, _)| *rank);
        plan.tunnels = ranked.into_iter().map(|(_, tunnel)| tunnel).collect();
        plan
    }
}

/// The tunnels of each backend that nobody has told to close.
fn groups(upstream: &Upstream, backends: &Backends, registry: &Registry) -> Vec<Vec<Candidate>> {
    let mut groups: Vec<Vec<Candidate>> = backends.each().map(|_| Vec::new()).collect();
    let homes = backends.homes();
    let name = upstream.name();
    let live = registry.select(&|tunnel| {
        tunnel.facts().labels.upstream == *name
            && matches!(tunnel.standing(), State::Open | State::HalfClosed)
    });
    for tunnel in live {
        let of = &tunnel.facts().labels.backend;
        // This very backend, not another that had its name.
        let Some(index) = backends.each().position(|it| Arc::ptr_eq(it.name(), of)) else {
            continue;
        };
        let standing = standing(upstream, tunnel.facts().key, index, &homes);
        groups[index].push(Candidate { tunnel, standing });
    }
    groups
}

fn standing(
    upstream: &Upstream,
    key: u64,
    index: usize,
    homes: &impl Fn(u64) -> Option<usize>,
) -> Standing {
    let settings = upstream.settings();
    if key == 0 {
        return match settings.sticky.contains(&StickySource::OwnCookie) {
            true => Standing::Bound,
            false => Standing::Free,
        };
    }
    match (settings.balance, homes(key)) {
        (Balance::Hash, Some(home)) if home == index => Standing::Home,
        (Balance::Hash, Some(_)) => Standing::Elsewhere,
        _ => Standing::Free,
    }
}

/// How many tunnels would be sent on although their keys belong here.
fn may_leave_home(upstream: &Upstream, tunnels: usize, share: f64) -> usize {
    let Some(max_load) = upstream.settings().max_load else {
        return 0;
    };
    tunnels.saturating_sub((max_load * share).ceil() as usize)
}

/// The first `most` of them, of those that stay at home `at_home`.
fn choose(mut group: Vec<Candidate>, most: usize, at_home: usize) -> Vec<Arc<Tunnel>> {
    group.sort_by_key(|one| (one.standing, one.tunnel.id()));
    let mut left_at_home = at_home;
    let leaves = group.into_iter().filter(|one| match one.standing {
        Standing::Elsewhere | Standing::Free => true,
        Standing::Home => {
            let leaves = left_at_home > 0;
            left_at_home = left_at_home.saturating_sub(1);
            leaves
        }
        Standing::Bound => false,
    });
    leaves.take(most).map(|one| one.tunnel).collect()
}

fn shares(counts: &[usize], weights: &[u32]) -> Vec<f64> {
    let used = counts
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight > 0);
    let all: usize = used.map(|(count, _)| count).sum();
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    let share = |weight: &u32| match sum > 0.0 {
        true => all as f64 * f64::from(*weight) / sum,
        false => 0.0,
    };
    weights.iter().map(share).collect()
}

/// How many tunnels of each backend are too many: so many that afterwards none
/// has more than its share and `to`, and, if those who leave go where there is
/// least, none less than its share less `to`.
fn closes(counts: &[usize], shares: &[f64], to: f64) -> Vec<usize> {
    let over =
        |(count, share): (&usize, &f64)| count.saturating_sub((share * (1.0 + to)).ceil() as usize);
    let under = |(count, share): (&usize, &f64)| {
        ((share * (1.0 - to)).floor() as usize).saturating_sub(*count)
    };
    let excess = |(count, share): (&usize, &f64)| match *share > 0.0 {
        true => count.saturating_sub(share.ceil() as usize),
        // It is not used, and so it is not overfull.
        false => 0,
    };
    let pairs = || counts.iter().zip(shares);
    let most: usize = pairs().map(excess).sum();
    let moves = pairs()
        .filter(|(_, share)| **share > 0.0)
        .map(over)
        .sum::<usize>()
        .max(pairs().map(under).sum());
    let part = |pair| {
        let even = (moves as f64 * excess(pair) as f64 / most.max(1) as f64).ceil();
        (even as usize).max(over(pair)).min(excess(pair))
    };
    pairs().map(part).collect()
}

#[cfg(test)]
mod tests;
