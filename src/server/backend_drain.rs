//! The paced closes of one backend's tunnels, whatever the reason: its state,
//! its health, or that it is no longer there.
//!
//! Whether there is a reason is the overseer's to say; dropping a
//! [`BackendDrain`] ends it and leaves the rest of the tunnels where they are.
//!
//! Invariant: while it lasts, every tunnel of the backend is told to close, also
//! one whose handshake was under way when it began. That the backend is drained
//! is said when it has neither tunnels nor handshakes, and again if there were
//! some after all.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::{self, Ending};
use crate::state::{Snapshot, State};
use crate::tunnel::{self, CloseOrder, Registry, Tunnel};
use crate::upstream::{Backend, Upstream};

/// How often what is left is told.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often it is looked for tunnels that have opened since.
const LATECOMERS: Duration = Duration::from_millis(500);

/// A backend that is being drained, until this is dropped.
#[derive(Debug)]
pub(super) struct BackendDrain {
    backend: Arc<Backend>,
    ending: Ending,
    task: JoinHandle<()>,
}

impl BackendDrain {
    /// Called within a runtime.
    pub(super) fn start(
        state: &State,
        snapshot: &Snapshot,
        upstream: &Upstream,
        backend: &Arc<Backend>,
        ending: Ending,
    ) -> Self {
        let own = &upstream.settings().drain;
        let settings = snapshot.config.drain.with(own);
        let work = Work {
            registry: Arc::clone(&state.registry),
            backend: Arc::clone(backend),
            ending,
            order: CloseOrder::new(ending, &settings),
            pace: settings.pace_of(own),
        };
        Self {
            backend: Arc::clone(backend),
            ending,
            task: tokio::spawn(work.run()),
        }
    }

    /// Why.
    pub(super) fn ending(&self) -> Ending {
        self.ending
    }

    /// Whether anybody else has the backend still: a tunnel, or a request that
    /// may yet open one to it, however long ago it was removed.
    pub(super) fn is_needed(&self) -> bool {
        // This one's own, and its task's.
        Arc::strong_count(&self.backend) > 2
    }
}

impl Drop for BackendDrain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Work {
    registry: Arc<Registry>,
    backend: Arc<Backend>,
    ending: Ending,
    order: CloseOrder,
    pace: config::Pace,
}

impl Work {
    async fn run(self) {
        let start = Instant::now();
        let tunnels = self.tunnels();
        let span = self.pace.span(tunnels.len());
        self.tell_start(tunnels.len(), span);
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once, and has just been told.
        progress.tick().await;
        let mut latecomers = interval(LATECOMERS);
        latecomers.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        let mut closing = Box::pin(self.close(tunnels, span));
        let mut closed = false;
        loop {
            tokio::select! {
                () = &mut closing, if !closed => closed = true,
                _ = progress.tick(), if !told => self.tell_progress(),
                _ = latecomers.tick(), if closed => {
                    let tunnels = self.tunnels();
                    if !tunnels.is_empty() {
                        // A plain request may become a tunnel as late as this.
                        told = false;
                        let span = self.pace.span(tunnels.len());
                        closing = Box::pin(self.close(tunnels, span));
                        closed = false;
                    } else if !self.backend.has_tunnels() && !told {
                        told = true;
                        self.tell_end(start);
                    }
                }
            }
        }
    }

    async fn close(&self, tunnels: Vec<Arc<Tunnel>>, span: Duration) {
        let order = self.order.clone();
        self.registry.close_paced(tunnels, order, span).await;
    }

    /// Those that have no order yet.
    fn tunnels(&self) -> Vec<Arc<Tunnel>> {
        if self.backend.tunnels() == 0 {
            return Vec::new();
        }
        self.registry.select(&|tunnel| {
            // This very backend, not another that had its name.
            Arc::ptr_eq(&tunnel.facts().labels.backend, self.backend.name())
                && matches!(
                    tunnel.state(),
                    tunnel::State::Open | tunnel::State::HalfClosed
                )
        })
    }

    fn tell_start(&self, tunnels: usize, span: Duration) {
        let (upstream, backend) = (&**self.backend.upstream(), &**self.backend.name());
        let seconds = span.as_secs_f64();
        match self.ending {
            Ending::Unhealthy => {
                tracing::info!(
                    upstream,
                    backend,
                    tunnels,
                    seconds,
                    "draining an unhealthy backend"
                );
            }
            Ending::Removed => {
                tracing::info!(
                    upstream,
                    backend,
                    tunnels,
                    seconds,
                    "draining a removed backend"
                );
            }
            _ => tracing::info!(upstream, backend, tunnels, seconds, "draining a backend"),
        }
    }

    fn tell_progress(&self) {
        tracing::info!(
            upstream = &**self.backend.upstream(),
            backend = &**self.backend.name(),
            tunnels = self.backend.tunnels(),
            handshakes = self.backend.handshakes(),
            "still draining a backend"
        );
    }

    fn tell_end(&self, start: Instant) {
        tracing::info!(
            upstream = &**self.backend.upstream(),
            backend = &**self.backend.name(),
            seconds = start.elapsed().as_secs_f64(),
            "backend is drained"
        );
    }
}
