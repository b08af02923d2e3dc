//! One request and its answer: the body type, what a refusal looks like,
//! header hygiene, and the record that the access log prints.
//!
//! Every service in longhaul is `Request<Body>` to `Response<Body>` with the
//! error [`Refusal`].

mod body;
pub mod headers;
mod record;
mod refusal;

use std::net::IpAddr;
use std::sync::Arc;

pub use body::{Body, BodyError, ContinueGate, RequestBody};
pub use record::{Entry, Record, loggable_path};
pub use refusal::Refusal;

use crate::net::{Client, ClientLink};

/// What travels with a request through the layers, as a request extension.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub client: Arc<Client>,
    pub link: Arc<ClientLink>,
    pub record: Record,
    /// The client's address, through trusted proxies; `None` on Unix sockets
    /// that no trusted header speaks for.
    pub client_ip: Option<IpAddr>,
    /// Whether the client speaks TLS, to longhaul or to a trusted proxy.
    pub secure: bool,
}

/// Whom a request is addressed to, made unambiguous.
#[derive(Clone, Debug)]
pub struct Target {
    /// Lower case, without port and trailing dot: what routes compare.
    pub host: String,
    /// As the client gave it: what the backend is told.
    pub authority: http::HeaderValue,
}
