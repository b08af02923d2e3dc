//! The validated configuration, as plain values.
//!
//! Everything here has been checked and has its default filled in; nothing
//! here knows TOML. Files that the config names (certificates, keys, CAs) are
//! absolute paths and have not been read: that is `state`'s work, so that this
//! room does no I/O beyond the config files themselves.
//!
//! Invariant: two configs are equal if they say the same, wherever in the
//! files they say it (see [`WrittenAt`]).

mod listener;
mod route;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::acme::Acme;
use super::diagnostic::WrittenAt;
use super::drain::Drain;
use super::forwarded::ForwardedHeader;
use super::http2::Http2;
use super::listeners::ServedCertificate;
use super::named_files::NamedFiles;
use super::operators::{AdminClients, Operators};
use super::traces::Traces;
use crate::logging::{AccessFormat, Destination, Settings};
use crate::net::Keepalive;
pub use listener::{CertificatePair, ListenAddress, Listener};
pub use route::{Clocks, PingSide, Pings, Route};
pub use upstream::{
    Backend, BackendAddress, BackendState, Balance, OnRemoved, SameSite, Scheme, StickyCookie,
    StickySource, Upstream, UpstreamTls,
};

/// One whole configuration: what the main file and its includes say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Threads of the data plane; `None` is one per core. Read at start only.
    pub workers: Option<usize>,
    /// Peers whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The only one of the two that is read of them; `None`: whichever is there.
    pub forwarded_header: Option<ForwardedHeader>,
    pub limits: Limits,
    pub http2: Http2,
    pub tcp: Tcp,
    pub log: Log,
    pub drain: Drain,
    /// Where certificates come from that no file holds.
    pub acme: Option<Acme>,
    /// Where spans are sent, if anywhere.
    pub traces: Option<Traces>,
    /// Where operators are answered, if anywhere.
    pub admin: Option<Admin>,
    pub listeners: BTreeMap<String, Listener>,
    /// In the order of the files; matching does not depend on it.
    pub routes: Vec<Route>,
    pub upstreams: BTreeMap<String, Upstream>,
    /// Where each file that others read is named, for findings about them.
    pub files: NamedFiles,
}

/// Bounds and deadlines of connections until they are tunnels.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Open client connections, tunnels included; `None` derives it from the
    /// limit of open files.
    pub max_connections: Option<usize>,
    /// Open connections of one client address (IPv6: one /64); `None` is no limit.
    pub max_connections_per_address: Option<usize>,
    /// TLS handshakes in flight.
    pub max_tls_handshakes: usize,
    /// Bytes of a request head.
    pub max_request_head: usize,
    /// Header lines of a request.
    pub max_request_headers: usize,
    /// From accept (or the end of the TLS handshake) to the first byte.
    pub first_byte_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    /// From the first byte of a request head to its last.
    pub request_head_timeout: Duration,
    /// Between two requests of one connection.
    pub keepalive_timeout: Duration,
    /// Between two parts of a request body.
    pub request_body_timeout: Duration,
}

/// What the kernel is asked to do about peers that vanish, on both legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Silence before the first keepalive probe.
    pub keepalive_idle: Duration,
    /// Between two probes.
    pub keepalive_interval: Duration,
    /// Unanswered probes until the peer counts as gone.
    pub keepalive_probes: u32,
    /// Sent data unacknowledged for this long ends the connection
    /// (`TCP_USER_TIMEOUT`, RFC 5482).
    pub user_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// A `tracing` filter, such as `info` or `longhaul=debug`.
    pub level: String,
    /// Whether requests and tunnels are logged.
    pub access: bool,
    /// Whether the values of query parameters appear in the log.
    pub query_values: bool,
    pub access_to: Destination,
    pub access_format: AccessFormat,
    /// Of the plain requests that went well; 1 is all of them.
    pub sample_requests: f64,
    /// Whether each request has an `X-Request-Id`.
    pub request_id: bool,
    pub trace_context: TraceContext,
    /// Of `access_to`.
    pub place: WrittenAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What becomes of the trace that a request belongs to (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceContext {
    Pass,
    /// Passed on, or begun by a request without one.
    Begin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub socket: Option<PathBuf>,
    /// Permission bits of the socket file.
    pub mode: u32,
    /// Who may do more there than read.
    pub operators: Operators,
    /// For the same over TCP.
    pub listen: Option<SocketAddr>,
    /// The first pair serves clients whose SNI matches none. Empty: plain HTTP.
    pub certificates: Vec<ServedCertificate>,
    pub client_certificates: Option<AdminClients>,
    /// Whoever shows the token in it may ask everything over TCP.
    pub token_file: Option<PathBuf>,
    /// Whoever shows the token in it may read.
    pub read_token_file: Option<PathBuf>,
    pub place: WrittenAt,
}

impl From<&Log> for Settings {
    fn from(log: &Log) -> Self {
        Self {
            json: log.format == LogFormat::Json,
            level: log.level.clone(),
            access: log.access,
            access_to: log.access_to.clone(),
            access_format: log.access_format.clone(),
        }
    }
}

impl From<Tcp> for Keepalive {
    fn from(tcp: Tcp) -> Self {
        Self {
            idle: tcp.keepalive_idle,
            interval: tcp.keepalive_interval,
            probes: tcp.keepalive_probes,
            user_timeout: tcp.user_timeout,
        }
    }
}
