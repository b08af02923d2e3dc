//! Finds the route of a request in the snapshot's table and runs its stack.

use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use super::RouteEntry;
use crate::exchange::{Body, Refusal, Reply, Target};
use crate::route::{self, Table};

/// The service between the layers of the listener and those of the route.
#[derive(Clone, Debug)]
pub(super) struct Router(pub(super) Arc<Table<RouteEntry>>);

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match find(&self.0, &request) {
            Some(entry) => entry.stack.call(request),
            None => Box::pin(ready(Err(Refusal::NoRoute))),
        }
    }
}

fn find<'t>(table: &'t Table<RouteEntry>, request: &Request<Body>) -> Option<&'t RouteEntry> {
    let host = request
        .extensions()
        .get::<Target>()
        .map_or("", |target| target.host.as_str());
    table.lookup(&route::Request {
        host,
        path: request.uri().path(),
        method: request.method(),
        headers: request.headers(),
    })
}
