//! Every backend that something still holds on to, so that one that comes back
//! finds its live tunnels counted.
//!
//! It keeps nothing alive itself.
//!
//! Invariant: at any moment there is at most one [`Backend`] of an upstream,
//! name and address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Backend, Changes};
use crate::config;

/// Lives as long as the process, whatever the configuration.
#[derive(Debug, Default)]
pub struct Roster {
    known: Mutex<HashMap<Key, Weak<Backend>>>,
    changes: Changes,
}

type Key = (String, String, config::BackendAddress);

impl Roster {
    /// The backend of this identity: the living one or a new one.
    pub(super) fn backend(&self, upstream: &str, settings: &config::Backend) -> Arc<Backend> {
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

    /// Wakes at each change of a backend's health or state, and of which
    /// backends an upstream has.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}
