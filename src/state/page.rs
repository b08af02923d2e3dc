//! The metrics page: what is counted all the time, and what is only true at this
//! moment, asked of whoever knows it.
//!
//! It changes nothing but what the page shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::Gauge;

use super::{Snapshot, State};
use crate::config::BackendState;
use crate::metrics::{
    InState, Metrics, OfBackend, OfCertificate, OfConfig, OfKeys, OfTunnels, Passing, Seconds,
};
use crate::tunnel::Traffic;
use crate::upstream::Upstream;

const STATES: [BackendState; 3] = [
    BackendState::Active,
    BackendState::Draining,
    BackendState::Disabled,
];

impl State {
    /// The metrics page, in OpenMetrics.
    pub fn metrics_page(&self) -> String {
        let metrics = &*self.metrics;
        let snapshot = self.snapshot();
        forget_backends(metrics);
        for upstream in snapshot.upstreams.values() {
            show_backends(metrics, upstream);
        }
        metrics.config_info.clear();
        let hash = format!("{:016x}", snapshot.hash);
        metrics.config_info.get(&OfConfig { hash }).set(1);
        if let Some(reload) = self.live.facts().last_reload {
            metrics.last_reload_ok.set(reload.ok.into());
            set_time(&metrics.last_reload_at, reload.at);
        }
        metrics.certificate_expiry.clear();
        for (chain, not_after) in self.pairs.ends() {
            let chain = chain.display().to_string();
            let gauge = metrics.certificate_expiry.get(&OfCertificate { chain });
            set_time(&gauge, not_after);
        }
        for (name, not_after) in self.acme.issued.ends() {
            let chain = format!("acme:{name}");
            let gauge = metrics.certificate_expiry.get(&OfCertificate { chain });
            set_time(&gauge, not_after);
        }
        show_keys(metrics, &snapshot);
        self.show_tunnels();
        metrics.text()
    }

    fn show_tunnels(&self) {
        let metrics = &self.metrics;
        // These first: see `metrics::passing`.
        let mut bytes = metrics.tunnel_bytes.settled();
        let mut messages = metrics.tunnel_messages.settled();
        metrics.tunnels_active.clear();
        metrics.tunnels_stalled.clear();
        // Those that had tunnels before still are there, with none.
        for (labels, _) in metrics.tunnels_opened.rows() {
            metrics.tunnels_active.get(&labels);
            metrics.tunnels_stalled.get(&labels);
        }
        for traffic in self.registry.traffic() {
            let labels = of_tunnels(&traffic);
            let add = |gauge: Gauge, count: u64| {
                gauge.inc_by(i64::try_from(count).unwrap_or(i64::MAX));
            };
            add(metrics.tunnels_active.get(&labels), traffic.tunnels);
            add(metrics.tunnels_stalled.get(&labels), traffic.stalled);
            add_up(&mut bytes, &labels, traffic.bytes);
            add_up(&mut messages, &labels, traffic.messages);
        }
        metrics.tunnel_bytes.show(bytes);
        metrics.tunnel_messages.show(messages);
    }
}

fn of_tunnels(traffic: &Traffic) -> OfTunnels {
    let labels = &traffic.labels;
    OfTunnels {
        route: Arc::clone(&labels.route),
        upstream: Arc::clone(&labels.upstream),
        backend: Arc::clone(&labels.backend),
    }
}

/// `amounts` from the client and from the backend.
fn add_up(sums: &mut BTreeMap<Passing, u64>, labels: &OfTunnels, amounts: [u64; 2]) {
    for (direction, amount) in ["in", "out"].into_iter().zip(amounts) {
        let passing = Passing {
            route: Arc::clone(&labels.route),
            upstream: Arc::clone(&labels.upstream),
            backend: Arc::clone(&labels.backend),
            direction,
        };
        *sums.entry(passing).or_default() += amount;
    }
}

fn show_keys(metrics: &Metrics, snapshot: &Snapshot) {
    metrics.keys.clear();
    metrics.keys_fetched_at.clear();
    metrics.keys_last_fetch_ok.clear();
    for (url, fetch) in &snapshot.key_fetches {
        let labels = OfKeys { url: url.clone() };
        let held = fetch.keyring.held();
        let keys = held.as_ref().map_or(0, |held| held.keys.count());
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        metrics.keys.get(&labels).set(keys);
        let at = held.map_or(UNIX_EPOCH, |held| held.at);
        set_time(&metrics.keys_fetched_at.get(&labels), at);
        let ok = fetch.keyring.is_last_ok();
        metrics.keys_last_fetch_ok.get(&labels).set(ok.into());
    }
}

fn forget_backends(metrics: &Metrics) {
    metrics.backend_up.clear();
    metrics.backend_state.clear();
    metrics.backend_ejected.clear();
    metrics.backend_handshakes.clear();
    metrics.backend_queued.clear();
}

fn show_backends(metrics: &Metrics, upstream: &Upstream) {
    let backends = upstream.backends();
    for (index, listed) in backends.list().iter().enumerate() {
        let backend = listed.backend();
        let labels = OfBackend {
            upstream: Arc::clone(upstream.name()),
            backend: Arc::clone(backend.name()),
        };
        let up = backends.may_use(index);
        metrics.backend_up.get(&labels).set(up.into());
        let ejected = backend.ejected().is_some();
        metrics.backend_ejected.get(&labels).set(ejected.into());
        let handshakes = metrics.backend_handshakes.get(&labels);
        handshakes.set(backend.handshakes().into());
        let queued = i64::try_from(backend.queued()).unwrap_or(i64::MAX);
        metrics.backend_queued.get(&labels).set(queued);
        for state in STATES {
            let labels = InState {
                upstream: Arc::clone(&labels.upstream),
                backend: Arc::clone(&labels.backend),
                state: state.label(),
            };
            let is_it = listed.state() == state;
            metrics.backend_state.get(&labels).set(is_it.into());
        }
    }
}

fn set_time(gauge: &Seconds, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH);
    gauge.set(since.map_or(0.0, |since| since.as_secs_f64()));
}
