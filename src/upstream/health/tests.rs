//! The verdict of probes, against the plainest way to say it.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Initial, Probe};

fn settings(rise: u32, fall: u32, initial: Initial) -> config::Health {
    config::Health {
        probe: Probe::Tcp,
        interval: Duration::from_secs(1),
        jitter: 0.0,
        timeout: Duration::from_secs(1),
        rise,
        fall,
        initial,
    }
}

/// The verdict after all results: the last `rise` or `fall` decide.
fn expected(results: &[bool], rise: u32, fall: u32) -> u8 {
    let (mut verdict, mut run) = (UNKNOWN, (true, 0));
    for &good in results {
        run = if run.0 == good {
            (good, run.1 + 1)
        } else {
            (good, 1)
        };
        verdict = match (verdict, run) {
            (UNKNOWN, (true, _)) => UP,
            (DOWN, (true, n)) if n >= rise => UP,
            (UP | UNKNOWN, (false, n)) if n >= fall => DOWN,
            (verdict, _) => verdict,
        };
    }
    verdict
}

proptest! {
    #[test]
    fn runs_of_results_turn_the_verdict(
        results in proptest::collection::vec(any::<bool>(), 0..40),
        rise in 1_u32..4,
        fall in 1_u32..4,
    ) {
        let health = Health::new(Changes::default());
        let settings = settings(rise, fall, Initial::Down);
        for &good in &results {
            health.probed(&settings, (!good).then_some(&ProbeError::Timeout));
        }
        let verdict = health.verdict.load(Ordering::Acquire);
        prop_assert_eq!(verdict, expected(&results, rise, fall));
        let last = health.last_probe().map(|probe| probe.error.is_none());
        prop_assert_eq!(last, results.last().copied());
    }
}

#[tokio::test]
async fn a_turn_wakes_and_forgetting_makes_it_unknown() {
    let changes = Changes::default();
    let health = Health::new(changes.clone());
    health.probed(&settings(1, 1, Initial::Up), Some(&ProbeError::Body));
    changes.changed().await;
    assert_eq!(health.verdict.load(Ordering::Acquire), DOWN);
    health.forget_probes();
    assert_eq!(health.verdict.load(Ordering::Acquire), UNKNOWN);
    assert!(health.last_probe().is_none());
}
