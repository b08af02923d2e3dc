//! Host, path and headers to a route.
//!
//! A [`Table`] is built once from criteria and what they lead to, and asked
//! for every request. It does not parse patterns (`config` does), refuses
//! nothing itself and never changes a request.
//!
//! # Precedence
//!
//! Of all routes that match, the first in this order is taken:
//!
//! 1. **Host**: exact, then the wildcard with more labels, then any host.
//! 2. **Path**, segment by segment from the left: literal before `*`, either
//!    before the end of a prefix (`/*`); so `/a/b/*` comes before `/a/*`, and
//!    `/a` before `/a/*`.
//! 3. **Conditions**: with subprotocols before without, more headers before
//!    fewer, an exact header value before any value, with methods before
//!    without; then the shorter list of subprotocols, then of methods.
//!
//! What is still equal is ordered by its text. The place in a file decides
//! nothing, except between two routes that say exactly the same, which
//! `config` refuses.
//!
//! # What is compared
//!
//! Hosts as [`normalise_host`] gives them. Paths segment by segment with
//! percent-encoding undone, except `%2F` and `%25`: `/%61dmin` is `/admin` to
//! most backends, so it must be to us, or a stricter route could be dodged;
//! but an encoded slash does not part segments. Case matters, empty segments
//! count (`/a//b` is not `/a/b`). Paths that a backend may resolve to another
//! place ([`has_dot_segments`]) should be refused before they come here.
//!
//! # Cost
//!
//! A lookup hashes the host once for each of its labels and walks one tree of
//! segments for each that is known. It visits a node at most once and goes no
//! deeper than the longest pattern; only routes with the same host *and* path,
//! told apart by conditions, are tried one after the other.
//!
//! Invariant: [`Table::lookup`] is the first match of [`Table::explain`].

mod criteria;
mod host;
mod path;
mod tree;

use std::collections::HashMap;

pub use criteria::{Criteria, Miss, Request};
pub use host::normalise_host;
pub use path::has_dot_segments;

use crate::config::pattern::HostPattern;
use host::canonical_host;
use tree::Tree;

/// The order of precedence in one sentence, for `check --explain`.
pub const PRECEDENCE: &str = "exact host, longer wildcard, shorter wildcard, any host; then path \
                              segments from the left: literal, *, end of /*; then subprotocols, \
                              number of headers, methods";

/// All routes, ready to be asked.
#[derive(Clone, Debug)]
pub struct Table<T> {
    /// In order of precedence; the trees speak of routes by their place here.
    routes: Vec<(Criteria, T)>,
    exact: HashMap<String, Tree>,
    /// By suffix with its leading dot.
    wildcards: HashMap<String, Tree>,
    any: Tree,
}

/// One route, as [`Table::explain`] sees it.
#[derive(Debug)]
pub struct Considered<'a, T> {
    pub target: &'a T,
    /// Everything that does not fit; empty if the route matches.
    pub misses: Vec<Miss>,
}

impl<T> Considered<'_, T> {
    pub fn matches(&self) -> bool {
        self.misses.is_empty()
    }
}

impl<T> Table<T> {
    pub fn new(routes: impl IntoIterator<Item = (Criteria, T)>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by_cached_key(|(criteria, _)| criteria.rank());
        let mut table = Self {
            routes: Vec::new(),
            exact: HashMap::new(),
            wildcards: HashMap::new(),
            any: Tree::default(),
        };
        for (id, (criteria, _)) in routes.iter().enumerate() {
            let tree = match &criteria.host {
                HostPattern::Exact(host) => table.exact.entry(canonical_host(host)).or_default(),
                HostPattern::Wildcard(suffix) => {
                    let suffix = suffix.to_ascii_lowercase();
                    table.wildcards.entry(suffix).or_default()
                }
                HostPattern::Any => &mut table.any,
            };
            tree.insert(&criteria.path, id);
        }
        table.routes = routes;
        table
    }

    /// Where this request goes; `None` if no route matches.
    pub fn lookup(&self, request: &Request<'_>) -> Option<&T> {
        let found = self.trees(request.host).find_map(|tree| {
            tree.find(request.path, |id| {
                self.routes[id].0.conditions_hold(request)
            })
        })?;
        Some(&self.routes[found].1)
    }

    /// Every route in order of precedence, and why it does not match; the
    /// first that does is the one that [`Table::lookup`] takes. Looks at each
    /// route: for people, not for traffic.
    pub fn explain(&self, request: &Request<'_>) -> Vec<Considered<'_, T>> {
        self.iter()
            .map(|(criteria, target)| Considered {
                target,
                misses: criteria.misses(request),
            })
            .collect()
    }

    /// All routes, in order of precedence.
    pub fn iter(&self) -> impl Iterator<Item = (&Criteria, &T)> {
        self.routes
            .iter()
            .map(|(criteria, target)| (criteria, target))
    }

    /// The trees that a host leads to, in order of precedence.
    fn trees<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Tree> {
        // From the left, so that the longest suffix comes first.
        let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot..]);
        let wildcards = suffixes.filter_map(|suffix| self.wildcards.get(suffix));
        let exact = self.exact.get(host).into_iter();
        exact.chain(wildcards).chain([&self.any])
    }
}

#[cfg(test)]
mod tests;
