//! From two upgraded connections to a tunnel: both sockets leave hyper, what
//! hyper read ahead goes first, and two access lines say how it began and how
//! it ended.
//!
//! The lease and the client's place go with the tunnel to its end, in as few
//! bytes as the last line takes: there may be a million of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::{Route, report};
use crate::exchange::{ClientUpgrade, Entry, Exchange, Http, Line, Place, Refusal, access_line};
use crate::guard::TunnelPermit;
use crate::metrics::{End, Metrics, OfTunnels, Passing, close_code};
use crate::net::{BackendIo, Transport, http2};
use crate::spans::Begun;
use crate::tunnel::{
    Cause, Expiry, Facts, Framing, Leg, OnEnd, Opening, Options, Outcome, Tunnel, run,
};
use crate::upstream::Lease;
use crate::ws::handshake::WEBSOCKET;

/// What joining two upgraded connections may take at least.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Everything that outlives the 101.
pub(super) struct Handoff {
    pub(super) route: Arc<Route>,
    pub(super) exchange: Exchange,
    pub(super) lease: Lease,
    pub(super) permit: Option<TunnelPermit>,
    pub(super) protocol: String,
    pub(super) deadline: Instant,
    /// When what was granted ends.
    pub(super) expiry: Option<Expiry>,
}

impl Handoff {
    /// Waits for both sides and has them relayed; the end is logged.
    pub(super) async fn run(self, client: ClientUpgrade, backend: BackendUpgrade) {
        let Self {
            route,
            exchange,
            lease,
            permit,
            protocol,
            deadline,
            expiry,
        } = self;
        let mut entry = exchange.record.entry();
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
        let options = Options {
            messages: route.settings.messages,
            ..Options::new(framing, route.settings.clocks, &route.drain, expiry)
        };
        let ticket = route.registry.open(facts(&route, &entry, &lease), &options);
        opened(&route, &mut entry, &lease);
        let last = Last {
            tunnel: Arc::clone(ticket.tunnel()),
            route,
            lease,
            place: Arc::clone(&entry.client.place),
        };
        let span = entry.span.map(|span| Box::new(span.part()));
        let on_end: OnEnd = match (permit, span) {
            (None, None) => Box::new(move |outcome| last.closed(&outcome)),
            // Where tunnels are counted; elsewhere it takes no room.
            (Some(permit), None) => Box::new(move |outcome| {
                drop(permit);
                last.closed(&outcome);
            }),
            // Where they are told of to a collector of traces.
            (permit, Some(span)) => Box::new(move |outcome| {
                drop(permit);
                end_span(&span, last.tunnel.facts(), &outcome);
                last.closed(&outcome);
            }),
        };
        run(client, backend, ticket, on_end);
    }
}

/// What is kept while the tunnel lives, which may be days.
struct Last {
    tunnel: Arc<Tunnel>,
    route: Arc<Route>,
    lease: Lease,
    place: Arc<Place>,
}

