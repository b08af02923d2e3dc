//! Policy around every request, as tower layers, outermost first:
//! [`record`] (one log line for each request, refusals to responses),
//! [`target`] (an unambiguous host and path), [`forwarded`] (who the client
//! is), and on some listeners [`redirect`].
//!
//! A layer looks at heads only and holds no body.

pub mod forwarded;
pub mod record;
pub mod redirect;
pub mod target;

use std::sync::Arc;

use http::{Request, Response};
use ipnet::IpNet;
use tower::{Layer, Service};

use crate::exchange::{Body, Refusal, Reply};

/// What is settled about every request before it is routed, in this order:
/// its target, because everything decides by host and path, and then who the
/// client is.
pub fn settle<S>(
    trusted: Arc<[IpNet]>,
    inner: S,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Refusal, Future = Reply> + Clone
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Refusal, Future = Reply> + Clone,
{
    target::TargetLayer.layer(forwarded::ForwardedLayer { trusted }.layer(inner))
}
