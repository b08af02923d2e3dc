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

use std::future::Future;
use std::pin::Pin;

use http::{Request, Response};
use tower::util::BoxCloneSyncService;

use crate::exchange::{Body, Refusal};

/// A stack of layers with its types erased once, so that every stack has one
/// nameable type.
pub type Stack<E = Refusal> = BoxCloneSyncService<Request<Body>, Response<Body>, E>;

/// What a layer's service returns.
pub type Reply<E = Refusal> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;
