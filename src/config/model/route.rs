//! Routes, and the clocks of their tunnels.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::config::auth::Auth;
use crate::config::diagnostic::WrittenAt;
use crate::config::identity::{BasicAuth, Jwt};
use crate::config::message_limits::MessageLimits;
use crate::config::networks::Networks;
use crate::config::origins::Origins;
use crate::config::pattern::{HostPattern, PathPattern};
use crate::config::route_limits::RouteLimits;

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
