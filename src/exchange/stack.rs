//! A stack of layers with its types erased once, so that every stack has one
//! nameable type.
//!
//! Shared by all requests, unlike tower's boxed services: to answer one it costs
//! no allocation beyond the one of the reply, which every service of ours boxes.

use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tower::Service;

use super::{Body, Refusal, Reply};

/// What every service of longhaul's is: a request to its response or, as a rule, a
/// [`Refusal`]. It is always ready, and cheap to clone.
pub trait HttpService<E = Refusal>:
    Service<Request<Body>, Response = Response<Body>, Error = E, Future = Reply<E>> + Clone
{
}

impl<S, E> HttpService<E> for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = E, Future = Reply<E>> + Clone
{
}

/// The outermost service of a stack, and so all of it.
pub struct Stack<E = Refusal>(Arc<dyn Fn(Request<Body>) -> Reply<E> + Send + Sync>);

impl<E> Stack<E> {
    /// Each request gets a clone of `service`.
    pub fn new(service: impl HttpService<E> + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |request| service.clone().call(request)))
    }

    /// Answers one request.
    pub fn call(&self, request: Request<Body>) -> Reply<E> {
        (self.0)(request)
    }
}

impl<E> Clone for Stack<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for Stack<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}
