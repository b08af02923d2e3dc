//! The validated configuration, as plain values.
//!
//! Everything here has been checked and has its default filled in; nothing
//! here knows TOML. Files that the config names (certificates, keys, CAs) are
//! absolute paths and have not been read: that is `state`'s work, so that this
//! room does no I/O beyond the config files themselves.
//!
//! Invariant: two configs are equal if they say the same, wherever in the
//! files they say it (see [`WrittenAt`]).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use super::acme::Acme;
use super::admission::Admission;
use super::auth::Auth;
use super::diagnostic::WrittenAt;
use super::discovery::Discovery;
use super::drain::{BackendDrain, Drain};
use super::ejection::Ejection;
use super::forwarded::ForwardedHeader;
use super::health::{Health, OnUnhealthy};
use super::http2::Http2;
use super::identity::{BasicAuth, Jwt};
use super::message_limits::MessageLimits;
use super::named_files::NamedFiles;
use super::networks::Networks;
use super::operators::Operators;
use super::origins::Origins;
use super::pattern::{HostPattern, PathPattern};
use super::proxy_protocol::ProxyProtocol;
use super::rebalance::Rebalance;
use super::route_limits::{RateLimits, RouteLimits};
use super::traces::Traces;
use crate::logging::{AccessFormat, Destination, Settings};
use crate::net::Keepalive;
use crate::proxy_protocol::Version;

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
    /// Where operators are answered, if anywhere.
    pub traces: Option<Traces>,
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
    /// Whether a request without a `traceparent` gets one.
    pub begin_traces: bool,
    /// Of `access_to`.
    pub place: WrittenAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
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
    /// Whoever shows the token in it may ask everything over TCP.
    pub token_file: Option<PathBuf>,
    /// Whoever shows the token in it may read.
    pub read_token_file: Option<PathBuf>,
    pub place: WrittenAt,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: String,
    pub address: ListenAddress,
    /// `Some`: a PROXY header is required of every connection.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The first pair serves clients whose SNI matches none. Empty: plain, or
    /// by [`acme_names`](Self::acme_names).
    pub certificates: Vec<ServedCertificate>,
    /// `Some`: its certificates come by ACME, one for each of these names, in
    /// lower case and without repetition.
    pub acme_names: Option<Vec<String>>,
    pub client_certificates: Option<ClientCertificates>,
    /// TLS 1.3 only, instead of 1.2 and 1.3.
    pub tls_1_3_only: bool,
    /// `Some(port)`: every request is answered with a redirect to `https` there.
    pub redirect_to_https: Option<u16>,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    /// Whether they may open WebSockets over it (RFC 8441).
    pub websocket_over_http2: bool,
    /// Where connections may come from.
    pub networks: Networks,
    /// Of new connections.
    pub rates: RateLimits,
    pub place: WrittenAt,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix { path: PathBuf, mode: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificatePair {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// A certificate that clients are shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServedCertificate {
    pub pair: CertificatePair,
    /// Where somebody keeps a response about it (RFC 6960) for its clients.
    pub ocsp: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    pub ca: PathBuf,
    /// Whether a client without one is refused.
    pub required: bool,
    /// In which header backends get the subject.
    pub subject_header: Option<HeaderName>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Given, or made of host and path; unique.
    pub name: String,
    pub host: HostPattern,
    pub path: PathPattern,
    /// Empty: any.
    pub methods: Vec<Method>,
    /// All must be there; `None` accepts any value.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// The client must offer one of these; empty: any or none.
    pub subprotocols: Vec<String>,
    pub upstream: String,
    /// Who is asked first; `None`: nobody.
    pub auth: Option<Auth>,
    /// What a request must carry itself, before that.
    pub basic_auth: Option<BasicAuth>,
    pub jwt: Option<Jwt>,
    /// Lower-case upgrade protocols that this route passes on.
    pub upgrades: Vec<String>,
    /// Where its clients may come from.
    pub networks: Networks,
    /// How much of it they may have.
    pub limits: RouteLimits,
    /// What the sides of its tunnels may send; `None`: anything.
    pub messages: Option<MessageLimits>,
    /// Whose pages may ask for an upgrade; `None`: anybody's.
    pub origins: Option<Origins>,
    /// To the backend's response head for plain requests.
    pub response_timeout: Duration,
    /// Between two parts of a plain response; `None` is off.
    pub response_idle_timeout: Option<Duration>,
    pub clocks: Clocks,
    pub place: WrittenAt,
}

/// The clocks of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clocks {
    /// From the request head to both sides being joined.
    pub handshake_timeout: Duration,
    /// Neither side sent a byte; `None` is off.
    pub idle_timeout: Option<Duration>,
    /// One side has ended its stream and the other has not.
    pub half_close_timeout: Duration,
    /// From open, whatever passes; `None` is off.
    pub max_lifetime: Option<Duration>,
    /// Share of `max_lifetime`, 0.0–1.0, that is taken off at random.
    pub max_lifetime_jitter: f64,
    /// `None` is off.
    pub pings: Option<Pings>,
}

