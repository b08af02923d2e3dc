//! Counters of the process, in the text formats of Prometheus and OpenMetrics.
//!
//! It counts and knows nobody who is counted: what is only true at the moment of
//! a page is set by `state`, which makes it.
//!
//! Invariant: label sets are bounded (see `labels`), and nothing here is touched
//! on the path of a tunnel's bytes but what `delay` measures.

pub mod delay;
mod labels;
mod passing;
mod plain;
mod process;
mod register;
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use labels::{
    Answer, Dialled, Discovered, End, InState, LostFrom, Names, OfBackend, OfCertificate, OfConfig,
    OfKeys, OfRoute, OfTunnels, OfWorker, Outcome, Passing, Probed, Refused, Reported, Shaken,
    ShakenOn, TlsVersion, close_code, status_class,
};
pub use passing::Totals;
pub use plain::{OPEN_METRICS, PLAIN, plain};
pub use table::Table;

/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

/// One process's metrics; shared by reference.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub connections: Counter,
    pub connections_active: Gauge,
    pub connections_refused: Table<Refused, Counter>,
    pub accept_errors: Counter,
    pub tls_handshakes: Table<TlsVersion, Counter>,
    pub tls_failures: Table<Refused, Counter>,
    pub certificate_failures: Counter,
    pub certificate_expiry: Table<OfCertificate, Seconds>,
    pub acme_orders: Table<Outcome, Counter>,
    pub requests: Table<Answer, Counter>,
    pub refusals: Table<Refused, Counter>,
    pub handshakes: Table<ShakenOn, Counter>,
    pub proxies_counted: Table<OfRoute, Counter>,
    pub keys: Table<OfKeys, Gauge>,
    pub keys_fetched_at: Table<OfKeys, Seconds>,
    pub keys_last_fetch_ok: Table<OfKeys, Gauge>,
    pub key_fetches: Table<Outcome, Counter>,
    pub spans: Table<Outcome, Counter>,
    pub handshake_duration: Table<Shaken, Histogram>,
    pub dial_duration: Table<Dialled, Histogram>,
    pub tunnels_opened: Table<OfTunnels, Counter>,
    pub tunnels_active: Table<OfTunnels, Gauge>,
    pub tunnels_stalled: Table<OfTunnels, Gauge>,
    pub tunnels_closed: Table<End, Counter>,
    pub tunnel_bytes: Totals,
    pub tunnel_messages: Totals,
    pub log_lines_lost: Table<LostFrom, Counter>,
    pub admin_refusals: Table<Refused, Counter>,
    pub reloads: Table<Outcome, Counter>,
    pub config_generation: Gauge<u64, AtomicU64>,
    pub config_info: Table<OfConfig, Gauge>,
    pub last_reload_ok: Gauge,
    pub last_reload_at: Seconds,
    pub backend_up: Table<OfBackend, Gauge>,
    pub backend_state: Table<InState, Gauge>,
    pub backend_ejected: Table<OfBackend, Gauge>,
    pub backend_handshakes: Table<OfBackend, Gauge>,
    pub backend_queued: Table<OfBackend, Gauge>,
    pub backend_full: Table<OfBackend, Counter>,
    pub probes: Table<Probed, Counter>,
    pub reports: Table<Reported, Counter>,
    pub ejections: Table<Reported, Counter>,
    pub discoveries: Table<Discovered, Counter>,
    pub worker_lag: Table<OfWorker, Histogram>,
    pub worker_busy: Table<OfWorker, Counter<f64, AtomicU64>>,
}

/// Bounds of what takes a round trip or more: handshakes and dialling.
const ROUND_TRIPS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0,
];
/// Bounds of how late a thread comes to what it is asked.
const LAGS: [f64; 10] = [
    50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 10e-3, 50e-3, 0.1, 1.0, 10.0,
];

impl Default for Metrics {
    fn default() -> Self {
        let round_trips = || Histogram::new(ROUND_TRIPS);
        let mut metrics = Self {
            registry: Registry::default(),
            connections: Counter::default(),
            connections_active: Gauge::default(),
            connections_refused: Table::default(),
            accept_errors: Counter::default(),
            tls_handshakes: Table::default(),
            tls_failures: Table::default(),
            certificate_failures: Counter::default(),
            certificate_expiry: Table::default(),
            acme_orders: Table::default(),
            requests: Table::default(),
            refusals: Table::default(),
            handshakes: Table::default(),
            proxies_counted: Table::default(),
            keys: Table::default(),
            keys_fetched_at: Table::default(),
            keys_last_fetch_ok: Table::default(),
            key_fetches: Table::default(),
            spans: Table::default(),
            handshake_duration: Table::new(round_trips),
            dial_duration: Table::new(round_trips),
            tunnels_opened: Table::default(),
            tunnels_active: Table::default(),
            tunnels_stalled: Table::default(),
            tunnels_closed: Table::default(),
            tunnel_bytes: Totals::default(),
            tunnel_messages: Totals::default(),
            log_lines_lost: Table::default(),
            admin_refusals: Table::default(),
            reloads: Table::default(),
            config_generation: Gauge::default(),
            config_info: Table::default(),
            last_reload_ok: Gauge::default(),
            last_reload_at: Gauge::default(),
            backend_up: Table::default(),
            backend_state: Table::default(),
            backend_ejected: Table::default(),
            backend_handshakes: Table::default(),
            backend_queued: Table::default(),
            backend_full: Table::default(),
            probes: Table::default(),
            reports: Table::default(),
            ejections: Table::default(),
            discoveries: Table::default(),
            worker_lag: Table::new(|| Histogram::new(LAGS)),
            worker_busy: Table::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The metrics page, in OpenMetrics.
    pub fn text(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }

    pub fn refused(&self, label: &'static str) {
        self.refusals.get(&Refused { refusal: label }).inc();
    }

    /// A handshake for a tunnel has ended; without a route if none was found.
    pub fn shaken(&self, route: Option<&Arc<str>>, outcome: &'static str, took: Duration) {
        let route = route.map_or_else(|| "".into(), Arc::clone);
        self.handshakes.get(&ShakenOn { route, outcome }).inc();
        let duration = self.handshake_duration.get(&Shaken { outcome });
        duration.observe(took.as_secs_f64());
    }

    /// Forgets what is counted under names that are no more.
    pub fn keep(&self, names: &dyn Names) {
        self.handshakes.keep(names);
        self.proxies_counted.keep(names);
        self.dial_duration.keep(names);
        self.tunnels_opened.keep(names);
        self.tunnels_closed.keep(names);
        self.tunnel_bytes.keep(names);
        self.tunnel_messages.keep(names);
        self.backend_full.keep(names);
        self.probes.keep(names);
        self.reports.keep(names);
        self.ejections.keep(names);
        self.discoveries.keep(names);
    }
}
