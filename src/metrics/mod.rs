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
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use delay::Delays;
pub use labels::{
    Answer, Dialled, Discovered, End, InState, LostFrom, Names, OfBackend, OfBuild, OfCertificate,
    OfConfig, OfKeys, OfResult, OfRoute, OfTunnels, OfWorker, Passing, Probed, Refused, Reported,
    Shaken, ShakenOn, TlsVersion, close_code, status_class,
};
pub use passing::Totals;
pub use plain::{OPEN_METRICS, PLAIN, plain};
use process::Process;
pub use table::Table;

/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

/// Bounds of what takes a round trip or more: handshakes and dialling.
const ROUND_TRIPS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0,
];
/// Bounds of how late a thread comes to what it is asked.
const LAGS: [f64; 10] = [
    50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 10e-3, 50e-3, 0.1, 1.0, 10.0,
];

/// Makes [`Metrics`] of a list. The comment of each is its description, to which
/// the library adds a full stop. On the page it has the name of its field, or the
/// one after `as`, with `longhaul_` before it and, as the library does it, `_total`
/// behind it if it is a counter. `_` begins the fields that only the page reads.
/// `[keep]`: what is counted under names that are no more is forgotten.
macro_rules! metrics {
    ($(
        #[doc = $about:literal]
        $field:ident $(as $name:literal)?: $kind:ty $([$keep:ident])? $(= $new:expr)?;
    )+) => {
        /// One process's metrics; shared by reference.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $about] pub $field: $kind,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::default();
                registry.register_collector(Box::new(Process::new()));
                let page = registry.sub_registry_with_prefix("longhaul");
                $(
                    let $field = metrics!(@or <$kind>::default() $(, $new)?);
                    let name = metrics!(@or stringify!($field) $(, $name)?);
                    page.register(name, $about.trim(), $field.clone());
                )+
                Self { registry, $($field,)+ }
            }
        }

        impl Metrics {
            /// Forgets what is counted under names that are no more.
            pub fn keep(&self, names: &dyn Names) {
                $($(self.$field.$keep(names);)?)+
            }
        }
    };
    (@or $usual:expr) => { $usual };
    (@or $usual:expr, $own:expr) => { $own };
}

metrics! {
    /// The version of the program
    _build as "build_info": Table<OfBuild, Gauge> = build();

    /// Accepted connections
    connections: Counter;
    /// Open client connections, tunnels included
    connections_active: Gauge;
    /// Connections closed before a request, by reason
    connections_refused: Table<Refused, Counter>;
    /// Failed accepts
    accept_errors: Counter;
    /// Finished TLS handshakes of clients
    tls_handshakes: Table<TlsVersion, Counter>;
    /// TLS handshakes that failed, by reason
    tls_failures: Table<Refused, Counter>;
    /// Certificate pairs that could not be loaded
    certificate_failures: Counter;
    /// When a certificate in use ends, in seconds since 1970
    certificate_expiry as "certificate_expiry_timestamp_seconds": Table<OfCertificate, Seconds>;
    /// Orders of certificates at the ACME CA, by result
    acme_orders: Table<OfResult, Counter>;

    /// Answered requests by status
    requests: Table<Answer, Counter>;
    /// Requests that longhaul answered itself, by reason
    refusals: Table<Refused, Counter>;
    /// Requests of what looks like a proxy and was counted as one client
    proxies_counted: Table<OfRoute, Counter> [keep];
    /// Keys of tokens in force, from a URL
    keys as "jwt_keys": Table<OfKeys, Gauge>;
    /// When they were last fetched, in seconds since 1970
    keys_fetched_at as "jwt_keys_fetched_timestamp_seconds": Table<OfKeys, Seconds>;
    /// Whether the last fetch of them brought keys
    keys_last_fetch_ok as "jwt_keys_last_fetch_ok": Table<OfKeys, Gauge>;
    /// Fetches of keys of tokens by result
    key_fetches as "jwt_key_fetches": Table<OfResult, Counter>;
    /// Spans of traces, by what became of them
    spans: Table<OfResult, Counter>;
    /// Requests for a tunnel, by what came of them
    handshakes: Table<ShakenOn, Counter> [keep];
    /// From the request for a tunnel to the tunnel, or to the end without one
    handshake_duration as "handshake_duration_seconds":
        Table<Shaken, Histogram> = Table::new(|| Histogram::new(ROUND_TRIPS));
    /// Reaching a backend: resolving, connecting and TLS
    dial_duration as "dial_duration_seconds":
        Table<Dialled, Histogram> [keep] = Table::new(|| Histogram::new(ROUND_TRIPS));

    /// Opened tunnels
    tunnels_opened: Table<OfTunnels, Counter> [keep];
    /// Live tunnels
    tunnels_active: Table<OfTunnels, Gauge>;
    /// Live tunnels of which a side has taken nothing for 5 seconds of what waits for it
    tunnels_stalled: Table<OfTunnels, Gauge>;
    /// Closed tunnels by side and cause
    tunnels_closed: Table<End, Counter> [keep];
    /// Bytes passed on through tunnels, live ones included
    tunnel_bytes: Totals [keep];
    /// Data messages passed on through tunnels, live ones included
    tunnel_messages: Totals [keep];
    /// From the first byte of a message in to that byte out, of one message in 64
    _message_delay as "message_delay_seconds": Delays;

    /// Configuration reloads by result
    reloads: Table<OfResult, Counter>;
    /// Generation of the configuration in force
    config_generation: Gauge<u64, AtomicU64>;
    /// The hash of the configuration in force
    config_info: Table<OfConfig, Gauge>;
    /// Whether the last configuration that was read is in force
    last_reload_ok as "config_last_reload_ok": Gauge;
    /// When a configuration was last read, in seconds since 1970
    last_reload_at as "config_last_reload_timestamp_seconds": Seconds;

    /// Whether a backend is up by its probes and its traffic
    backend_up: Table<OfBackend, Gauge>;
    /// The state a backend is in, by its file or a person: 1 for that one
    backend_state: Table<InState, Gauge>;
    /// Whether a backend is ejected for what its traffic met
    backend_ejected: Table<OfBackend, Gauge>;
    /// Handshakes under way that may become tunnels
    backend_handshakes as "backend_handshakes_active": Table<OfBackend, Gauge>;
    /// Handshakes that wait to be admitted
    backend_queued: Table<OfBackend, Gauge>;
    /// Handshakes that a backend did not admit
    backend_full: Table<OfBackend, Counter> [keep];
    /// Probes by result
    probes: Table<Probed, Counter> [keep];
    /// What clients met that speaks against a backend
    reports: Table<Reported, Counter> [keep];
    /// Ejections, by what was reported last
    ejections: Table<Reported, Counter> [keep];
    /// Questions for the backends of an upstream, by result
    discoveries: Table<Discovered, Counter> [keep];

    /// How late a thread, or a runtime, came to a question of each second
    worker_lag as "worker_lag_seconds":
        Table<OfWorker, Histogram> = Table::new(|| Histogram::new(LAGS));
    /// Lines that the log or the place of access lines did not take
    log_lines_lost: Table<LostFrom, Counter>;
    /// Connections and requests of which the admin API did not hear more, by reason
    admin_refusals: Table<Refused, Counter>;
    /// Time that a thread of a runtime was not waiting
    worker_busy as "worker_busy_seconds": Table<OfWorker, Counter<f64, AtomicU64>>;
}

fn build() -> Table<OfBuild, Gauge> {
    let build = Table::<_, Gauge>::default();
    let version = env!("CARGO_PKG_VERSION");
    build.get(&OfBuild { version }).set(1);
    build
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
}
