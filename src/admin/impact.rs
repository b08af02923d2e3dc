//! `/impact`: what another configuration would do to the live tunnels.
//!
//! The body holds its routes and upstreams in outline, as `longhaul check
//! --against` makes them; nothing is changed.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::fields::Wrong;
use crate::state::State;
use crate::upstream::{Outlines, impact as of_outlines};

/// One comparison at a time, on a thread of its own: it goes by tunnels times routes,
/// and reloads, signals and the watchdog wait for nobody.
#[derive(Debug)]
pub(super) struct Impacts(Arc<Semaphore>);

impl Impacts {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    pub(super) async fn answer(&self, state: &Arc<State>, body: Bytes) -> Result<Value, Wrong> {
        let turn = Arc::clone(&self.0).try_acquire_owned();
        let turn = turn.map_err(|_| Wrong {
            status: StatusCode::TOO_MANY_REQUESTS,
            message: "another comparison is under way".to_owned(),
        })?;
        let state = Arc::clone(state);
        let compared = spawn_blocking(move || {
            let _turn = turn;
            impact(&state, &body)
        });
        compared.await.unwrap_or_else(|_| Err(unavailable()))
    }
}

fn unavailable() -> Wrong {
    Wrong {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "there are too many tunnels and routes to compare".to_owned(),
    }
}

fn impact(state: &State, body: &[u8]) -> Result<Value, Wrong> {
    let next: Outlines = serde_json::from_slice(body).map_err(|error| {
        Wrong::bad(format!(
            "the body is no table of routes and upstreams: {error}"
        ))
    })?;
    next.check().map_err(Wrong::bad)?;
    let (snapshot, registry) = (state.snapshot(), &state.registry);
    let impact = of_outlines(registry, &snapshot.config, &snapshot.upstreams, &next);
    let impact = impact.ok_or_else(unavailable)?;
    Ok(json!({ "tunnels": registry.len(), "impact": impact }))
}
