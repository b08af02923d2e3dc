//! The metrics' names and descriptions. The library adds `_total` to counters,
//! and a full stop to each description.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::delay::Delays;
use super::labels::OfBuild;
use super::process::Process;
use super::{Metrics, Table};

impl Metrics {
    pub(super) fn register(&mut self) {
        let mut root = std::mem::take(&mut self.registry);
        root.register_collector(Box::new(Process::new()));
        let to = &mut List(root.sub_registry_with_prefix("longhaul"));
        let build = Table::new(|| {
            let one = Gauge::<i64>::default();
            one.set(1);
            one
        });
        build.get(&OfBuild {
            version: env!("CARGO_PKG_VERSION"),
        });
        to.add("build_info", "The version of the program", build);
        self.of_connections(to);
        self.of_requests(to);
        self.of_tunnels(to);
        self.of_the_config(to);
        self.of_backends(to);
        let about = "How late a thread, or a runtime, came to a question of each second";
        to.add("worker_lag_seconds", about, self.worker_lag.clone());
        let about = "Lines that the log or the place of access lines did not take";
        to.add("log_lines_lost", about, self.log_lines_lost.clone());
        let about = "Connections and requests of which the admin API did not hear more, by reason";
        to.add("admin_refusals", about, self.admin_refusals.clone());
        let about = "Time that a thread of a runtime was not waiting";
        to.add("worker_busy_seconds", about, self.worker_busy.clone());
        self.registry = root;
    }

    fn of_connections(&self, to: &mut List<'_>) {
        to.add(
            "connections",
            "Accepted connections",
            self.connections.clone(),
        );
        let about = "Open client connections, tunnels included";
        to.add("connections_active", about, self.connections_active.clone());
        let about = "Connections closed before a request, by reason";
        to.add(
            "connections_refused",
            about,
            self.connections_refused.clone(),
        );
        to.add(
            "accept_errors",
            "Failed accepts",
            self.accept_errors.clone(),
        );
        let about = "Finished TLS handshakes of clients";
        to.add("tls_handshakes", about, self.tls_handshakes.clone());
        let about = "TLS handshakes that failed, by reason";
        to.add("tls_failures", about, self.tls_failures.clone());
        let about = "Certificate pairs that could not be loaded";
        to.add(
            "certificate_failures",
            about,
            self.certificate_failures.clone(),
        );
        let about = "When a certificate in use ends, in seconds since 1970";
        let expiry = self.certificate_expiry.clone();
        to.add("certificate_expiry_timestamp_seconds", about, expiry);
        let about = "Orders of certificates at the ACME CA, by result";
        to.add("acme_orders", about, self.acme_orders.clone());
    }

    fn of_requests(&self, to: &mut List<'_>) {
        to.add(
            "requests",
            "Answered requests by status",
            self.requests.clone(),
        );
        let about = "Requests that longhaul answered itself, by reason";
        to.add("refusals", about, self.refusals.clone());
        let about = "Requests of what looks like a proxy and was counted as one client";
        to.add("proxies_counted", about, self.proxies_counted.clone());
        let about = "Keys of tokens in force, from a URL";
        to.add("jwt_keys", about, self.keys.clone());
        let about = "When they were last fetched, in seconds since 1970";
        let at = self.keys_fetched_at.clone();
        to.add("jwt_keys_fetched_timestamp_seconds", about, at);
        let about = "Whether the last fetch of them brought keys";
        let ok = self.keys_last_fetch_ok.clone();
        to.add("jwt_keys_last_fetch_ok", about, ok);
        let about = "Fetches of keys of tokens by result";
        to.add("jwt_key_fetches", about, self.key_fetches.clone());
        let about = "Spans of traces, by what became of them";
        to.add("spans", about, self.spans.clone());
        let about = "Requests for a tunnel, by what came of them";
        to.add("handshakes", about, self.handshakes.clone());
        let about = "From the request for a tunnel to the tunnel, or to the end without one";
        to.add(
            "handshake_duration_seconds",
            about,
            self.handshake_duration.clone(),
        );
        let about = "Reaching a backend: resolving, connecting and TLS";
        to.add("dial_duration_seconds", about, self.dial_duration.clone());
    }

    fn of_tunnels(&self, to: &mut List<'_>) {
        to.add(
            "tunnels_opened",
            "Opened tunnels",
            self.tunnels_opened.clone(),
        );
        to.add(
            "tunnels_active",
            "Live tunnels",
            self.tunnels_active.clone(),
        );
        let about =
            "Live tunnels of which a side has taken nothing for 5 seconds of what waits for it";
        to.add("tunnels_stalled", about, self.tunnels_stalled.clone());
        let about = "Closed tunnels by side and cause";
        to.add("tunnels_closed", about, self.tunnels_closed.clone());
        let about = "Bytes passed on through tunnels, live ones included";
        to.add("tunnel_bytes", about, self.tunnel_bytes.shown());
        let about = "Data messages passed on through tunnels, live ones included";
        to.add("tunnel_messages", about, self.tunnel_messages.shown());
        let about = "From the first byte of a message in to that byte out, of one message in 64";
        to.add("message_delay_seconds", about, Delays);
    }

    fn of_the_config(&self, to: &mut List<'_>) {
        let about = "Configuration reloads by result";
        to.add("reloads", about, self.reloads.clone());
        let about = "Generation of the configuration in force";
        to.add("config_generation", about, self.config_generation.clone());
        let about = "The hash of the configuration in force";
        to.add("config_info", about, self.config_info.clone());
        let about = "Whether the last configuration that was read is in force";
        to.add("config_last_reload_ok", about, self.last_reload_ok.clone());
        let about = "When a configuration was last read, in seconds since 1970";
        let at = self.last_reload_at.clone();
        to.add("config_last_reload_timestamp_seconds", about, at);
    }

    fn of_backends(&self, to: &mut List<'_>) {
        let about = "Whether a backend is up by its probes and its traffic";
        to.add("backend_up", about, self.backend_up.clone());
        let about = "The state a backend is in, by its file or a person: 1 for that one";
        to.add("backend_state", about, self.backend_state.clone());
        let about = "Whether a backend is ejected for what its traffic met";
        to.add("backend_ejected", about, self.backend_ejected.clone());
        let about = "Handshakes under way that may become tunnels";
        to.add(
            "backend_handshakes_active",
            about,
            self.backend_handshakes.clone(),
        );
        let about = "Handshakes that wait to be admitted";
        to.add("backend_queued", about, self.backend_queued.clone());
        let about = "Handshakes that a backend did not admit";
        to.add("backend_full", about, self.backend_full.clone());
        to.add("probes", "Probes by result", self.probes.clone());
        let about = "What clients met that speaks against a backend";
        to.add("reports", about, self.reports.clone());
        let about = "Ejections, by what was reported last";
        to.add("ejections", about, self.ejections.clone());
        let about = "Questions for the backends of an upstream, by result";
        to.add("discoveries", about, self.discoveries.clone());
    }
}

/// Where they are entered.
struct List<'a>(&'a mut Registry);

impl List<'_> {
    fn add(&mut self, name: &str, about: &str, metric: impl Metric) {
        self.0.register(name, about, metric);
    }
}
