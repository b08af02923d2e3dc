//! Looks after the backends of the configuration in force: has them probed,
//! says once what becomes of their health, and drains those that go down if
//! their upstream says so.
//!
//! It decides nothing about health (`upstream` does) and is in nobody's way:
//! requests see a verdict before it is told here.
//!
//! Invariant: after [`Overseer::look`] exactly the backends that are to be
//! probed are probed, each by one task.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::config::OnUnhealthy;
use crate::state::{Snapshot, State};
use crate::tunnel::{Cause, CloseOrder};
use crate::upstream::{Backend, Probing, Standing, Upstream};

pub(super) struct Overseer {
    state: Arc<State>,
    /// Whose probes and words are up to date.
    generation: u64,
    probed: HashMap<Key, Probing>,
    told: HashMap<Key, Told>,
    /// Upstreams in panic.
    panics: HashMap<Arc<str>, bool>,
}

/// Upstream and backend.
type Key = (Arc<str>, Arc<str>);

/// What has been said of a backend.
struct Told {
    standing: Standing,
    drain: Option<Drain>,
}

/// The paced closes of a backend's tunnels; no more of them once it is dropped.
struct Drain(JoinHandle<()>);

impl Drop for Drain {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Overseer {
    pub(super) fn new(state: &Arc<State>) -> Self {
        Self {
            state: Arc::clone(state),
            generation: 0,
            probed: HashMap::new(),
            told: HashMap::new(),
            panics: HashMap::new(),
        }
    }

    /// Brings everything in line with the snapshot and the health of this
    /// moment. Called within a runtime.
    pub(super) fn look(&mut self) {
        let snapshot = self.state.snapshot();
        if self.generation != snapshot.generation {
            self.generation = snapshot.generation;
            self.follow(&snapshot);
        }
        for upstream in snapshot.upstreams.values() {
            self.tell(upstream, &snapshot);
        }
    }

    fn follow(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.probed);
        for (upstream, backend) in &each_backend(snapshot) {
            if upstream.settings().health.is_none() {
                continue;
            }
            let key = key(upstream, backend);
            let kept = before.remove(&key);
            let probing = match kept.filter(|kept| Arc::ptr_eq(kept.backend(), backend)) {
                Some(kept) => {
                    kept.follow(Arc::clone(upstream));
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
        let mut told = std::mem::take(&mut self.told);
        for (upstream, backend) in &each_backend(snapshot) {
            let key = key(upstream, backend);
            if let Some(one) = told.remove(&key) {
                self.told.insert(key, one);
            }
        }
        let names = &snapshot.upstreams;
        self.panics.retain(|name, _| names.contains_key(&**name));
    }

    fn tell(&mut self, upstream: &Arc<Upstream>, snapshot: &Snapshot) {
        let backends = upstream.backends();
        let panic = backends.in_panic();
        let panicked = self.panics.insert(Arc::clone(upstream.name()), panic);
        if panic != panicked.unwrap_or(false) {
            tell_panic(upstream, panic);
        }
        for (index, backend) in backends.each().enumerate() {
            let standing = backends.standing(index);
            let told = self.told.entry(key(upstream, backend)).or_insert(Told {
                standing,
                drain: None,
            });
            if told.standing == standing {
                continue;
            }
            told.standing = standing;
            tell_standing(backend, standing);
            // In panic its clients would have nowhere better to go.
            let drains = upstream.settings().on_unhealthy == OnUnhealthy::Drain;
            told.drain = (standing != Standing::Up && drains && !panic)
                .then(|| drain(&self.state, backend, snapshot));
        }
    }
}

fn each_backend(snapshot: &Snapshot) -> Vec<(Arc<Upstream>, Arc<Backend>)> {
    let of_one = |upstream: &Arc<Upstream>| {
        let backends = upstream.backends();
        let pair = |backend| (Arc::clone(upstream), Arc::clone(backend));
        backends.each().map(pair).collect::<Vec<_>>()
    };
    snapshot.upstreams.values().flat_map(of_one).collect()
}

fn key(upstream: &Upstream, backend: &Backend) -> Key {
    (Arc::clone(upstream.name()), Arc::clone(backend.name()))
}

fn tell_panic(upstream: &Upstream, panic: bool) {
    let upstream = &**upstream.name();
    match panic {
        true => tracing::warn!(upstream, "too few backends are up: all are used"),
        false => tracing::info!(upstream, "enough backends are up again"),
    }
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

/// Closes the tunnels of a backend over `drain.window`.
fn drain(state: &State, backend: &Backend, snapshot: &Snapshot) -> Drain {
    let tunnels = state.registry.select(&|tunnel| {
        // This very backend, not another that had its name.
        Arc::ptr_eq(&tunnel.facts().labels.backend, backend.name())
    });
    tracing::info!(
        upstream = &**backend.upstream(),
        backend = &**backend.name(),
        tunnels = tunnels.len(),
        "draining an unhealthy backend"
    );
    let settings = &snapshot.config.drain;
    let order = CloseOrder::new(Cause::Unhealthy, settings);
    let (registry, window) = (Arc::clone(&state.registry), settings.window);
    Drain(tokio::spawn(async move {
        registry.close_paced(tunnels, order, window).await;
    }))
}
