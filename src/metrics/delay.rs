//! The time from a message's first byte in to that byte out, measured for one
//! message of many on the path of the bytes itself.
//!
//! Each thread counts in cells of its own, so no two of them write to one cache
//! line and none takes a lock; a page adds the cells up.
//!
//! Invariant: a cell is written by its thread alone and only grows.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Of so many messages one is measured, beginning with a thread's first. Reading
/// the clock twice costs as much as a small message's share of a system call.
const ONE_OF: u32 = 64;

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 11] = [
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 0.1, 1.0, 10.0,
];

/// One thread's.
#[derive(Debug, Default)]
struct Cells {
    /// The last one is for what is beyond all bounds.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// Of all threads that have ever measured: the data plane's.
static ALL: Mutex<Vec<Arc<Cells>>> = Mutex::new(Vec::new());

thread_local! {
    static TURN: Cell<u32> = const { Cell::new(0) };
    static OWN: OnceCell<Arc<Cells>> = const { OnceCell::new() };
}

/// Whether the message that begins now is one to measure.
pub fn is_due() -> bool {
    let turn = TURN.get();
    TURN.set((turn + 1) % ONE_OF);
    turn == 0
}

/// Counts a message's time.
pub fn passed(time: Duration) {
    OWN.with(|own| own.get_or_init(enlist).add(time));
}

fn enlist() -> Arc<Cells> {
    let cells = Arc::new(Cells::default());
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Arc::clone(&cells));
    cells
}

impl Cells {
    fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for (cell, more) in [
            (&self.counts[place.unwrap_or(BOUNDS.len())], 1),
            (&self.nanos, nanos),
        ] {
            let before = cell.load(Ordering::Relaxed);
            cell.store(before.saturating_add(more), Ordering::Relaxed);
        }
    }
}

/// How many times of this thread have fallen into each bucket.
#[cfg(test)]
pub fn counted_here() -> Vec<u64> {
    let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
    OWN.with(|own| own.get_or_init(enlist).counts.iter().map(read).collect())
}

/// All threads' together, as a histogram of the page.
#[derive(Clone, Debug, Default)]
pub struct Delays;

impl EncodeMetric for Delays {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let mut buckets: Vec<(f64, u64)> = BOUNDS.map(|bound| (bound, 0)).to_vec();
        buckets.push((f64::MAX, 0));
        let mut nanos = 0_u64;
        for cells in &all {
            nanos = nanos.saturating_add(read(&cells.nanos));
            for (bucket, cell) in buckets.iter_mut().zip(&cells.counts) {
                bucket.1 += read(cell);
            }
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(nanos as f64 / 1e9, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_its_bucket() {
        let cells = Cells::default();
        for micros in [10, 11, 2_000_000, 20_000_000] {
            cells.add(Duration::from_micros(micros));
        }
        let counts = cells
            .counts
            .each_ref()
            .map(|cell| cell.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(cells.nanos.load(Ordering::Relaxed), 22_000_021_000);
    }

    #[test]
    fn one_of_many_is_measured_and_the_first_is() {
        std::thread::spawn(|| {
            let due = (0..2 * ONE_OF).filter(|_| is_due()).count();
            assert_eq!(due, 2);
            assert!(is_due());
        })
        .join()
        .unwrap();
    }
}
