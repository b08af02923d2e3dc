//! What another configuration would do to live tunnels: how many would be
//! closed, and how many would go to another backend when their clients come
//! back.
//!
//! It looks and changes nothing. Health has no part in it: what is down now may
//! be up when it matters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Upstream;
use crate::balance::{Member, member_id, rendezvous};
use crate::config::{self, BackendState, Balance, OnRemoved};
use crate::tunnel::{Labels, Registry, Tunnel};

/// What is to be known of an upstream for that.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// Whether keys choose the backend.
    pub hashes: bool,
    /// Whether the tunnels of a backend that is gone are closed.
    pub drains_removed: bool,
    /// Whether backends are found and not listed.
    pub discovers: bool,
    pub backends: Vec<OutlinedBackend>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OutlinedBackend {
    pub name: String,
    pub address: String,
    pub weight: u32,
    /// `active`, `draining` or `disabled`.
    pub state: String,
}

/// What becomes of the tunnels of one route at one backend.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Impact {
    pub route: String,
    pub upstream: String,
    pub backend: String,
    pub tunnels: u64,
    /// Will be told to close.
    pub closing: u64,
    /// Stay, but their keys belong to another backend than before.
    pub moving: u64,
}

impl Outline {
    pub fn of(settings: &config::Upstream) -> Self {
        Self::with(settings, &settings.backends)
    }

    fn with(settings: &config::Upstream, backends: &[config::Backend]) -> Self {
        let backend = |one: &config::Backend| OutlinedBackend {
            name: one.name.clone(),
            address: one.address.to_string(),
            weight: one.weight,
            state: one.state.label().to_owned(),
        };
        Self {
            hashes: settings.balance == Balance::Hash,
            drains_removed: settings.on_removed == OnRemoved::Drain,
            discovers: settings.discovery.is_some(),
            backends: backends.iter().map(backend).collect(),
        }
    }

    fn find(&self, name: &str, address: &str) -> Option<&OutlinedBackend> {
        let mut backends = self.backends.iter();
        backends.find(|it| it.name == name && it.address == address)
    }

    /// The name of the backend where a key belongs.
    fn homes<'a>(&'a self) -> impl Fn(u64) -> Option<&'a str> {
        let member = |one: &OutlinedBackend| Member {
            id: member_id(&one.name),
            weight: one.weight,
            ramp: 100,
            load: 0,
        };
        let members: Vec<Member> = self.backends.iter().map(member).collect();
        let active = BackendState::Active.label();
        move |key| {
            let skip = |index: usize| self.backends[index].state != active;
            let home = rendezvous(key, &members, &skip)?;
            Some(self.backends[home].name.as_str())
        }
    }
}

/// Compares the upstreams in force with `next`, tunnel by tunnel. Backends that
/// are discovered are taken to stay.
pub fn impact(
    registry: &Registry,
    now: &BTreeMap<String, Arc<Upstream>>,
    next: &BTreeMap<String, Outline>,
) -> Vec<Impact> {
    let changes: HashMap<&str, Change> = now
        .iter()
        .map(|(name, upstream)| (name.as_str(), Change::new(upstream, next.get(name))))
        .collect();
    let homes: HashMap<&str, _> = changes
        .iter()
        .map(|(name, change)| (*name, (change.now.homes(), change.next.homes())))
        .collect();
    let mut found: HashMap<Key, Impact> = HashMap::new();
    registry.each(&mut |tunnel| {
        let labels = &tunnel.facts().labels;
        let one = found
            .entry(Arc::as_ptr(labels))
            .or_insert_with(|| Impact::none(labels));
        one.tunnels += 1;
        let Some(change) = changes.get(&*labels.upstream) else {
            return;
        };
        if change.closes(tunnel) {
            one.closing += 1;
        } else if let (true, Some((before, after))) = (change.moves, homes.get(&*labels.upstream)) {
            let key = tunnel.facts().key;
            one.moving += u64::from(key != 0 && before(key) != after(key));
        }
    });
    merged(found.into_values())
}

type Key = *const Labels;

/// The same, for two upstreams of one name.
struct Change {
    now: Outline,
    next: Outline,
    /// By the name that tunnels have: whether its tunnels are closed.
    closing: Vec<(Arc<str>, bool)>,
    moves: bool,
}

impl Change {
    fn new(upstream: &Upstream, next: Option<&Outline>) -> Self {
        let backends = upstream.backends();
        let mut now = Outline::with(upstream.settings(), backends.source());
        for (outlined, listed) in now.backends.iter_mut().zip(backends.list()) {
            outlined.state = listed.state().label().to_owned();
        }
        let next = match next {
            Some(next) if next.discovers => Outline {
                backends: now.backends.clone(),
                ..next.clone()
            },
            Some(next) => said(next, &backends),
            // Gone whole: what it says itself decides.
            None => Outline {
                backends: Vec::new(),
                ..now.clone()
            },
        };
        let closes = |backend: &super::Backend| match next
            .find(backend.name(), &backend.address().to_string())
        {
            Some(kept) => kept.state == BackendState::Draining.label(),
            None => next.drains_removed,
        };
        let closing = backends
            .each()
            .map(|backend| (Arc::clone(backend.name()), closes(backend)))
            .collect();
        Self {
            moves: now.hashes && next.hashes && now.backends != next.backends,
            closing,
            now,
            next,
        }
    }

    fn closes(&self, tunnel: &Tunnel) -> bool {
        let of = &tunnel.facts().labels.backend;
        let mut backends = self.closing.iter();
        backends.any(|(name, closes)| *closes && Arc::ptr_eq(name, of))
    }
}

/// With what a person has said, where the file does not say something new.
fn said(next: &Outline, now: &super::Backends) -> Outline {
    let mut next = next.clone();
    for listed in now.list() {
        let (backend, filed) = (listed.backend(), listed.filed_state().label());
        let address = backend.address().to_string();
        let same = next
            .backends
            .iter_mut()
            .find(|it| *it.name == **backend.name() && it.address == address);
        if let (Some(one), Some(said)) = (same, backend.said())
            && one.state == filed
        {
            one.state = said.label().to_owned();
        }
    }
    next
}

impl Impact {
    fn none(labels: &Labels) -> Self {
        Self {
            route: labels.route.to_string(),
            upstream: labels.upstream.to_string(),
            backend: labels.backend.to_string(),
            ..Self::default()
        }
    }
}

/// One entry for each route and backend, in order; only what changes something.
fn merged(all: impl Iterator<Item = Impact>) -> Vec<Impact> {
    let mut merged: BTreeMap<(String, String, String), Impact> = BTreeMap::new();
    for one in all {
        let key = (one.route.clone(), one.upstream.clone(), one.backend.clone());
        match merged.get_mut(&key) {
            None => {
                merged.insert(key, one);
            }
            Some(sum) => {
                sum.tunnels += one.tunnels;
                sum.closing += one.closing;
                sum.moving += one.moving;
            }
        }
    }
    let changed = merged.into_values();
    changed.filter(|it| it.closing + it.moving > 0).collect()
}
