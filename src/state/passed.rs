//! What has passed to and from each backend, over all routes.
//!
//! The metrics page has the same by route (`page`); this is for whoever watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::State;
use crate::metrics::Passing;

/// Sums since the start. Of pairs, the first is from the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Live tunnels of which a side does not take its bytes.
    pub stalled: u64,
    pub bytes: [u64; 2],
    pub messages: [u64; 2],
}

/// Of an upstream and a backend.
pub type PassedBy = BTreeMap<(Arc<str>, Arc<str>), Passed>;

impl State {
    /// By upstream and backend. Visits every live tunnel. A sum may look smaller
    /// for a moment, while a tunnel ends.
    pub fn passed(&self) -> PassedBy {
        let mut all = PassedBy::new();
        // These first: see `metrics::passing`.
        for (labels, sum) in self.metrics.tunnel_bytes.settled() {
            let way = way(&labels);
            of(&mut all, labels.upstream, labels.backend).bytes[way] += sum;
        }
        for (labels, sum) in self.metrics.tunnel_messages.settled() {
            let way = way(&labels);
            of(&mut all, labels.upstream, labels.backend).messages[way] += sum;
        }
        for traffic in self.registry.traffic() {
            let (upstream, backend) = (&traffic.labels.upstream, &traffic.labels.backend);
            let passed = of(&mut all, Arc::clone(upstream), Arc::clone(backend));
            passed.stalled += traffic.stalled;
            for way in 0..2 {
                passed.bytes[way] += traffic.bytes[way];
                passed.messages[way] += traffic.messages[way];
            }
        }
        all
    }
}

fn of(all: &mut PassedBy, upstream: Arc<str>, backend: Arc<str>) -> &mut Passed {
    all.entry((upstream, backend)).or_default()
}

fn way(labels: &Passing) -> usize {
    usize::from(labels.direction != "in")
}
