//! The names of a route's tunnels, made once for each listener and backend and
//! shared by all tunnels between the two of one HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::tunnel::Labels;
use crate::upstream::{Backend, Upstream};

/// Those that are in use, or were when the last one was made.
#[derive(Debug, Default)]
pub struct SharedLabels(Mutex<HashMap<Key, Arc<Labels>>>);

/// Listener, backend, and which HTTP the client speaks.
type Key = (Arc<str>, Arc<str>, &'static str);

impl SharedLabels {
    pub(super) fn get(
        &self,
        listener: &Arc<str>,
        http: &'static str,
        route: &Arc<str>,
        upstream: &Upstream,
        backend: &Backend,
    ) -> Arc<Labels> {
        let key = (Arc::clone(listener), Arc::clone(backend.name()), http);
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A backend of the same name may be a later one, with a name of its own.
        if let Some(labels) = made.get(&key)
            && Arc::ptr_eq(&labels.backend, backend.name())
        {
            return Arc::clone(labels);
        }
        made.retain(|_, labels| Arc::strong_count(labels) > 1);
        let labels = Arc::new(Labels {
            listener: Arc::clone(listener),
            http,
            route: Arc::clone(route),
            upstream: Arc::clone(upstream.name()),
            backend: Arc::clone(backend.name()),
        });
        made.insert(key, Arc::clone(&labels));
        labels
    }
}
