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
            upstream: current.name().to_string(),
            backend: backend.name().to_string(),
            result: error.as_ref().map_or("ok", |error| error.label()),
        };
        metrics.probes.get_or_create(&probed).inc();
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
