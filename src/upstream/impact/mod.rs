//! What another configuration would do to live tunnels: how many would be
//! closed, and how many would go to another backend when their clients come
//! back.
//!
//! It looks and changes nothing. Health has no part in it: what is down now may
//! be up when it matters.

mod outline;
mod plane;
mod visit;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use outline::Outlines;

use self::outline::Outline;
use self::plane::{Group, Home, Plane};
use self::visit::Visit;
use super::{Backends, Upstream};
use crate::config::{BackendState, Config};
use crate::tunnel::{Labels, Registry, Tunnel};

/// What becomes of the tunnels of one route at one backend.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Impact {
    pub route: String,
    pub upstream: String,
    pub backend: String,
    pub tunnels: u64,
    /// Will be told to close.
    pub closing: u64,
    /// Stay, but their clients belong elsewhere than before, or nowhere.
    pub moving: u64,
    /// Stay, but nothing that is kept of their clients says where they belong.
    pub may_move: u64,
}

/// What becomes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stays,
    Moves,
    MayMove,
}

/// Of a comparison, which goes by tunnels times routes.
pub const LONGEST_COMPARISON: Duration = Duration::from_secs(10);

/// Compares what is in force with `next`, tunnel by tunnel. Backends that are
/// discovered are taken to stay. `None` if it is not done at `end`.
pub fn impact(
    registry: &Registry,
    config: &Config,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    next: &Outlines,
    end: Instant,
) -> Option<Vec<Impact>> {
    let mut now = Outlines::of(config);
    let mut next = next.clone();
    let mut closing = Vec::new();
    for (name, upstream) in upstreams {
        let backends = upstream.backends();
        let outline = in_force(upstream, &backends);
        if let Some(next) = next.upstreams.get_mut(name) {
            take_over(next, &outline, &backends);
        }
        closing.extend(closed(&outline, next.upstreams.get(name), &backends));
        now.upstreams.insert(name.clone(), outline);
    }
    if now == next {
        return Some(Vec::new());
    }
    let comparison = Comparison {
        now: Plane::new(&now),
        next: Plane::new(&next),
        closing,
    };
    let mut found: HashMap<*const Labels, Impact> = HashMap::new();
    // Not under the registry's locks: a look takes its time.
    for tunnel in registry.select(&|_| true) {
        let labels = &tunnel.facts().labels;
        let entry = found.entry(Arc::as_ptr(labels));
        let one = entry.or_insert_with(|| Impact::none(labels));
        comparison.count(&tunnel, one);
        if Instant::now() > end {
            return None;
        }
    }
    Some(merged(found.into_values()))
}

/// An upstream as it is, with what persons have said.
fn in_force(upstream: &Upstream, backends: &Backends) -> Outline {
    let mut outline = Outline::with(upstream.settings(), backends.source());
    for (outlined, listed) in outline.backends.iter_mut().zip(backends.list()) {
        outlined.state = listed.state().label().to_owned();
    }
    outline
}

/// Adds to `next` what outlives the edit: what was discovered, and what persons
/// have said where the file does not say something new.
fn take_over(next: &mut Outline, now: &Outline, backends: &Backends) {
    if next.discovers {
        next.backends.clone_from(&now.backends);
        return;
    }
    for listed in backends.list() {
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
}

/// A backend in force: the name that its tunnels have, its address, and whether
/// they are closed.
struct Closing {
    name: Arc<str>,
    address: String,
    closes: bool,
}

fn closed(
    now: &Outline,
    next: Option<&Outline>,
    backends: &Backends,
) -> impl Iterator<Item = Closing> {
    let one = |backend: &Arc<super::Backend>| {
        let address = backend.address().to_string();
        // Of one that is gone whole, what it says itself decides.
        let kept = next.and_then(|next| next.find(backend.name(), &address));
        let closes = match kept {
            Some(kept) => kept.state == BackendState::Draining.label(),
            None => next.unwrap_or(now).drains_removed,
        };
        Closing {
            name: Arc::clone(backend.name()),
            address,
            closes,
        }
    };
    backends.each().map(one).collect::<Vec<_>>().into_iter()
}

struct Comparison<'a> {
    now: Plane<'a>,
    next: Plane<'a>,
    closing: Vec<Closing>,
}

impl Comparison<'_> {
    fn count(&self, tunnel: &Tunnel, of: &mut Impact) {
        of.tunnels += 1;
        let labels = &tunnel.facts().labels;
        let mut backends = self.closing.iter();
        let own = backends.find(|it| Arc::ptr_eq(&it.name, &labels.backend));
        if own.is_some_and(|it| it.closes) {
            of.closing += 1;
            return;
        }
        match self.verdict(tunnel, own.map(|it| &*it.address)) {
            Verdict::Stays => {}
            Verdict::Moves => of.moving += 1,
            Verdict::MayMove => of.may_move += 1,
        }
    }

    /// `own`: the address where the tunnel is, if that is still known.
    fn verdict(&self, tunnel: &Tunnel, own: Option<&str>) -> Verdict {
        let labels = &tunnel.facts().labels;
        let upstream = self.now.upstream(&labels.upstream);
        let visit = Visit::new(tunnel, upstream.map(|group| group.outline));
        let held = Some(&*labels.route);
        let before = self.now.routes(&visit, &self.now, held);
        let after = self.next.routes(&visit, &self.now, held);
        let pairs = before
            .iter()
            .flat_map(|before| after.iter().map(move |after| (*before, *after)));
        let mut verdicts = pairs.map(|(before, after)| {
            let groups = (self.now.group(before), self.next.group(after));
            if let (Some(before), Some(after)) = groups
                && before.is_like(after)
            {
                return Verdict::Stays;
            }
            let before = home(groups.0, &visit, &labels.backend);
            compare(before, home(groups.1, &visit, &labels.backend), own)
        });
        let first = verdicts.next().unwrap_or(Verdict::Stays);
        match verdicts.all(|other| other == first) {
            true => first,
            false => Verdict::MayMove,
        }
    }
}

fn home<'a>(group: Option<&'a Group<'a>>, visit: &Visit<'_>, backend: &str) -> Home<'a> {
    group.map_or(Home::Nowhere, |group| group.home(visit, backend))
}

/// `own`: the address where the tunnel is; where nothing else says it, its client
/// belongs there.
fn compare(before: Home<'_>, after: Home<'_>, own: Option<&str>) -> Verdict {
    let place = match before {
        Home::At(address) => Some(address),
        Home::Anywhere(group) => own.filter(|own| group.uses(own)),
        Home::Nowhere | Home::Unknown => own,
    };
    match (before, after) {
        (Home::Nowhere, Home::Nowhere) => Verdict::Stays,
        (_, Home::Nowhere) => Verdict::Moves,
        (_, Home::Unknown) | (Home::Unknown, _) => Verdict::MayMove,
        (_, Home::At(address)) if place == Some(address) => Verdict::Stays,
        (_, Home::At(_)) => Verdict::Moves,
        (_, Home::Anywhere(group)) => match place {
            Some(place) if !group.uses(place) => Verdict::Moves,
            // Where it is by chance it is no more by chance than before.
            _ if matches!(before, Home::Anywhere(_)) => Verdict::Stays,
            _ => Verdict::MayMove,
        },
    }
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

    fn changes(&self) -> bool {
        self.closing + self.moving + self.may_move > 0
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
                sum.may_move += one.may_move;
            }
        }
    }
    let changed = merged.into_values();
    changed.filter(Impact::changes).collect()
}
