//! Text to a validated [`Config`], with diagnostics; no I/O beyond its own files.
//!
//! [`load()`] reads the main file and what it includes, `parse` is the pure
//! core. Both report everything that is wrong at once, and give a config only
//! if nothing is.

mod acme;
mod acme_names;
mod admission;
mod auth;
mod backends;
mod close_codes;
mod cross;
mod diagnostic;
mod discovery;
mod draft;
mod drain;
mod ejection;
mod findings;
mod forwarded;
mod health;
mod http2;
mod identity;
mod include;
mod key_source;
mod keys;
mod limits;
mod listeners;
mod load;
mod message_limits;
mod model;
mod named_files;
mod nearest;
mod networks;
mod operators;
mod origins;
mod parse;
pub mod pattern;
mod process;
mod proxy_protocol;
mod rate;
mod rebalance;
mod route_limits;
mod routes;
mod section;
mod source;
mod sticky;
mod syntax;
mod traces;
mod upstreams;
mod value;

pub use acme::{Acme, Challenge, ExternalAccount};
pub use admission::Admission;
pub use auth::Auth;
pub use close_codes::{CloseCodes, Ending};
pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub use discovery::{Discovery, DnsQuery, DnsRecord, Source};
pub use drain::{BackendDrain, Drain, Pace};
pub use ejection::{Ejection, Report};
pub use forwarded::ForwardedHeader;
pub use health::{Health, Initial, OnUnhealthy, Probe, ProbeRequest};
pub use http2::Http2;
pub use identity::{ALGORITHMS, BasicAuth, Jwt, TokenSource, token_queries};
pub use key_source::{KeySource, KeysUrl, Url};
pub use load::{Loaded, load};
pub use message_limits::{ByteRate, LimitedSide, MessageLimits};
pub use model::*;
pub use networks::Networks;
pub use operators::Operators;
pub use origins::{AllowedOrigin, Origins};
pub(crate) use parse::parse_text;
pub use proxy_protocol::ProxyProtocol;
pub use rate::{NoRate, Rate};
pub use rebalance::Rebalance;
pub use route_limits::{RateLimits, RouteLimits, TunnelLimits};
pub use traces::Traces;
pub use value::duration_of;

#[cfg(test)]
mod tests;
