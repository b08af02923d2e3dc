//! The rebalance policy of one upstream: a look at each interval, and the excess
//! of overfull backends closed at the policy's rate.
//!
//! Which tunnels those are is `upstream::Plan`'s to say. Dropping a
//! [`Rebalancing`] leaves the rest where they are.
//!
//! Invariant: the closes of one look are all told before the next.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::config::{self, Ending, Pace};
use crate::state::State;
use crate::tunnel::CloseOrder;
use crate::upstream::Plan;

/// A policy that is carried out, until this is dropped.
#[derive(Debug)]
pub(super) struct Rebalancing {
    policy: config::Rebalance,
    task: JoinHandle<()>,
}

impl Rebalancing {
    /// Called within a runtime.
    pub(super) fn start(state: &Arc<State>, upstream: &str, policy: config::Rebalance) -> Self {
        let work = run(Arc::clone(state), upstream.to_owned(), policy);
        Self {
            policy,
            task: tokio::spawn(work),
        }
    }

    pub(super) fn policy(&self) -> config::Rebalance {
        self.policy
    }
}

impl Drop for Rebalancing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(state: Arc<State>, name: String, policy: config::Rebalance) {
    loop {
        sleep(policy.interval).await;
        let snapshot = state.snapshot();
        let Some(upstream) = snapshot.upstreams.get(&name) else {
            continue;
        };
        let plan = Plan::new(upstream, &state.registry, policy.to);
        let tunnels = plan.tunnels.len();
        if tunnels == 0 {
            continue;
        }
        let span = Pace::new(Some(policy.rate), std::time::Duration::ZERO).span(tunnels);
        tracing::info!(
            upstream = &*name,
            tunnels,
            seconds = span.as_secs_f64(),
            "rebalancing an upstream"
        );
        let drain = snapshot.config.drain.with(&upstream.settings().drain);
        let order = CloseOrder::new(Ending::Rebalance, &drain);
        drop(snapshot);
        let closes = state.registry.close_in_order(plan.tunnels, order, span);
        closes.await;
    }
}
