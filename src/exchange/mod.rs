//! One request and its answer: the body type, what a refusal looks like,
//! header hygiene, and the record that the access log prints.
//!
//! Every service in longhaul is `Request<Body>` to `Response<Body>` with the
//! error [`Refusal`].

mod body;
mod client;
mod client_upgrade;
pub mod headers;
mod record;
mod refusal;
mod span;
mod stack;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::Response;

pub use body::{Body, BodyError, ContinueGate, RequestBody};
pub use client::{CaDigest, Certificate, Client, Http, Place, TlsFacts};
pub use client_upgrade::ClientUpgrade;
pub(crate) use record::access_line;
pub use record::{Entry, Hidden, Line, Record, Words, loggable_path};
pub use refusal::{Challenge, Denial, Elsewhere, Refusal};
pub use stack::Stack;

use crate::net::ClientLink;

/// What a service of ours returns.
pub type Reply<E = Refusal> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// What travels with a request through the layers, as a request extension.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub client: Arc<Client>,
    pub link: Arc<ClientLink>,
    pub record: Record,
    /// The client's address, through trusted proxies; `None` on Unix sockets
    /// that no trusted header speaks for. Where a trusted proxy does not name who
    /// came to it, the proxy's.
    pub client_ip: Option<IpAddr>,
    /// Whether that is where the client comes from, as far as anybody says: not
    /// where a trusted proxy cannot name it, or two headers name two.
    pub is_placed: bool,
    /// Whether the peer told of other clients, and was not believed.
    pub speaks_for_others: bool,
    /// Whether the client speaks TLS, to longhaul or to a trusted proxy.
    pub secure: bool,
    /// Whether the listener would accept the client's certificate now, as the
    /// configuration in force has it.
    pub certified: bool,
}

/// The host that a request is addressed to, lower case, without port and
/// trailing dot: what routes compare.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
}
