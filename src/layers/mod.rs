//! Policy around every request, as tower layers, outermost first:
//! [`record`] (one log line for each request, refusals to responses),
//! [`target`] (an unambiguous host and path), [`trace`] (what the request is
//! called), [`forwarded`] (who the client is), [`subject`] (what its certificate
//! says), and on some listeners [`redirect`].
//!
//! A layer looks at heads only and holds no body.

pub mod forwarded;
pub mod record;
pub mod redirect;
pub mod subject;
pub mod target;
mod told;
pub mod trace;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{Request, Response};
use ipnet::IpNet;
use tower::{Layer, Service};

use crate::config::{Config, ForwardedHeader, Listener};
use crate::exchange::{Body, CaDigest, Client, Refusal, Reply};
use crate::spans::Spans;

/// By what it is settled.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The proxies whose word counts.
    pub trusted: Arc<[IpNet]>,
    /// The only header of theirs that names clients.
    pub forwarded_header: Option<ForwardedHeader>,
    pub request_id: bool,
    pub begin_traces: bool,
    /// `Some` if spans are exported.
    pub tracing: Option<trace::Tracing>,
    pub subject: subject::SubjectLayer,
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
            trusted: config.trusted_proxies.clone().into(),
            forwarded_header: config.forwarded_header,
            request_id: config.log.request_id,
            begin_traces: config.log.begin_traces,
            tracing,
            subject: subject::SubjectLayer::by(config, listener, client_cas),
        }
    }
}

/// What is settled about every request before it is routed, in this order:
/// its target, because everything decides by host and path, then what it is
/// called and who the client is.
pub fn settle<S>(
    by: Settled,
    inner: S,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Refusal, Future = Reply> + Clone
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Refusal, Future = Reply> + Clone,
{
    let forwarded = forwarded::ForwardedLayer {
        trusted: Arc::clone(&by.trusted),
        header: by.forwarded_header,
    };
    let inner = forwarded.layer(by.subject.layer(inner));
    target::TargetLayer.layer(trace::TraceLayer { by }.layer(inner))
}

/// Whether a client is one of the proxies whose word counts.
fn is_trusted(client: &Client, trusted: &[IpNet]) -> bool {
    // A peer on a Unix socket is on this machine.
    let address = client.peer.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    trusted.iter().any(|net| net.contains(&address))
}
