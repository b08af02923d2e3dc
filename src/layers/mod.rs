//! Policy around every request, outermost first: [`record`] (one log line for
//! each request, refusals to responses), then what is settled of its head, that is
//! [`target`] (an unambiguous host and path), [`trace`] (what the request is
//! called), [`forwarded`] (who the client is), [`subject`] (what its certificate
//! says), and on some listeners [`redirect`].
//!
//! A layer is a function that makes one tower service of another; what is settled
//! is settled by plain functions, in one of them. None holds a body.

pub mod forwarded;
pub mod record;
pub mod redirect;
pub mod subject;
pub mod target;
mod told;
pub mod trace;

use std::future::ready;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::Request;
use ipnet::IpNet;
use tower::service_fn;

use crate::config::{Config, ForwardedHeader, Listener, TraceContext};
use crate::exchange::{Body, CaDigest, Client, HttpService, Refusal, Reply};
use crate::net::is_in;
use crate::spans::Spans;

/// By what it is settled.
#[derive(Debug)]
pub struct Settled {
    /// The proxies whose word counts.
    trusted: Vec<IpNet>,
    /// The only header of theirs that names clients.
    forwarded_header: Option<ForwardedHeader>,
    request_id: bool,
    trace_context: TraceContext,
    /// `Some` if spans are exported.
    tracing: Option<trace::Tracing>,
    subject: subject::Subject,
}

impl Settled {
    /// For requests that come by `listener`, whose clients' certificates are from
    /// these CAs.
    pub fn by(
        config: &Config,
        listener: Option<&Listener>,
        client_cas: Option<&Arc<[CaDigest]>>,
        spans: &Arc<Spans>,
    ) -> Self {
        let tracing = config.traces.as_ref().map(|traces| trace::Tracing {
            spans: Arc::clone(spans),
            sample: traces.sample,
        });
        Self {
            trusted: config.trusted_proxies.clone(),
            forwarded_header: config.forwarded_header,
            request_id: config.log.request_id,
            trace_context: config.log.trace_context,
            tracing,
            subject: subject::Subject::by(config, listener, client_cas),
        }
    }

    /// Its target first, because everything decides by host and path, then what it
    /// is called and who the client is.
    fn settle(&self, request: &mut Request<Body>) -> Result<(), Refusal> {
        target::settle(request)?;
        trace::settle(request, self);
        forwarded::settle(request, &self.trusted, self.forwarded_header);
        self.subject.settle(request)
    }
}

/// What is settled about every request before it is routed.
pub fn settle(by: Settled, mut inner: impl HttpService) -> impl HttpService {
    // Each request gets a clone of the service (see `exchange::Stack`).
    let by = Arc::new(by);
    service_fn(move |mut request| -> Reply {
        match by.settle(&mut request) {
            Ok(()) => inner.call(request),
            Err(refusal) => Box::pin(ready(Err(refusal))),
        }
    })
}

/// Whether a client is one of the proxies whose word counts.
fn is_trusted(client: &Client, trusted: &[IpNet]) -> bool {
    // A peer on a Unix socket is on this machine.
    let address = client.peer.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    is_in(address, trusted)
}
