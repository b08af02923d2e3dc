//! Totals of what passes through tunnels, of those that live and those that have
//! ended, as counters that never go down.
//!
//! Live tunnels keep their own meters, which nobody else writes. When a page is
//! made, what they say is added to what ended tunnels have left here.
//!
//! Invariant: a tunnel settles after it has left the registry, and the settled
//! sums are read before the registry: a tunnel in between is missed once, never
//! counted twice, and what is shown waits for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;

use super::labels::{Names, Passing};
use super::table::Table;

/// One of the totals.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    settled: Table<Passing, Counter>,
    /// What the page shows.
    shown: Table<Passing, Counter>,
}

impl Totals {
    /// What an ended tunnel leaves.
    pub fn settle(&self, labels: &Passing, amount: u64) {
        self.settled.get(labels).inc_by(amount);
    }

    /// What ended tunnels have left. To be read before live tunnels are.
    pub fn settled(&self) -> BTreeMap<Passing, u64> {
        let rows = self.settled.rows().into_iter();
        rows.map(|(labels, sum)| (labels, sum.get())).collect()
    }

    /// Shows these sums, of ended and live tunnels together.
    pub fn show(&self, sums: BTreeMap<Passing, u64>) {
        for (labels, sum) in sums {
            let shown = self.shown.get(&labels);
            shown.inner().fetch_max(sum, Ordering::Relaxed);
        }
    }

    pub fn keep(&self, names: &dyn Names) {
        self.settled.keep(names);
        self.shown.keep(names);
    }
}

impl EncodeMetric for Totals {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.shown.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.shown.metric_type()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_never_goes_down() {
        let totals = Totals::default();
        let labels = Passing {
            route: "r".into(),
            upstream: "u".into(),
            backend: "b".into(),
            direction: "in",
        };
        let show = |live: u64| {
            let mut sums = totals.settled();
            *sums.entry(labels.clone()).or_default() += live;
            totals.show(sums);
            totals.shown.get(&labels).get()
        };
        assert_eq!(show(70), 70);
        // It has left the registry and not settled yet.
        assert_eq!(show(0), 70);
        totals.settle(&labels, 80);
        assert_eq!(show(0), 80);
        assert_eq!(show(5), 85);
    }
}
