//! Looks after the backends of the configuration in force: has them found and
//! probed, says once what becomes of their health and state, and drains those that are
//! to be drained.
//!
//! It decides nothing about health (`upstream` does) and is in nobody's way:
//! requests see a change before it is told here.
//!
//! Invariant: after [`Overseer::look`] exactly the upstreams that are to be
//! found backends for, and the backends that are to be probed or drained, are,
//! each by one task.

use std::collections::HashMap;
use std::sync::Arc;

use super::backend_drain::BackendDrain;
use super::rebalancing::Rebalancing;
use crate::config::{BackendState, Ending, OnRemoved, OnUnhealthy};
use crate::state::{Snapshot, State};
use crate::upstream::{Backend, Backends, Discovery, Listed, Probing, Standing, Upstream};

pub(super) struct Overseer {
    state: Arc<State>,
    upstreams: HashMap<Arc<str>, Overseen>,
    discovered: HashMap<Arc<str>, Discovery>,
    probed: HashMap<Key, Probing>,
    drained: HashMap<Key, BackendDrain>,
    rebalanced: HashMap<Arc<str>, Rebalancing>,
}

/// A backend by identity: another that has its name is another.
type Key = *const Backend;

/// An upstream as it was at the last look.
struct Overseen {
    upstream: Arc<Upstream>,
    backends: Arc<Backends>,
    panic: bool,
    told: HashMap<Key, (Standing, BackendState)>,
}

impl Overseer {
    pub(super) fn new(state: &Arc<State>) -> Self {
        Self {
            state: Arc::clone(state),
            upstreams: HashMap::new(),
            discovered: HashMap::new(),
            probed: HashMap::new(),
            drained: HashMap::new(),
            rebalanced: HashMap::new(),
        }
    }

    /// Brings everything in line with the snapshot, the backends and the health
    /// of this moment. Called within a runtime.
    pub(super) fn look(&mut self) {
        let snapshot = self.state.snapshot();
        let mut before = std::mem::take(&mut self.upstreams);
        let mut probed = std::mem::take(&mut self.probed);
        let mut discovered = std::mem::take(&mut self.discovered);
        let mut rebalanced = std::mem::take(&mut self.rebalanced);
        for (name, upstream) in &snapshot.upstreams {
            let was = before.remove(&**name);
            self.discover(&mut discovered, upstream);
            self.rebalance(&mut rebalanced, upstream);
            let backends = upstream.backends();
            if let Some(was) = &was {
                self.part(&snapshot, was, upstream, &backends);
            }
            let overseen = tell(was, upstream, &backends);
            for (index, listed) in backends.list().iter().enumerate() {
                self.probe(&mut probed, upstream, listed);
                let standing = backends.standing(index);
                let ending = why_drain(upstream, listed, standing, overseen.panic);
                self.drain(&snapshot, upstream, listed.backend(), ending);
            }
            self.upstreams.insert(Arc::clone(upstream.name()), overseen);
        }
        for was in before.values() {
            self.part_all(&snapshot, was);
        }
        drop(before);
        // Whoever left is drained to the end, and then forgotten.
        let upstreams = &self.upstreams;
        let is_listed = |key: &Key| upstreams.values().any(|it| it.told.contains_key(key));
        self.drained
            .retain(|key, drain| is_listed(key) || drain.is_needed());
    }

    /// A file that backends are found in may have changed.
    pub(super) fn look_at_files(&self) {
        self.discovered.values().for_each(Discovery::look);
    }

    fn discover(&mut self, before: &mut HashMap<Arc<str>, Discovery>, upstream: &Arc<Upstream>) {
        if upstream.settings().discovery.is_none() {
            return;
        }
        let discovery = match before.remove(upstream.name()) {
            Some(kept) => {
                kept.follow(upstream);
                kept
            }
            None => Discovery::start(Arc::clone(upstream), Arc::clone(&self.state.metrics)),
        };
        self.discovered
            .insert(Arc::clone(upstream.name()), discovery);
    }

    /// Has its tunnels spread as its policy says.
    fn rebalance(&mut self, before: &mut HashMap<Arc<str>, Rebalancing>, upstream: &Upstream) {
        let Some(policy) = upstream.settings().rebalance else {
            return;
        };
        let name = upstream.name();
        let kept = before.remove(name).filter(|it| it.policy() == policy);
        let rebalancing = kept.unwrap_or_else(|| Rebalancing::start(&self.state, name, policy));
        self.rebalanced.insert(Arc::clone(name), rebalancing);
    }

    /// The backends of an upstream that it no longer has.
    fn part(
        &mut self,
        snapshot: &Snapshot,
        was: &Overseen,
        upstream: &Upstream,
        backends: &Arc<Backends>,
    ) {
        if Arc::ptr_eq(&was.backends, backends) {
            return;
        }
        for backend in was.backends.each() {
            if backends.position(backend).is_none() {
                // What the new file says decides, while it still has the upstream.
                self.let_go(snapshot, upstream, backend);
            }
        }
    }

