//! Which names of routes, upstreams and backends have been in use lately: what
//! is counted under others is forgotten, so that a process which has lived long
//! with backends that come and go has no more series than it has names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::State;
use crate::metrics::Names;

/// How long the counts of a name are kept after its end: for several scrapes.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// How often it is looked after.
const EVERY: Duration = Duration::from_secs(60);

/// When each name was last in use.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    looked: Option<Instant>,
    names: HashMap<Name, Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Route(Arc<str>),
    Upstream(Arc<str>),
    Backend(Arc<str>, Arc<str>),
}

impl State {
    /// Forgets what is counted under names that have long been out of use. To be
    /// called now and then.
    pub fn tidy_metrics(&self) {
        let now = Instant::now();
        let mut book = self.names.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book.looked.is_some_and(|at| now < at + EVERY) {
            return;
        }
        book.looked = Some(now);
        book.look(self.names_in_use(), now);
        self.metrics.keep(&*book);
    }

    fn names_in_use(&self) -> Vec<Name> {
        let snapshot = self.snapshot();
        let routes = snapshot.config.routes.iter();
        let mut names: Vec<Name> = routes.map(|it| Name::Route((*it.name).into())).collect();
        for upstream in snapshot.upstreams.values() {
            names.push(Name::Upstream(Arc::clone(upstream.name())));
            names.extend(upstream.backends().each().map(|backend| {
                Name::Backend(Arc::clone(backend.upstream()), Arc::clone(backend.name()))
            }));
        }
        for traffic in self.registry.traffic() {
            let labels = &traffic.labels;
            let (upstream, backend) = (&labels.upstream, &labels.backend);
            names.push(Name::Route(Arc::clone(&labels.route)));
            names.push(Name::Backend(Arc::clone(upstream), Arc::clone(backend)));
        }
        // Of requests that no route was found for.
        names.push(Name::Route("".into()));
        names
    }
}

impl Book {
    fn look(&mut self, in_use: Vec<Name>, now: Instant) {
        self.names
            .extend(in_use.into_iter().map(|name| (name, now)));
        self.names.retain(|_, seen| now < *seen + KEPT);
    }
}

impl Names for Book {
    fn has_upstream(&self, upstream: &str) -> bool {
        self.names.contains_key(&Name::Upstream(upstream.into()))
    }

    fn has_backend(&self, upstream: &str, backend: &str) -> bool {
        let name = Name::Backend(upstream.into(), backend.into());
        self.names.contains_key(&name)
    }

    fn has_route(&self, route: &str) -> bool {
        self.names.contains_key(&Name::Route(route.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, OfBackend};

    #[test]
    fn a_name_out_of_use_is_forgotten_after_a_while() {
        let metrics = Metrics::default();
        let labels = |backend: &str| OfBackend {
            upstream: "u".into(),
            backend: backend.into(),
        };
        let name = |backend: &str| Name::Backend("u".into(), backend.into());
        let mut book = Book::default();
        let start = Instant::now();
        let mut left_after = |minutes: u64, in_use: &[&str]| {
            let now = start + Duration::from_secs(60 * minutes);
            book.look(in_use.iter().map(|one| name(one)).collect(), now);
            metrics.keep(&book);
            metrics.backend_full.rows().len()
        };
        metrics.backend_full.get(&labels("a")).inc();
        metrics.backend_full.get(&labels("b")).inc();
        assert_eq!(left_after(0, &["a", "b"]), 2);
        assert_eq!(left_after(14, &["a"]), 2);
        assert_eq!(left_after(15, &["a"]), 1);
        assert_eq!(left_after(29, &[]), 1);
        assert_eq!(left_after(30, &[]), 0);
    }
}
