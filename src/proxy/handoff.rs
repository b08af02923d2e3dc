//! From two upgraded connections to a tunnel: both sockets leave hyper, what
//! hyper read ahead goes first, and two access lines say how it began and how
//! it ended.
//!
//! The lease and the client's permit go with the tunnel to its end, in as few
//! bytes as the last line takes: there may be a million of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::Route;
use crate::exchange::{Client, ClientUpgrade, Entry, Exchange, Http, Refusal, access_line};
use crate::metrics::End;
use crate::net::http2::Tunnel;
use crate::net::{BackendIo, Peer, Transport};
use crate::tunnel::{Facts, Framing, Labels, Leg, Options, Outcome, run};
use crate::upstream::Lease;
use crate::ws::handshake::WEBSOCKET;

/// What joining two upgraded connections may take at least.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Everything that outlives the 101.
pub(super) struct Handoff {
    pub(super) route: Arc<Route>,
    pub(super) exchange: Exchange,
    pub(super) lease: Lease,
    pub(super) protocol: String,
    pub(super) deadline: Instant,
}

impl Handoff {
    /// Waits for both sides and has them relayed; the end is logged.
    pub(super) async fn run(self, client: ClientUpgrade, backend: BackendUpgrade) {
        let Self {
            route,
            exchange,
            lease,
            protocol,
            deadline,
        } = self;
        let entry = exchange.record.entry();
        // A client that vanishes between the 101 and here would otherwise keep
        // the backend's socket for ever.
        // hyper's own last steps are not the backend's fault.
        let deadline = deadline.max(Instant::now() + LAST_STEPS);
        let both = async { tokio::try_join!(client_leg(client), backend_leg(backend)) };
        let Ok(Ok((client, backend))) = timeout_at(deadline, both).await else {
            return never_opened(&route, entry);
        };
        let lease = lease.into_tunnel();
        let framing = if protocol == WEBSOCKET {
            Framing::WebSocket
        } else {
            Framing::Opaque
        };
        let options = Options::new(framing, route.settings.clocks, &route.drain);
        let ticket = route
            .registry
            .open(facts(&route, &exchange, &entry, &lease), &options);
        opened(&route, &entry);
        let last = Last::new(route, lease, entry);
        run(
            client,
            backend,
            ticket,
            Box::new(move |outcome| last.closed(&outcome)),
        );
    }
}

/// What is kept while the tunnel lives, which may be days.
struct Last {
    route: Arc<Route>,
    lease: Lease,
    /// With its permit.
    client: Arc<Client>,
    id: u64,
    forwarded_for: Option<Box<str>>,
    host: Box<str>,
    method: Method,
    path: Box<str>,
    sticky: Option<Box<str>>,
}

/// What the last line has in common with the others.
struct Line<'a> {
    id: u64,
    client: &'a Client,
    forwarded_for: Option<&'a str>,
    host: &'a str,
    method: &'a Method,
    path: &'a str,
    route: Option<&'a str>,
    upstream: Option<&'a str>,
    backend: Option<&'a str>,
    sticky: Option<&'a str>,
}

impl Last {
    fn new(route: Arc<Route>, lease: Lease, entry: Entry) -> Self {
        Self {
            route,
            lease,
            client: entry.client,
            id: entry.id,
            forwarded_for: entry.forwarded_for.map(String::into_boxed_str),
            host: entry.host.into_boxed_str(),
            method: entry.method,
            path: entry.path.into_boxed_str(),
            sticky: entry.sticky.map(String::into_boxed_str),
        }
    }
}

/// The backend's side, once it has agreed.
pub(super) enum BackendUpgrade {
    Connection(OnUpgrade),
    Stream(Tunnel),
}

/// A side left before it could be joined.
struct Left;

async fn client_leg(upgrade: ClientUpgrade) -> Result<Leg<Transport>, Left> {
    let (stream, read_ahead) = upgrade.opened().await.ok_or(Left)?;
    Ok(Leg { stream, read_ahead })
}

async fn backend_leg(upgrade: BackendUpgrade) -> Result<Leg<Transport>, Left> {
    let upgrade = match upgrade {
        BackendUpgrade::Connection(upgrade) => upgrade,
        BackendUpgrade::Stream(tunnel) => {
            return Ok(Leg {
                stream: Transport::Http2(tunnel),
                read_ahead: Bytes::new(),
            });
        }
    };
    let upgraded = upgrade.await.map_err(|_| Left)?;
    let parts = upgraded
        .downcast::<TokioIo<BackendIo>>()
        .map_err(|_| Left)?;
    Ok(Leg {
        stream: parts.io.into_inner().into_transport(),
        read_ahead: parts.read_buf,
    })
}

fn facts(route: &Route, exchange: &Exchange, entry: &Entry, lease: &Lease) -> Facts {
    let labels = Labels {
        listener: Arc::clone(&exchange.client.listener),
        route: Arc::clone(&route.name),
        upstream: Arc::clone(route.upstream.name()),
        backend: Arc::clone(lease.backend().name()),
    };
    Facts {
        id: entry.id,
        labels: Arc::new(labels),
        client: match exchange.client.peer {
            Peer::Tcp(address) => Some(address),
            Peer::Unix => None,
        },
        sticky: entry.sticky.as_deref().map(Arc::from),
    }
}

fn opened(route: &Route, entry: &Entry) {
    route.metrics.tunnels.inc();
    route.metrics.tunnels_active.inc();
    access_line!(
        entry,
        "tunnel opened",
        status = match entry.client.http {
            Http::One => 101,
            Http::Two => 200,
        },
        duration_ms = entry.started.elapsed().as_millis() as u64,
    );
}

impl Last {
    fn closed(self, outcome: &Outcome) {
        let route = &self.route;
        let backend = Arc::clone(self.lease.backend());
        // Given back before anyone can read that it is over.
        drop(self.lease);
        let end = End {
            ended_by: outcome.ended_by.label(),
            cause: outcome.cause.label(),
        };
        route.metrics.tunnels_active.dec();
        route.metrics.tunnels_closed.get_or_create(&end).inc();
        let line = Line {
            id: self.id,
            client: &self.client,
            forwarded_for: self.forwarded_for.as_deref(),
            host: &self.host,
            method: &self.method,
            path: &self.path,
            route: Some(&route.name),
            upstream: Some(route.upstream.name()),
            backend: Some(backend.name()),
            sticky: self.sticky.as_deref(),
        };
        access_line!(
            line,
            "tunnel closed",
            ended_by = outcome.ended_by.label(),
            cause = %outcome.cause,
            client_close_code = outcome.client_close_code,
            backend_close_code = outcome.backend_close_code,
            duration_ms = outcome.duration.as_millis() as u64,
            bytes_in = outcome.bytes_in,
            bytes_out = outcome.bytes_out,
            messages_in = outcome.messages_in,
            messages_out = outcome.messages_out,
        );
    }
}

/// The client or the backend went away between the 101 and the hand-off.
fn never_opened(route: &Route, mut entry: Entry) {
    route.metrics.refused(Refusal::NeverOpened.label());
    entry.refuse(&Refusal::NeverOpened);
    entry.log_request();
}
