//! Metrics by label sets that can be taken out again: names of routes, upstreams
//! and backends come and go, with the configuration and with discovery.
//!
//! The client library's `Family` can forget all of its label sets or one that is
//! known, but not those that no longer matter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::labels::{Named, Names};

/// A metric for each of some label sets; a shared handle.
#[derive(Debug)]
pub struct Table<L, M> {
    rows: Arc<Mutex<BTreeMap<L, M>>>,
    make: fn() -> M,
}

impl<L: Clone + Ord, M: Clone> Table<L, M> {
    pub fn new(make: fn() -> M) -> Self {
        Self {
            rows: Arc::default(),
            make,
        }
    }

    /// The metric with these labels, made if there is none.
    pub fn get(&self, labels: &L) -> M {
        let mut rows = self.lock();
        if let Some(found) = rows.get(labels) {
            return found.clone();
        }
        let made = (self.make)();
        rows.insert(labels.clone(), made.clone());
        made
    }

    /// Every label set with its metric, as it is now.
    pub fn rows(&self) -> Vec<(L, M)> {
        let rows = self.lock();
        rows.iter().map(|(l, m)| (l.clone(), m.clone())).collect()
    }

    /// Forgets all, for what is filled anew for each page.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

impl<L, M> Table<L, M> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<L, M>> {
        // Every step leaves it whole.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Named + Ord, M> Table<L, M> {
    /// Forgets what has none of these names.
    pub fn keep(&self, names: &dyn Names) {
        self.lock().retain(|labels, _| labels.is_of(names));
    }
}

impl<L: Clone + Ord, M: Clone + Default> Default for Table<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L, M> Clone for Table<L, M> {
    fn clone(&self) -> Self {
        Self {
            rows: Arc::clone(&self.rows),
            make: self.make,
        }
    }
}

impl<L, M: TypedMetric> TypedMetric for Table<L, M> {
    const TYPE: MetricType = M::TYPE;
}

impl<L: EncodeLabelSet, M: EncodeMetric + TypedMetric> EncodeMetric for Table<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, metric) in self.lock().iter() {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::OfRoute;

    #[test]
    fn no_name_ends_a_label_or_a_line() {
        let (mut registry, table) = (Registry::default(), Table::<_, Counter>::default());
        registry.register("a", "About", table.clone());
        let route = "q\" b\\ n\n}".into();
        table.get(&OfRoute { route }).inc();
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let sample = page.lines().find(|line| !line.starts_with('#'));
        assert_eq!(sample, Some(r#"a_total{route="q\" b\\ n\n}"} 1"#));
    }
}
