//! `/impact`: what another configuration would do to the live tunnels.
//!
//! The body holds its routes and upstreams in outline, as `longhaul check
//! --against` makes them; nothing is changed.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::fields::Wrong;
use crate::state::State;
use crate::upstream::{LONGEST_COMPARISON, Outlines, impact as of_outlines};

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
            impact(&state, &body, Instant::now() + LONGEST_COMPARISON)
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

fn impact(state: &State, body: &[u8], end: Instant) -> Result<Value, Wrong> {
    let next: Outlines = serde_json::from_slice(body).map_err(|error| {
        Wrong::bad(format!(
            "the body is no table of routes and upstreams: {error}"
        ))
    })?;
    next.check().map_err(Wrong::bad)?;
    let (snapshot, registry) = (state.snapshot(), &state.registry);
    let impact = of_outlines(registry, &snapshot.config, &snapshot.upstreams, &next, end);
    let impact = impact.ok_or_else(unavailable)?;
    Ok(json!({ "tunnels": registry.len(), "impact": impact }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Clocks;
    use crate::tunnel::{Facts, Framing, Labels, Opening, Options, Registry, Ticket};

    /// On the clock that is given, without a wait.
    #[test]
    fn a_comparison_that_is_not_done_in_time_is_given_up() {
        let state = State::new();
        let body = json!({ "routes": [{
            "name": "r", "host": "*", "path": "/*", "methods": [], "headers": [],
            "subprotocols": [], "upstream": "app",
        }] });
        let body = body.to_string().into_bytes();
        let late = || impact(&state, &body, Instant::now() - Duration::from_millis(1));
        let nobody = late().expect("nothing to look at takes no time");
        assert_eq!(nobody["tunnels"], 0);
        let _tunnels: Vec<_> = (0..3).map(|id| open(&state, id)).collect();
        assert_eq!(late(), Err(unavailable()));
        let in_time =
            impact(&state, &body, Instant::now() + LONGEST_COMPARISON).expect("an answer");
        assert_eq!(in_time["tunnels"], 3);
    }

    fn open(state: &State, id: u64) -> Ticket {
        let labels = Labels {
            listener: "main".into(),
            http: "1.1",
            route: "app".into(),
            upstream: "app".into(),
            backend: "a".into(),
        };
        let facts = Facts {
            id,
            labels: Arc::new(labels),
            key: 0,
            opening: Opening::default(),
        };
        let clocks = Clocks {
            handshake_timeout: Duration::from_secs(1),
            idle_timeout: None,
            half_close_timeout: Duration::from_secs(1),
            max_lifetime: None,
            max_lifetime_jitter: 0.0,
            pings: None,
        };
        let drain = state.snapshot().config.drain;
        let options = Options::new(Framing::Opaque, clocks, &drain, None);
        Registry::open(&state.registry, facts, &options)
    }
}
