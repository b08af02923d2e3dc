//! Reaching a backend: pick, dial, and on to the next one if it cannot be
//! reached. Nothing has been sent to a backend that is passed over.

use std::sync::Arc;

use http::HeaderValue;

use super::Route;
use super::sticky::{Affinity, set_cookie};
use crate::exchange::{Exchange, Refusal};
use crate::upstream::{ConnectError, Connection, Lease};

/// A connection to a backend and the right to use it.
pub(super) struct Attempt {
    pub(super) connection: Connection,
    pub(super) lease: Lease,
    /// `Set-Cookie` for the answer, if the client is to stick by cookie.
    pub(super) cookie: Option<HeaderValue>,
}

/// Whether a connection that others have used will do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Pooled,
    New,
    /// HTTP/1.1, for an upgrade.
    Own,
    /// For an upgrade to WebSocket, which may go over HTTP/2.
    WebSocket,
}

/// Connects to the first backend that can be reached.
pub(super) async fn connect(
    route: &Route,
    exchange: &Exchange,
    affinity: &Affinity,
    freshness: Freshness,
) -> Result<Attempt, Refusal> {
    let upstream = &route.upstream;
    let settings = upstream.settings();
    let mut tried = Vec::new();
    let mut failure = None;
    while tried.len() < settings.max_attempts {
        let first = affinity.backend;
        let first = first.filter(|index| tried.is_empty() && upstream.may_use(*index));
        let Some(index) = first.or_else(|| upstream.pick(affinity.key, &tried)) else {
            break;
        };
        let lease = upstream.lease(index);
        exchange.record.update(|entry| {
            entry.backend = Some(Arc::clone(lease.backend().name()));
            entry.sticky = Some(Arc::clone(&affinity.source));
            entry.key = affinity.key;
        });
        match open(route, &lease, freshness).await {
            Ok(connection) => {
                let cookie = (affinity.sets_cookie && affinity.backend != Some(index))
                    .then(|| upstream.cookie_value(index))
                    .and_then(|value| set_cookie(&settings.cookie, value, exchange.secure));
                return Ok(Attempt {
                    connection,
                    lease,
                    cookie,
                });
            }
            Err(error) => {
                tracing::warn!(
                    upstream = &**upstream.name(),
                    backend = &**lease.backend().name(),
                    %error,
                    "backend not reached"
                );
                failure = Some(error);
                tried.push(index);
            }
        }
    }
    Err(failure.map_or(Refusal::NoBackend, |error| Refusal::Dial(error.to_string())))
}

async fn open(
    route: &Route,
    lease: &Lease,
    freshness: Freshness,
) -> Result<Connection, ConnectError> {
    let (settings, dialer) = (route.upstream.settings(), route.upstream.dialer());
    match freshness {
        Freshness::Pooled | Freshness::New if settings.http2 => {
            return Connection::shared(dialer, lease.backend()).await;
        }
        Freshness::WebSocket if settings.websocket_over_http2 => {
            return Connection::for_websocket(dialer, lease.backend()).await;
        }
        _ => {}
    }
    if freshness == Freshness::Pooled
        && let Some(connection) =
            Connection::pooled(dialer, lease.backend(), settings.idle_connection_timeout)
    {
        return Ok(connection);
    }
    Connection::open(dialer, lease.backend()).await
}
