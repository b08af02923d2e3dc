//! Reaching a backend: pick, wait to be admitted, dial, and on to the next one
//! if it admits nobody or cannot be reached. Nothing has been sent to a backend
//! that is passed over.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::proxied::proxied;
use super::sticky::{Affinity, set_cookie};
use super::{Route, report};
use crate::config::Report;
use crate::exchange::{Exchange, Record, Refusal};
use crate::guard::retry_after;
use crate::metrics::{Metrics, OfBackend};
use crate::proxy_protocol::Header;
use crate::upstream::{Backends, ConnectError, Connection, Full, Lease, Pass, Upstream};

/// A connection to a backend and the right to use it.
pub(super) struct Attempt {
    pub(super) connection: Connection,
    pub(super) lease: Lease,
    /// `Set-Cookie` for the answer, if the client is to stick by cookie.
    pub(super) cookie: Option<HeaderValue>,
    /// To be dropped when a handshake has its answer.
    pub(super) pass: Pass,
}

/// What the connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A plain request; an idle keep-alive connection will do.
    Request,
    /// A plain request, on a new connection.
    RequestAnew,
    /// What may become a tunnel: a new connection, when the backend admits it.
    Handshake,
    /// The same for WebSocket, which may go over HTTP/2.
    WebSocket,
}

/// Where a connection is to lead.
pub(super) struct Towards<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) metrics: &'a Metrics,
    /// For which client.
    pub(super) exchange: &'a Exchange,
    /// Whose line tells of the backend that is picked, if any does.
    pub(super) record: Option<&'a Record>,
}

impl<'a> Towards<'a> {
    /// To the backends of a route.
    pub(super) fn of(route: &'a Route, exchange: &'a Exchange) -> Self {
        Self {
            upstream: &route.upstream,
            metrics: &route.metrics,
            exchange,
            record: Some(&exchange.record),
        }
    }
}

/// Connects to the first backend that admits it and can be reached.
pub(super) async fn connect(
    towards: &Towards<'_>,
    affinity: &Affinity,
    purpose: Purpose,
) -> Result<Attempt, Refusal> {
    towards.upstream.known().await;
    let mut search = Search::new(towards, affinity);
    let mut failure = None;
    for _ in 0..towards.upstream.settings().max_attempts {
        let Some((index, lease, pass)) = search.next(purpose).await else {
            break;
        };
        if let Some(record) = towards.record {
            record.update(|entry| {
                entry.backend = Some(Arc::clone(lease.backend().name()));
                entry.sticky = Some(Arc::clone(&affinity.source));
                entry.key = affinity.key;
            });
        }
        let began = Instant::now();
        let opened = open(towards, &lease, purpose).await;
        if let Some(record) = towards.record {
            record.update(|entry| {
                if let Some(span) = &mut entry.span {
                    span.dial = Some(began.elapsed());
                }
            });
        }
        match opened {
            Ok(connection) => {
                return Ok(Attempt {
                    cookie: search.cookie(index),
                    connection,
                    lease,
                    pass,
                });
            }
            Err(error) => {
                tracing::warn!(
                    upstream = &**towards.upstream.name(),
                    backend = &**lease.backend().name(),
                    %error,
                    "backend not reached"
                );
                report::against(towards.metrics, lease.backend(), Report::Connect);
                failure = Some(error);
            }
        }
    }
    Err(search.refusal(failure))
}

/// The backends that a request may go to, one after the other.
struct Search<'a> {
    affinity: &'a Affinity,
    towards: &'a Towards<'a>,
    backends: Arc<Backends>,
    /// The backend of longhaul's own cookie.
    own: Option<usize>,
    tried: Vec<usize>,
    /// Whether one of them takes no more handshakes.
    any_full: bool,
    queued_until: Instant,
}

impl<'a> Search<'a> {
    fn new(towards: &'a Towards<'a>, affinity: &'a Affinity) -> Self {
        let upstream = towards.upstream;
        let backends = upstream.backends();
        let own = affinity.backend.as_ref();
        let own = own.and_then(|backend| backends.position(backend));
        let admission = upstream.settings().admission;
        let patience = admission.map_or(Duration::ZERO, |it| it.queue_timeout);
        Self {
            affinity,
            towards,
            backends,
            own,
            tried: Vec::new(),
            any_full: false,
            queued_until: Instant::now() + patience,
        }
    }

    /// The next to try. Those that are full are passed over and are no attempt.
    async fn next(&mut self, purpose: Purpose) -> Option<(usize, Lease, Pass)> {
        loop {
            let index = self.candidate()?;
            self.tried.push(index);
            if !matches!(purpose, Purpose::Handshake | Purpose::WebSocket) {
                return Some((index, self.backends.lease(index), Pass::default()));
            }
            match self.backends.admit(index, self.queued_until).await {
                Ok((lease, pass)) => return Some((index, lease, pass)),
                Err(Full) => self.pass_over(index),
            }
        }
    }

    fn pass_over(&mut self, index: usize) {
        self.any_full = true;
        let backend = self.backends.get(index);
        let labels = OfBackend {
            upstream: Arc::clone(backend.upstream()),
            backend: Arc::clone(backend.name()),
        };
        self.towards.metrics.backend_full.get(&labels).inc();
    }

    fn candidate(&self) -> Option<usize> {
        let first = self
            .own
            .filter(|index| self.tried.is_empty() && self.backends.may_use(*index));
        first.or_else(|| self.backends.pick(self.affinity.key, &self.tried))
    }

    fn cookie(&self, index: usize) -> Option<HeaderValue> {
        // Of a client that speaks TLS it may only go there.
        let secure = self.towards.exchange.secure;
        let sets = self.affinity.sets_cookie && self.own != Some(index);
        let value = sets.then(|| self.backends.get(index).cookie_value())?;
        set_cookie(&self.towards.upstream.settings().cookie, value, secure)
    }

    /// What the client is told when there is no more to try.
    fn refusal(self, failure: Option<ConnectError>) -> Refusal {
        let admission = self
            .towards
            .upstream
            .settings()
            .admission
            .filter(|_| self.any_full);
        match (admission, failure) {
            (Some(admission), _) => Refusal::BackendsFull(retry_after(admission.retry_after)),
            (None, Some(error)) => Refusal::Dial(error.to_string()),
            (None, None) => Refusal::NoBackend,
        }
    }
}

async fn open(
    towards: &Towards<'_>,
    lease: &Lease,
    purpose: Purpose,
) -> Result<Connection, ConnectError> {
    let upstream = towards.upstream;
    let (settings, dialer) = (upstream.settings(), upstream.dialer());
    let header = match dialer.proxy_protocol {
        None => Header::Local,
        Some(_) => Header::Proxied(proxied(towards.exchange)),
    };
    match purpose {
        Purpose::Request | Purpose::RequestAnew if settings.http2 => {
            return Connection::shared(dialer, lease.backend()).await;
        }
        Purpose::WebSocket if settings.websocket_over_http2 => {
            return Connection::for_websocket(dialer, lease.backend(), &header).await;
        }
        _ => {}
    }
    if purpose == Purpose::Request
        && let Some(connection) =
            Connection::pooled(dialer, lease.backend(), settings.idle_connection_timeout)
    {
        return Ok(connection);
    }
    Connection::open(dialer, lease.backend(), &header).await
}