    fn part_all(&mut self, snapshot: &Snapshot, was: &Overseen) {
        for backend in was.backends.each() {
            self.let_go(snapshot, &was.upstream, backend);
        }
    }

    /// What becomes of the tunnels of a backend that is no longer there.
    fn let_go(&mut self, snapshot: &Snapshot, upstream: &Upstream, backend: &Arc<Backend>) {
        let ending = match upstream.settings().on_removed {
            OnRemoved::Drain => Some(Ending::Removed),
            // Taking it away takes nothing back that was said before, and cannot
            // make it well.
            OnRemoved::Keep => {
                let drained = self.drained.get(&Arc::as_ptr(backend));
                drained.map(BackendDrain::ending)
            }
        };
        self.drain(snapshot, upstream, backend, ending);
    }

    /// Has it probed as its upstream says; nobody else's probes go on.
    fn probe(
        &mut self,
        before: &mut HashMap<Key, Probing>,
        upstream: &Arc<Upstream>,
        listed: &Listed,
    ) {
        if upstream.settings().health.is_none() || listed.state() == BackendState::Disabled {
            return;
        }
        let backend = listed.backend();
        let key = Arc::as_ptr(backend);
        let probing = match before.remove(&key) {
            Some(kept) => {
                kept.follow(upstream);
                kept
            }
            None => Probing::start(
                Arc::clone(upstream),
                Arc::clone(backend),
                Arc::clone(&self.state.metrics),
            ),
        };
        self.probed.insert(key, probing);
    }

    /// Drains it for this reason, or not at all.
    fn drain(
        &mut self,
        snapshot: &Snapshot,
        upstream: &Upstream,
        backend: &Arc<Backend>,
        ending: Option<Ending>,
    ) {
        let key = Arc::as_ptr(backend);
        if self.drained.get(&key).map(BackendDrain::ending) == ending {
            return;
        }
        self.drained.remove(&key);
        if let Some(ending) = ending {
            let drain = BackendDrain::start(&self.state, snapshot, upstream, backend, ending);
            self.drained.insert(key, drain);
        }
    }
}

fn why_drain(
    upstream: &Upstream,
    listed: &Listed,
    standing: Standing,
    panic: bool,
) -> Option<Ending> {
    match (listed.state(), standing) {
        (BackendState::Draining, _) => Some(Ending::Drain),
        (BackendState::Active, Standing::Down | Standing::Ejected)
            // In panic its clients would have nowhere better to go.
            if !panic && upstream.settings().on_unhealthy == OnUnhealthy::Drain =>
        {
            Some(Ending::Unhealthy)
        }
        _ => None,
    }
}

/// Says what is different from the last look. What is new is as it should be.
fn tell(was: Option<Overseen>, upstream: &Arc<Upstream>, backends: &Arc<Backends>) -> Overseen {
    let panic = backends.in_panic();
    if panic != was.as_ref().is_some_and(|was| was.panic) {
        tell_panic(upstream, panic);
    }
    let told = was.map(|was| was.told).unwrap_or_default();
    let mut now = HashMap::new();
    for (index, listed) in backends.list().iter().enumerate() {
        let backend = listed.backend();
        let key = Arc::as_ptr(backend);
        let (standing, state) = (backends.standing(index), listed.state());
        if let Some((old_standing, old_state)) = told.get(&key) {
            if *old_state != state {
                tell_state(listed);
            }
            if *old_standing != standing && state != BackendState::Disabled {
                tell_standing(backend, standing);
            }
        }
        now.insert(key, (standing, state));
    }
    Overseen {
        upstream: Arc::clone(upstream),
        backends: Arc::clone(backends),
        panic,
        told: now,
    }
}

fn tell_panic(upstream: &Upstream, panic: bool) {
    let upstream = &**upstream.name();
    match panic {
        true => tracing::warn!(upstream, "too few backends are up: all are used"),
        false => tracing::info!(upstream, "enough backends are up again"),
    }
}

fn tell_state(listed: &Listed) {
    let backend = listed.backend();
    tracing::info!(
        upstream = &**backend.upstream(),
        backend = &**backend.name(),
        state = listed.state().label(),
        by = listed.state_by(),
        tunnels = backend.tunnels(),
        "backend has another state"
    );
}

fn tell_standing(backend: &Backend, standing: Standing) {
    let (upstream, name) = (&**backend.upstream(), &**backend.name());
    let tunnels = backend.tunnels();
    let reason = backend.last_probe().and_then(|probe| probe.error);
    let reason = reason.as_deref();
    match standing {
        Standing::Up => tracing::info!(upstream, backend = name, tunnels, "backend is up"),
        Standing::Down => {
            tracing::warn!(upstream, backend = name, tunnels, reason, "backend is down");
        }
        Standing::Ejected => {
            let ejected = backend.ejected();
            tracing::warn!(
                upstream,
                backend = name,
                tunnels,
                reason = ejected.map(|ejected| ejected.report.label()),
                seconds = ejected.map(|ejected| ejected.time.as_secs_f64()),
                in_a_row = ejected.map(|ejected| ejected.in_a_row),
                "backend is ejected"
            );
        }
    }
}

#[cfg(test)]
mod tests;