/// WebSocket pings of longhaul's own, to find peers whose program hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Silence of a side before it is pinged.
    pub interval: Duration,
    /// For a sign of life after that.
    pub timeout: Duration,
    pub side: PingSide,
}

/// Who is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingSide {
    Client,
    Backend,
    Both,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: String,
    pub scheme: Scheme,
    /// What backends are told about the client before all else; `None`: nothing.
    pub proxy_protocol: Option<Version>,
    /// Whether plain requests go over HTTP/2.
    pub http2: bool,
    /// Whether WebSockets go over it too (RFC 8441), where a backend allows it.
    pub websocket_over_http2: bool,
    pub tls: UpstreamTls,
    pub balance: Balance,
    /// How many times its share of the load a backend may have before a key of
    /// its goes to another; `None`: as many as come. For `Hash` only.
    pub max_load: Option<f64>,
    /// Where the sticky key comes from: the first source that is present.
    pub sticky: Vec<StickySource>,
    /// The cookie that longhaul itself sets, for [`StickySource::OwnCookie`].
    pub cookie: StickyCookie,
    /// Empty if they are to be discovered.
    pub backends: Vec<Backend>,
    pub discovery: Option<Discovery>,
    /// To one backend, TLS handshake included.
    pub dial_timeout: Duration,
    /// Backends tried for one request.
    pub max_attempts: usize,
    pub on_removed: OnRemoved,
    /// The pace at which tunnels of a backend are closed.
    pub drain: BackendDrain,
    /// Idle keep-alive connections kept for each backend.
    pub max_idle_connections: usize,
    pub idle_connection_timeout: Duration,
    /// `None`: backends are not probed.
    pub health: Option<Health>,
    pub on_unhealthy: OnUnhealthy,
    /// Share of usable backends, 0.0–1.0, below which all are used.
    pub panic_threshold: f64,
    /// `None`: no limits.
    pub admission: Option<Admission>,
    /// `None`: reports eject nobody.
    pub ejection: Option<Ejection>,
    /// How long a backend that is new or returns takes to get its whole share.
    pub slow_start: Option<Duration>,
    /// `None`: tunnels stay where they are.
    pub rebalance: Option<Rebalance>,
    pub place: WrittenAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM file of the only CAs to trust; `None` is the system's.
    pub ca: Option<PathBuf>,
    pub client_certificate: Option<CertificatePair>,
    /// Name to ask for and to verify; `None` is the host of the backend's address.
    pub server_name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    Hash,
    LeastConnections,
    RoundRobin,
    /// The less loaded of two random ones.
    Random,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickySource {
    Cookie(String),
    Header(HeaderName),
    Query(String),
    /// Counted from 1: in `/doc/42`, segment 2 is `42`.
    PathSegment(usize),
    /// IPv6 by /64.
    ClientIp,
    /// The cookie that longhaul sets.
    OwnCookie,
}

/// As it is written in the config.
impl fmt::Display for StickySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::PathSegment(number) => write!(f, "path:{number}"),
            Self::ClientIp => f.write_str("client_ip"),
            Self::OwnCookie => f.write_str("cookie"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    pub name: String,
    pub same_site: SameSite,
    /// `None` is a session cookie.
    pub max_age: Option<Duration>,
    /// Whether `Secure` is set on plain listeners too (behind a TLS terminator).
    pub secure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What is hashed; unique within the upstream.
    pub name: String,
    pub address: BackendAddress,
    /// Share of keys relative to the others; at least 1.
    pub weight: u32,
    pub state: BackendState,
}

/// Whether a backend is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendState {
    #[default]
    Active,
    /// Nothing new goes there, and the tunnels that are there are closed.
    Draining,
    /// Nothing new goes there, and it is not probed; its tunnels stay.
    Disabled,
}

impl BackendState {
    pub(super) const WORDS: &[(&str, Self)] = &[
        ("active", Self::Active),
        ("draining", Self::Draining),
        ("disabled", Self::Disabled),
    ];

    /// The state that a word means.
    pub fn of_word(word: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, state)| *state)
    }

    /// The word of config, log and admin API.
    pub fn label(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, state)| *state == self);
        found.map_or("", |(word, _)| word)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackendAddress {
    /// A name is resolved at each dial.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl fmt::Display for BackendAddress {
    /// As the config writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for ListenAddress {
    /// As the config writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
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

/// What becomes of the live tunnels of a backend that an edit takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRemoved {
    Keep,
    Drain,
}
