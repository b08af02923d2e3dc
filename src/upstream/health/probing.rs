//! The probes of one backend, again and again.
//!
//! One task for each backend that is to be probed: its probes cannot overlap,
//! a reload that changes how it is probed does not change when, and dropping
//! the [`Probing`] ends it, with a probe that is under way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::probe::probe;
use crate::config;
use crate::metrics::{Metrics, Probed};
use crate::upstream::{Backend, Upstream};

/// A backend that is being probed, until this is dropped.
#[derive(Debug)]
pub struct Probing {
    backend: Arc<Backend>,
    upstream: watch::Sender<Arc<Upstream>>,
    task: JoinHandle<()>,
}

impl Probing {
    /// Probes a backend as its upstream says. Called within a runtime.
    pub fn start(upstream: Arc<Upstream>, backend: Arc<Backend>, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = watch::channel(upstream);
        let task = tokio::spawn(run(receiver, Arc::clone(&backend), metrics));
        Self {
            backend,
            upstream: sender,
            task,
        }
    }

    /// Goes on as this upstream says; nothing happens if it did so already.
    pub fn follow(&self, upstream: &Arc<Upstream>) {
        self.upstream.send_if_modified(|current| {
            let is_new = !Arc::ptr_eq(current, upstream);
            if is_new {
                *current = Arc::clone(upstream);
            }
            is_new
        });
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
        self.backend.health.forget_probes();
    }
}

async fn run(
    mut upstream: watch::Receiver<Arc<Upstream>>,
    backend: Arc<Backend>,
    metrics: Arc<Metrics>,
) {
    // The first comes within the jitter, so that many begin apart.
    let Some(health) = settings(&upstream) else {
        return;
    };
    let mut begun = Instant::now();
    let mut pause = health
        .interval
        .mul_f64(health.jitter * rand::random::<f64>());
    loop {
        tokio::select! {
            () = sleep_until(begun + pause) => {}
            changed = upstream.changed() => {
                let (Ok(()), Some(health)) = (changed, settings(&upstream)) else { return };
                pause = pause.min(health.interval);
                continue;
            }
        }
        let current = Arc::clone(&upstream.borrow_and_update());
        let Some(health) = &current.settings().health else {
            return;
        };
        begun = Instant::now();
        pause = next(health);
        let result = probe(current.dialer(), &backend, health).await;
        let error = result.err();
        let probed = Probed {
            upstream: Arc::clone(current.name()),
            backend: Arc::clone(backend.name()),
            result: error.as_ref().map_or("ok", |error| error.label()),
        };
        metrics.probes.get(&probed).inc();
        backend.health.probed(health, error.as_ref());
    }
}

fn settings(upstream: &watch::Receiver<Arc<Upstream>>) -> Option<config::Health> {
    upstream.borrow().settings().health.clone()
}

/// From the start of a probe to the start of the next.
fn next(health: &config::Health) -> Duration {
    health
        .interval
        .mul_f64(1.0 - health.jitter * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Initial, Probe};

    fn health(jitter: f64) -> config::Health {
        config::Health {
            probe: Probe::Tcp,
            interval: Duration::from_secs(10),
            jitter,
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 1,
            initial: Initial::Up,
        }
    }

    #[test]
    fn the_jitter_is_taken_off_the_interval() {
        let pauses = |jitter: f64| -> Vec<f64> {
            let health = health(jitter);
            (0..1000).map(|_| next(&health).as_secs_f64()).collect()
        };
        assert!(pauses(0.0).iter().all(|pause| *pause == 10.0));
        let mut pauses = pauses(0.2);
        pauses.sort_by(f64::total_cmp);
        let (least, most) = (pauses[0], pauses[999]);
        assert!(least >= 8.0 && most <= 10.0, "{least} to {most}");
        // All over the range, but once in more than 10^20 runs: twenty parts of it,
        // and none that is empty.
        let part = |pause: &f64| ((pause - 8.0) / 0.1) as usize;
        let mut parts: Vec<usize> = pauses.iter().map(part).collect();
        parts.dedup();
        assert!((0..20).all(|part| parts.contains(&part)), "{parts:?}");
    }
}
