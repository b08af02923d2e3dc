//! Finds the route of a request in the snapshot's table and runs its stack.

use std::future::ready;
use std::sync::Arc;

use http::Request;
use tower::service_fn;

use super::RouteEntry;
use crate::exchange::{Body, HttpService, Refusal, Reply, Target};
use crate::route::{self, Table};

/// The service between the layers of the listener and those of the route.
pub(super) fn router(table: Arc<Table<RouteEntry>>) -> impl HttpService {
    service_fn(move |request| -> Reply {
        match find(&table, &request) {
            Some(entry) => entry.stack.call(request),
            None => Box::pin(ready(Err(Refusal::NoRoute))),
        }
    })
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
