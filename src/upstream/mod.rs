//! Groups of backends: choose one, dial it, keep connections to it.
//!
//! An [`Upstream`] belongs to one snapshot and says how its backends are used;
//! which ones there are at the moment is its [`Backends`]. A [`Backend`]
//! outlives both: it carries counts and pooled connections over a reload for as
//! long as name and address stay.

mod admission;
mod backend;
mod backends;
mod connection;
mod dial;
mod health;
mod pool;
mod resolve;
mod roster;
mod state;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub use admission::{Full, Pass};
pub use backend::{Backend, Lease};
pub use backends::{Backends, Listed};
pub use connection::{ConnectError, Connection};
pub use dial::{DialError, Dialer};
pub use health::{Changes, Ejected, LastProbe, Probing, Standing};
pub use roster::Roster;

use crate::config;

/// A group of backends that serve the same thing.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: Arc<config::Upstream>,
    dialer: Arc<Dialer>,
    // As with the snapshot: only `load_full`, no guard outlives a statement.
    backends: ArcSwap<Backends>,
    /// Held while it is decided whether one more may be ejected.
    ejecting: Mutex<()>,
}

impl Upstream {
    pub fn new(settings: config::Upstream, dialer: Dialer, roster: &Roster) -> Self {
        let settings = Arc::new(settings);
        let list = &settings.backends;
        let backends = Backends::new(Arc::clone(&settings), list, roster, Arc::default());
        Self {
            name: settings.name.as_str().into(),
            dialer: Arc::new(dialer),
            backends: ArcSwap::from_pointee(backends),
            ejecting: Mutex::default(),
            settings,
        }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn settings(&self) -> &config::Upstream {
        &self.settings
    }

    /// The backends of this moment.
    pub fn backends(&self) -> Arc<Backends> {
        self.backends.load_full()
    }

    pub fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Called when it comes into force.
    pub fn join_backends(self: &Arc<Self>) {
        for listed in self.backends().list() {
            listed.backend().join(self, listed.filed_state());
        }
    }

    /// Ejects a backend, unless too many others are.
    fn eject(&self, backend: &Backend, rule: &config::Ejection, report: config::Report) {
        let deciding = self.ejecting.lock();
        let _deciding = deciding.unwrap_or_else(PoisonError::into_inner);
        let backends = self.backends();
        let ejected = backends
            .each()
            .filter(|one| one.ejected().is_some())
            .count();
        let most = rule.max_ejected * backends.list().len() as f64;
        if (ejected + 1) as f64 <= most && backend.ejected().is_none() {
            backend.health.eject(rule, report);
        }
    }
}
