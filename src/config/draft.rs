//! What has been read of a config before it is checked as a whole.
//!
//! Deliberately checks nothing: `parse` fills it, `cross` compares what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::acme_names;
use super::diagnostic::Place;
use super::model::{Config, Listener, Upstream};
use super::named_files::NamedFiles;
use super::routes::RouteDraft;

/// What all files together name, with what is needed to check it.
#[derive(Default)]
pub(super) struct Draft {
    /// The main file's name.
    pub(super) main: Arc<str>,
    /// Each with the place of its address.
    pub(super) listeners: Vec<(Listener, Place)>,
    /// Whether any is written, right or wrong.
    pub(super) mentions_listeners: bool,
    pub(super) routes: Vec<RouteDraft>,
    pub(super) mentions_routes: bool,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    /// Where each upstream is defined, right or wrong.
    pub(super) upstreams_written: BTreeMap<String, Place>,
    /// Some upstreams may be written and not be among those.
    pub(super) misspells_upstreams: bool,
    /// Whether there is an `[acme]`, right or wrong.
    pub(super) mentions_acme: bool,
    pub(super) files: NamedFiles,
}

impl Draft {
    pub(super) fn into_config(self, mut config: Config) -> Config {
        let routes = &self.routes;
        let named = |(mut listener, _): (Listener, _)| {
            if listener.acme_names.as_ref().is_some_and(Vec::is_empty) {
                listener.acme_names = Some(acme_names::of_routes(routes));
            }
            (listener.name.clone(), listener)
        };
        config.listeners = self.listeners.into_iter().map(named).collect();
        config.routes = self.routes.into_iter().map(|draft| draft.route).collect();
        config.upstreams = self.upstreams;
        config.files = self.files;
        config
    }
}
