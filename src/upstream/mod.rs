//! Groups of backends: choose one, dial it, keep connections to it.
//!
//! An [`Upstream`] is immutable and belongs to one snapshot; its [`Backend`]s
//! outlive it: they carry counts and pooled connections over a reload for as
//! long as name and address stay.

mod backend;
mod connection;
mod dial;
mod health;
mod http2;
mod pool;
mod resolve;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub use backend::{Backend, Lease};
pub use connection::{Answer, ConnectError, Connection, HandshakeError};
pub use dial::{DialError, Dialer};
pub use health::{Changes, LastProbe, Probing, Standing};

use crate::balance::{self, Member};
use crate::config;

/// A group of backends that serve the same thing.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: config::Upstream,
    dialer: Arc<Dialer>,
    /// What log and registry call the sources of the sticky key, in the
    /// settings' order.
    sticky_labels: Vec<Arc<str>>,
    no_sticky_label: Arc<str>,
    /// In the order of the settings'.
    backends: Vec<Arc<Backend>>,
    turn: AtomicU64,
}

/// Every backend that something still holds on to, so that one that comes back
/// in a later configuration finds its live tunnels counted.
#[derive(Debug, Default)]
pub struct Roster {
    known: Mutex<HashMap<BackendKey, Weak<Backend>>>,
    changes: Changes,
}

type BackendKey = (String, String, config::BackendAddress);

impl Roster {
    /// The backend of this identity: the living one or a new one.
    fn backend(&self, upstream: &str, settings: &config::Backend) -> Arc<Backend> {
        let key = (
            upstream.to_owned(),
            settings.name.clone(),
            settings.address.clone(),
        );
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, backend| backend.strong_count() > 0);
        if let Some(backend) = known.get(&key).and_then(Weak::upgrade) {
            return backend;
        }
        let backend = Arc::new(Backend::new(upstream, settings, self.changes.clone()));
        known.insert(key, Arc::downgrade(&backend));
        backend
    }

    /// Wakes at each change of a backend's health.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

impl Upstream {
    pub fn new(settings: config::Upstream, dialer: Dialer, roster: &Roster) -> Self {
        let backends: Vec<_> = settings
            .backends
            .iter()
            .map(|backend| roster.backend(&settings.name, backend))
            .collect();
        Self {
            name: settings.name.as_str().into(),
            sticky_labels: settings.sticky.iter().map(label).collect(),
            no_sticky_label: "none".into(),
            settings,
            dialer: Arc::new(dialer),
            backends,
            turn: AtomicU64::new(0),
        }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn settings(&self) -> &config::Upstream {
        &self.settings
    }

    /// The words for the sources of the sticky key, in the settings' order.
    pub fn sticky_labels(&self) -> &[Arc<str>] {
        &self.sticky_labels
    }

    /// The word for a request that has none of them.
    pub fn no_sticky_label(&self) -> &Arc<str> {
        &self.no_sticky_label
    }

    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    pub fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// The next backend to try for a request with this key, if it has one,
    /// leaving out those `tried` before.
    pub fn pick(&self, key: Option<u64>, tried: &[usize]) -> Option<usize> {
        let members: Vec<Member> = self
            .backends
            .iter()
            .zip(&self.settings.backends)
            .map(|(backend, settings)| Member {
                id: backend.id(),
                weight: settings.weight,
                load: backend.load(),
            })
            .collect();
        let (balance, number) = match (self.settings.balance, key) {
            (config::Balance::Hash, Some(key)) => (config::Balance::Hash, key),
            // Nothing to hash: any backend will do, a less loaded one better.
            (config::Balance::Hash, None) => (config::Balance::Random, rand::random()),
            (config::Balance::RoundRobin, _) => (
                config::Balance::RoundRobin,
                self.turn.fetch_add(1, Ordering::Relaxed),
            ),
            (balance, _) => (balance, rand::random()),
        };
        let panic = self.in_panic();
        let skip = |index: usize| tried.contains(&index) || !(panic || self.is_up(index));
        balance::choose(balance, number, &members, &skip)
    }

    /// Where a backend stands by what this generation says of health.
    pub fn standing(&self, index: usize) -> Standing {
        self.backends[index].health.standing(&self.settings)
    }

    /// Whether so few backends are up that all of them are used.
    pub fn in_panic(&self) -> bool {
        let all = self.backends.len();
        let up = (0..all).filter(|index| self.is_up(*index)).count();
        up == 0 || (up as f64) < self.settings.panic_threshold * all as f64
    }

    /// Whether clients may be sent to a backend.
    pub fn may_use(&self, index: usize) -> bool {
        self.is_up(index) || self.in_panic()
    }

    fn is_up(&self, index: usize) -> bool {
        self.standing(index) == Standing::Up
    }

    /// Counts a use of the backend until the lease is dropped.
    pub fn lease(&self, index: usize) -> Lease {
        Lease::new(Arc::clone(&self.backends[index]))
    }

    /// What longhaul's own cookie says for this backend: opaque, and the same
    /// on every longhaul that has the same upstream.
    pub fn cookie_value(&self, index: usize) -> &str {
        self.backends[index].cookie_value()
    }

    /// The backend that a cookie of longhaul's own names, if it is still here.
    pub fn backend_of_cookie(&self, value: &str) -> Option<usize> {
        let mut backends = self.backends.iter();
        backends.position(|backend| backend.cookie_value() == value)
    }
}

fn label(source: &config::StickySource) -> Arc<str> {
    source.to_string().into()
}
