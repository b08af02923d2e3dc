//! What the connections and requests of each listener meet before they are routed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::exchange::{CaDigest, Stack};
use crate::guard::{AcceptRules, Counted};
use crate::layers::record::{Recorder, record};
use crate::layers::{self, redirect};
use crate::route::Table;
use crate::state::router::router;
use crate::state::{ListenerState, RouteEntry, State};
use crate::tls::ServerTls;

pub(super) fn listeners(
    state: &State,
    config: &Config,
    table: &Arc<Table<RouteEntry>>,
    tls: &BTreeMap<String, ServerTls>,
) -> BTreeMap<String, Arc<ListenerState>> {
    config
        .listeners
        .iter()
        .map(|(name, listener)| {
            let tls = tls.get(name).cloned();
            let client_cas = tls.as_ref().and_then(ServerTls::client_cas);
            let stack = stack(state, config, (listener, client_cas), table);
            let state = ListenerState {
                proxy_protocol: listener.proxy_protocol.clone(),
                tls,
                http2: listener.http2,
                websocket_over_http2: listener.websocket_over_http2,
                accept_rules: accept_rules(state, config, listener),
                stack,
            };
            (name.clone(), Arc::new(state))
        })
        .collect()
}

/// What a listener asks of connections.
fn accept_rules(state: &State, config: &Config, listener: &config::Listener) -> AcceptRules {
    let current = state.snapshot();
    let before = current.listeners.get(&listener.name);
    AcceptRules {
        networks: listener.networks.clone(),
        rates: listener.rates,
        trusted: config.trusted_proxies.clone().into(),
        counted: before.map_or_else(Counted::default, |it| it.accept_rules.counted.clone()),
    }
}

/// The layers of a listener.
fn stack(
    state: &State,
    config: &Config,
    (listener, client_cas): (&config::Listener, Option<&Arc<[CaDigest]>>),
    table: &Arc<Table<RouteEntry>>,
) -> Stack<Infallible> {
    // Outermost, so that every refusal below gets its line.
    let recorder = Recorder {
        metrics: Arc::clone(&state.metrics),
        sample: config.log.sample_requests,
    };
    let settled = layers::Settled::by(config, Some(listener), client_cas, &state.spans);
    match listener.redirect_to_https {
        Some(port) => {
            let redirect = redirect::to(port);
            Stack::new(record(recorder, layers::settle(settled, redirect)))
        }
        None => {
            let router = router(Arc::clone(table));
            Stack::new(record(recorder, layers::settle(settled, router)))
        }
    }
}
