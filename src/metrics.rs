//! Counters of the process, in the Prometheus text format.
//!
//! Label sets are bounded: every label value comes from a table in the source
//! or from the names in the configuration.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One process's metrics; shared by reference.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub connections: Counter,
    pub connections_active: Gauge,
    pub connections_refused: Family<Refused, Counter>,
    pub accept_errors: Counter,
    pub tls_failures: Family<Refused, Counter>,
    pub requests: Family<Answer, Counter>,
    pub refusals: Family<Refused, Counter>,
    pub tunnels: Counter,
    pub tunnels_active: Gauge,
    pub tunnels_closed: Family<End, Counter>,
    pub reloads: Family<Outcome, Counter>,
    pub config_generation: Gauge<u64, AtomicU64>,
    pub certificate_failures: Counter,
    pub backend_up: Family<OfBackend, Gauge>,
    pub probes: Family<Probed, Counter>,
    pub reports: Family<Reported, Counter>,
    pub backend_full: Family<OfBackend, Counter>,
    pub discoveries: Family<Discovered, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Refused {
    /// The word of the log's field of that name.
    pub refusal: &'static str,
}

/// How a reload went: `ok` or `rejected`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    pub result: &'static str,
}

/// The class of a response's status: `2xx`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Answer {
    pub status: &'static str,
}

/// A backend by its names in the configuration.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfBackend {
    pub upstream: String,
    pub backend: String,
}

/// How a probe of a backend went: `ok`, or why it failed.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Probed {
    pub upstream: String,
    pub backend: String,
    pub result: &'static str,
}

/// What a client met that speaks against a backend.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reported {
    pub upstream: String,
    pub backend: String,
    pub report: &'static str,
}

/// How asking for an upstream's backends went: `ok` or `failed`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Discovered {
    pub upstream: String,
    pub result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct End {
    pub ended_by: &'static str,
    pub cause: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("longhaul"),
            connections: Counter::default(),
            connections_active: Gauge::default(),
            connections_refused: Family::default(),
            accept_errors: Counter::default(),
            tls_failures: Family::default(),
            requests: Family::default(),
            refusals: Family::default(),
            tunnels: Counter::default(),
            tunnels_active: Gauge::default(),
            tunnels_closed: Family::default(),
            reloads: Family::default(),
            config_generation: Gauge::default(),
            certificate_failures: Counter::default(),
            backend_up: Family::default(),
            probes: Family::default(),
            reports: Family::default(),
            backend_full: Family::default(),
            discoveries: Family::default(),
        };
        metrics.register();
        metrics.register_backends();
        metrics
    }
}

impl Metrics {
    /// The metrics page.
    pub fn text(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }

    pub fn refused(&self, label: &'static str) {
        self.refusals
            .get_or_create(&Refused { refusal: label })
            .inc();
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "connections",
            "Accepted connections",
            self.connections.clone(),
        );
        registry.register(
            "connections_active",
            "Open client connections, tunnels included",
            self.connections_active.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed before a request, by reason",
            self.connections_refused.clone(),
        );
        registry.register(
            "accept_errors",
            "Failed accepts",
            self.accept_errors.clone(),
        );
        registry.register(
            "tls_failures",
            "TLS handshakes that failed, by reason",
            self.tls_failures.clone(),
        );
        registry.register(
            "requests",
            "Answered requests by status",
            self.requests.clone(),
        );
        registry.register(
            "refusals",
            "Requests that longhaul answered itself, by reason",
            self.refusals.clone(),
        );
        registry.register("tunnels", "Opened tunnels", self.tunnels.clone());
        registry.register(
            "tunnels_active",
            "Live tunnels",
            self.tunnels_active.clone(),
        );
        registry.register(
            "tunnels_closed",
            "Closed tunnels by side and cause",
            self.tunnels_closed.clone(),
        );
        registry.register(
            "reloads",
            "Configuration reloads by result",
            self.reloads.clone(),
        );
        registry.register(
            "config_generation",
            "Generation of the configuration in force",
            self.config_generation.clone(),
        );
        registry.register(
            "certificate_failures",
            "Certificate pairs that could not be loaded",
            self.certificate_failures.clone(),
        );
    }

    /// What is counted for each backend.
    fn register_backends(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "backend_up",
            "Whether a backend is up by its probes and its traffic",
            self.backend_up.clone(),
        );
        registry.register("probes", "Probes by result", self.probes.clone());
        registry.register(
            "reports",
            "What clients met that speaks against a backend",
            self.reports.clone(),
        );
        registry.register(
            "backend_full",
            "Handshakes that a backend did not admit",
            self.backend_full.clone(),
        );
        registry.register(
            "discoveries",
            "Questions for the backends of an upstream, by result",
            self.discoveries.clone(),
        );
    }
}

/// The label for a status.
pub fn status_class(status: http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
