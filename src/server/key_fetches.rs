//! Has the keys fetched that the configuration in force takes from URLs.
//!
//! Invariant: after [`KeyFetches::look`] exactly those URLs are, each by one task.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fetch::Fetching;
use crate::state::State;

#[derive(Debug, Default)]
pub(super) struct KeyFetches(BTreeMap<String, Fetching>);

impl KeyFetches {
    /// Brings them in line with the snapshot of this moment. Called within a
    /// runtime.
    pub(super) fn look(&mut self, state: &State) {
        let snapshot = state.snapshot();
        self.0
            .retain(|url, _| snapshot.key_fetches.contains_key(url));
        for (url, fetch) in &snapshot.key_fetches {
            match self.0.get(url) {
                Some(fetching) => fetching.follow(fetch),
                None => {
                    let metrics = Arc::clone(&state.metrics);
                    let fetching = Fetching::start(Arc::clone(fetch), metrics);
                    self.0.insert(url.clone(), fetching);
                }
            }
        }
    }
}