/// The backend's side, once it has agreed.
pub(super) enum BackendUpgrade {
    Connection(OnUpgrade),
    Stream(http2::Tunnel),
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

fn facts(route: &Route, entry: &Entry, lease: &Lease) -> Facts {
    let (listener, backend) = (&entry.client.listener, lease.backend());
    Facts {
        id: entry.id,
        labels: route.labels.get(
            listener,
            entry.client.http.label(),
            &route.name,
            &route.upstream,
            backend,
        ),
        key: entry.key.unwrap_or(0),
        opening: Opening::new(entry.client.peer, &entry.words()),
    }
}

fn opened(route: &Route, entry: &mut Entry, lease: &Lease) {
    let duration = entry.started.elapsed();
    let labels = OfTunnels {
        route: Arc::clone(&route.name),
        upstream: Arc::clone(route.upstream.name()),
        backend: Arc::clone(lease.backend().name()),
    };
    route.metrics.tunnels_opened.get(&labels).inc();
    route.metrics.shaken(Some(&route.name), "opened", duration);
    let status = match entry.client.http {
        Http::One => StatusCode::SWITCHING_PROTOCOLS,
        Http::Two => StatusCode::OK,
    };
    entry.status = Some(status);
    entry.end_span();
    access_line!(
        entry.line(),
        "tunnel opened",
        status = status.as_u16(),
        duration_ms = duration.as_millis() as u64,
        request_id = entry.request_id.as_deref(),
        trace_id = entry.trace_id.as_deref(),
    );
}

impl Last {
    fn closed(self, outcome: &Outcome) {
        let backend = Arc::clone(self.lease.backend());
        // A stopping process waits for the line, too.
        let _watch = self.place.watch.clone();
        // Given back before anyone can read that it is over.
        drop((self.lease, self.place));
        report::ended(&self.route.metrics, &backend, outcome);
        settle(&self.route.metrics, self.tunnel.facts(), outcome);
        let ended = self.route.registry.ended();
        ended.push(self.tunnel.facts().clone(), *outcome);
        log_closed(&self.tunnel, outcome);
    }
}

/// Counts an ended tunnel, which has left the registry.
fn settle(metrics: &Metrics, facts: &Facts, outcome: &Outcome) {
    let labels = &facts.labels;
    let end = End {
        ended_by: outcome.ended_by.label(),
        cause: outcome.cause.label(),
        close_code: match outcome.cause {
            Cause::Close(code) => close_code(code),
            _ => "",
        },
        route: Arc::clone(&labels.route),
        upstream: Arc::clone(&labels.upstream),
        backend: Arc::clone(&labels.backend),
    };
    metrics.tunnels_closed.get(&end).inc();
    for (direction, bytes, messages) in [
        ("in", outcome.bytes_in, outcome.messages_in),
        ("out", outcome.bytes_out, outcome.messages_out),
    ] {
        let passing = Passing {
            route: Arc::clone(&labels.route),
            upstream: Arc::clone(&labels.upstream),
            backend: Arc::clone(&labels.backend),
            direction,
        };
        metrics.tunnel_bytes.settle(&passing, bytes);
        metrics.tunnel_messages.settle(&passing, messages);
    }
}

/// Writes the access line of a tunnel's end, unless it has been written.
pub fn log_closed(tunnel: &Tunnel, outcome: &Outcome) {
    if !tunnel.claim_last_word() {
        return;
    }
    let Facts {
        id,
        labels,
        opening,
        ..
    } = tunnel.facts();
    let line = Line {
        id: *id,
        listener: &labels.listener,
        client: &opening.client(),
        http: labels.http,
        words: opening.words(),
        route: Some(&labels.route),
        upstream: Some(&labels.upstream),
        backend: Some(&labels.backend),
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

/// Ends the span of a tunnel, and has it sent.
fn end_span(begun: &Begun, facts: &Facts, outcome: &Outcome) {
    let labels = &facts.labels;
    let name = format!("tunnel {}", labels.route);
    begun.end(name, outcome.duration, |span| {
        span.number("longhaul.id", facts.id);
        span.text("longhaul.listener", &labels.listener);
        span.text("longhaul.route", &labels.route);
        span.text("longhaul.upstream", &labels.upstream);
        span.text("longhaul.backend", &labels.backend);
        span.text("longhaul.ended_by", outcome.ended_by.label());
        span.text("longhaul.cause", outcome.cause);
        span.text_of("longhaul.client_close_code", outcome.client_close_code);
        span.text_of("longhaul.backend_close_code", outcome.backend_close_code);
        span.number("longhaul.bytes_in", outcome.bytes_in);
        span.number("longhaul.bytes_out", outcome.bytes_out);
        span.number("longhaul.messages_in", outcome.messages_in);
        span.number("longhaul.messages_out", outcome.messages_out);
    });
}

/// The client or the backend went away between the 101 and the hand-off.
fn never_opened(route: &Route, mut entry: Entry) {
    let (label, took) = (Refusal::NeverOpened.label(), entry.started.elapsed());
    route.metrics.refused(label);
    route.metrics.shaken(Some(&route.name), label, took);
    entry.refuse(&Refusal::NeverOpened);
    entry.end_span();
    entry.log_request();
}
