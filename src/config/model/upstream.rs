//! Upstreams, their backends, and what chooses among those.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::CertificatePair;
use crate::config::admission::Admission;
use crate::config::diagnostic::WrittenAt;
use crate::config::discovery::Discovery;
use crate::config::drain::BackendDrain;
use crate::config::ejection::Ejection;
use crate::config::health::{Health, OnUnhealthy};
use crate::config::rebalance::Rebalance;
use crate::proxy_protocol::Version;

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

/// What becomes of the live tunnels of a backend that an edit takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRemoved {
    Keep,
    Drain,
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
    pub(in crate::config) const WORDS: &[(&str, Self)] = &[
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
