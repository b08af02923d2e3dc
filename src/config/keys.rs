//! Every key, and whose it is: for hints, and for the test that each appears
//! in `docs/configuration.md`.
//!
//! Deliberately not what decides whether a key is known: reading it does. A
//! test compares the two.

pub(super) const MAIN: &str = "the main file";
pub(super) const INCLUDED: &str = "an included file";

/// Sections as diagnostics call them, with `NAME` for what has a name of its
/// own, and their keys.
pub(super) const KEYS: &[(&str, &[&str])] = &[
    (
        MAIN,
        &[
            "include",
            "workers",
            "trusted_proxies",
            "forwarded_header",
            "limits",
            "http2",
            "tcp",
            "log",
            "drain",
            "traces",
            "acme",
            "admin",
            "listeners",
            "routes",
            "upstreams",
        ],
    ),
    (
        "[limits]",
        &[
            "max_connections",
            "max_connections_per_address",
            "max_tls_handshakes",
            "max_request_head",
            "max_request_headers",
            "first_byte_timeout",
            "tls_handshake_timeout",
            "request_head_timeout",
            "keepalive_timeout",
            "request_body_timeout",
        ],
    ),
    (
        "[http2]",
        &[
            "max_streams",
            "stream_window",
            "max_early_resets",
            "max_stream_errors",
            "max_control_frames",
            "ping_interval",
            "ping_timeout",
            "max_connection_age",
            "max_connection_age_jitter",
        ],
    ),
    (
        "[tcp]",
        &[
            "keepalive_idle",
            "keepalive_interval",
            "keepalive_probes",
            "user_timeout",
        ],
    ),
    (
        "[log]",
        &[
            "format",
            "level",
            "access",
            "query_values",
            "access_to",
            "access_format",
            "sample_requests",
            "request_id",
            "trace_context",
        ],
    ),
    (
        "[drain]",
        &[
            "deadline",
            "rate",
            "window",
            "close_code",
            "close_codes",
            "close_timeout",
        ],
    ),
    (
        "`close_codes` of [drain]",
        &[
            "stop",
            "drain",
            "removed",
            "unhealthy",
            "rebalance",
            "operator",
            "max_lifetime",
            "idle_timeout",
            "ping_timeout",
        ],
    ),
    (
        "[acme]",
        &[
            "directory",
            "ca",
            "contact",
            "agree_to_terms",
            "external_account",
            "storage",
            "challenges",
            "renewal",
            "order_timeout",
            "retry_interval",
            "max_retry_interval",
        ],
    ),
    ("`external_account` of [acme]", &["key_id", "key_file"]),
    (
        "[traces]",
        &[
            "endpoint",
            "ca",
            "headers",
            "service_name",
            "sample",
            "timeout",
        ],
    ),
    (
        "[admin]",
        &[
            "socket",
            "mode",
            "operators",
            "listen",
            "token_file",
            "read_token_file",
        ],
    ),
    (
        "[listeners.NAME]",
        &[
            "address",
            "mode",
            "proxy_protocol",
            "certificates",
            "acme_names",
            "client_certificates",
            "tls_1_3_only",
            "redirect_to_https",
            "redirect_port",
            "http2",
            "websocket_over_http2",
            "allowed_networks",
            "denied_networks",
            "connection_rate",
            "connection_rate_per_address",
        ],
    ),
    ("`proxy_protocol` of [listeners.NAME]", &["from", "timeout"]),
    (
        "`certificates` of [listeners.NAME]",
        &["chain", "key", "ocsp"],
    ),
    (
        "`client_certificates` of [listeners.NAME]",
        &["ca", "required", "subject_header"],
    ),
    (
        "[[routes]]",
        &[
            "name",
            "host",
            "path",
            "upstream",
            "methods",
            "headers",
            "subprotocols",
            "auth",
            "basic_auth",
            "jwt",
            "upgrades",
            "allowed_networks",
            "denied_networks",
            "handshake_rate",
            "handshake_rate_per_client",
            "request_rate",
            "request_rate_per_client",
            "max_tunnels",
            "max_tunnels_per_client",
            "max_tunnels_per_sticky_key",
            "message_limits",
            "allowed_origins",
            "missing_origin",
            "response_timeout",
            "response_idle_timeout",
            "handshake_timeout",
            "idle_timeout",
            "half_close_timeout",
            "max_lifetime",
            "max_lifetime_jitter",
            "ping_interval",
            "ping_timeout",
            "ping_side",
        ],
    ),
    (
        "`message_limits` of [[routes]]",
        &[
            "max_frame",
            "max_message",
            "message_rate",
            "byte_rate",
            "side",
        ],
    ),
    (
        "`auth` of [[routes]]",
        &["upstream", "path", "timeout", "set_headers", "close_code"],
    ),
    (
        "`basic_auth` of [[routes]]",
        &["users", "realm", "user_header"],
    ),
    (
        "`jwt` of [[routes]]",
        &[
            "keys",
            "refresh",
            "timeout",
            "ca",
            "from",
            "algorithms",
            "issuer",
            "audience",
            "leeway",
            "set_headers",
            "close_code",
        ],
    ),
    (
        "[upstreams.NAME]",
        &[
            "scheme",
            "http2",
            "websocket_over_http2",
            "proxy_protocol",
            "balance",
            "max_load",
            "sticky",
            "cookie",
            "tls",
            "backends",
            "discovery",
            "dial_timeout",
            "max_attempts",
            "on_removed",
            "drain",
            "max_idle_connections",
            "idle_connection_timeout",
            "health",
            "on_unhealthy",
            "panic_threshold",
            "admission",
            "ejection",
            "slow_start",
            "rebalance",
        ],
    ),
    (
        "`health` of [upstreams.NAME]",
        &[
            "type", "path", "headers", "status", "body", "ping", "interval", "jitter", "timeout",
            "rise", "fall", "initial",
        ],
    ),
    (
        "`discovery` of [upstreams.NAME]",
        &[
            "dns", "file", "type", "servers", "port", "min_ttl", "max_ttl",
        ],
    ),
    (
        "`drain` of [upstreams.NAME]",
        &["rate", "window", "deadline", "close_codes"],
    ),
    (
        "`close_codes` of `drain` of [upstreams.NAME]",
        &[
            "drain",
            "removed",
            "unhealthy",
            "rebalance",
            "max_lifetime",
            "idle_timeout",
            "ping_timeout",
        ],
    ),
    (
        "`admission` of [upstreams.NAME]",
        &[
            "max_tunnels",
            "max_handshakes_in_flight",
            "handshake_rate",
            "max_queued",
            "queue_timeout",
            "retry_after",
        ],
    ),
    (
        "`ejection` of [upstreams.NAME]",
        &[
            "reports",
            "time",
            "failures",
            "share",
            "window",
            "early_end",
            "max_time",
            "max_ejected",
        ],
    ),
    (
        "`rebalance` of [upstreams.NAME]",
        &["interval", "to", "rate"],
    ),
    (
        "`cookie` of [upstreams.NAME]",
        &["name", "same_site", "max_age", "secure"],
    ),
    (
        "`tls` of [upstreams.NAME]",
        &["ca", "client_certificate", "server_name"],
    ),
    (
        "`client_certificate` of `tls` of [upstreams.NAME]",
        &["chain", "key"],
    ),
    (
        "`backends` of [upstreams.NAME]",
        &["name", "address", "weight", "state"],
    ),
];

/// The sections that have a key of exactly this name.
pub(super) fn owners(key: &str) -> Vec<&'static str> {
    let has = |(_, keys): &&(&str, &[&str])| keys.contains(&key);
    KEYS.iter()
        .filter(has)
        .map(|(section, _)| *section)
        .collect()
}

/// What an included file may not hold.
pub(super) fn is_main_only(key: &str) -> bool {
    owners(key).contains(&MAIN) && !matches!(key, "routes" | "upstreams")
}
