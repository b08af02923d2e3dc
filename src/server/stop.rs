//! The stop: no new connections, plain requests finish, tunnels are closed
//! politely and paced, and it always ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::systemd::{Manager, Watchdog};
use super::{Asked, Signals};
use crate::config::{self, Ending};
use crate::drain::{Drain, Stage};
use crate::net::Limiter;
use crate::proxy::log_closed;
use crate::tunnel::{Cause, CloseOrder, Registry, Side, State};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

pub(super) struct Stop<'a> {
    pub(super) drain: Drain,
    pub(super) settings: config::Drain,
    pub(super) registry: &'a Arc<Registry>,
    pub(super) signals: &'a mut Signals,
    pub(super) manager: &'a Manager,
    pub(super) watchdog: &'a mut Watchdog,
    pub(super) limiter: Arc<Limiter>,
}

/// Returns when everything has ended, at `drain.deadline`, or at once at a
/// second signal.
pub(super) async fn stop(stop: Stop<'_>) {
    let Stop {
        drain,
        settings,
        registry,
        signals,
        manager,
        watchdog,
        limiter,
    } = stop;
    let deadline = Instant::now() + settings.deadline;
    let tunnels = registry.select(&|_| true);
    manager.stopping(&format!("stopping: {} tunnels to close", tunnels.len()));
    tracing::info!(
        tunnels = tunnels.len(),
        connections = limiter.open(),
        "draining"
    );
    let window = settings.pace().span(tunnels.len());
    let window_ends = Instant::now() + window;
    let registry = Arc::clone(registry);
    let closing = Arc::clone(&registry);
    let order = CloseOrder::new(Ending::Stop, &settings);
    tokio::spawn(async move { closing.close_paced(tunnels, order, window).await });
    let mut progress = interval(PROGRESS);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.finished() => {
                tracing::info!(cause = "all ended", "stopped");
                return;
            }
            () = sleep_until(deadline) => {
                tracing::warn!(
                    tunnels = registry.len(),
                    connections = limiter.open(),
                    cause = "drain.deadline",
                    "stopped"
                );
                break;
            }
            asked = signals.next() => if let Asked::Stop(signal) = asked {
                tracing::warn!(signal, tunnels = registry.len(), cause = "second signal", "stopped");
                break;
            },
            _ = progress.tick() => {
                if Instant::now() > window_ends {
                    close_latecomers(&registry, &settings);
                }
                tell(manager, &registry, &limiter, deadline);
            }
            () = watchdog.due() => watchdog.beat(Vec::new()),
        }
    }
    // Their own tasks will not come to say so.
    for tunnel in registry.select(&|_| true) {
        log_closed(&tunnel, &tunnel.outcome(Side::Longhaul, Cause::Drain));
    }
    drain.enter(Stage::Ending);
}

/// Handshakes that were under way when the stop began have become tunnels since.
fn close_latecomers(registry: &Registry, settings: &config::Drain) {
    let order = Arc::new(CloseOrder::new(Ending::Stop, settings));
    for tunnel in
        registry.select(&|tunnel| matches!(tunnel.state(), State::Open | State::HalfClosed))
    {
        tunnel.close(Arc::clone(&order));
    }
}

fn tell(manager: &Manager, registry: &Registry, limiter: &Limiter, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let (tunnels, connections) = (registry.len(), limiter.open());
    tracing::info!(
        tunnels,
        connections,
        seconds_left = left.as_secs(),
        "still draining"
    );
    let status = format!("draining: {tunnels} tunnels, {connections} connections left");
    manager.still_stopping(&status, left + Duration::from_secs(5));
}
