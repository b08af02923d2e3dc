//! One accepted connection, up to where HTTP begins: TLS, and which HTTP it is.
//!
//! It reads no request; `http1` and `http2` do.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;
use tokio_rustls::TlsStream;

use super::Context;
use super::entrance::Entrance;
use super::http1::Http1;
use super::http2::Http2;
use super::introduction::{Introduction, hear};
use crate::config::Limits;
use crate::drain::{Stage, Watch};
use crate::exchange::{Certificate, Client, Http, Place, Refusal, TlsFacts};
use crate::metrics::{Metrics, Refused, TlsVersion};
use crate::net::{
    self, Ambiguous, ClientFault, Opening, Peer, Permit, ReadDeadlines, Socket, Transport,
    read_opening, tune,
};
use crate::state::{ListenerState, Snapshot};
use crate::tls;

/// A connection that has been let in.
pub(super) struct Accepted {
    pub(super) listener: Arc<str>,
    pub(super) socket: Socket,
    /// Whether the socket has its options from the listening one.
    pub(super) tuned: bool,
    pub(super) peer: Peer,
    pub(super) permit: Permit,
    pub(super) context: Arc<Context>,
    pub(super) watch: Watch,
    /// Ends when the listener is removed.
    pub(super) listener_watch: Watch,
}

pub(super) async fn serve(accepted: Accepted) {
    let Accepted {
        listener,
        mut socket,
        tuned,
        peer,
        mut permit,
        context,
        watch,
        listener_watch,
    } = accepted;
    let metrics = Arc::clone(&context.state.metrics);
    metrics.connections.inc();
    let snapshot = context.state.snapshot();
    // An edit may just have taken the listener away, or renamed it; one edit
    // more, and it was long ago.
    let Some(state) = snapshot.came_by(&listener).cloned() else {
        return;
    };
    if !tuned && tune(&socket, &snapshot.config.tcp.into()).is_err() {
        // It was reset before it was accepted.
        return;
    }
    let mut stopping = watch.clone();
    let known = tokio::select! {
        biased;
        known = introduce(&mut socket, peer, &state) => known,
        () = stopping.reached(Stage::Draining) => return,
    };
    let Some(known) = admit(known, &mut permit, (&listener, peer), &state, &metrics) else {
        return;
    };
    let peer = known.peer;
    let dressed = tokio::select! {
        biased;
        dressed = dress(socket, &state, &snapshot) => dressed,
        () = stopping.reached(Stage::Draining) => return,
    };
    let dressed = match dressed {
        Ok(dressed) => dressed,
        Err(error) => return log_tls_failure(&listener, peer, &metrics, &error),
    };
    count_tls(&metrics, dressed.tls.as_ref());
    let opening = dressed.opening;
    let watches = (watch.clone(), listener_watch);
    let client = Arc::new(Client {
        listener,
        peer,
        local: known.local,
        proxied: known.proxied,
        tls: dressed.tls,
        http: dressed.http,
        place: Arc::new(Place {
            _permit: permit,
            watch,
        }),
    });
    let entrance = Entrance {
        context,
        client,
        last: state,
    };
    match opening {
        Ok(opening) => {
            speak(opening, dressed.transport, entrance, snapshot, watches).await;
        }
        Err(fault) => {
            if let Some(refusal) = of_fault(fault) {
                log_refusal(&entrance.client, &metrics, &refusal);
            }
        }
    }
}

/// Who the client is; `None` if the connection ended before that was said.
async fn introduce(
    socket: &mut Socket,
    peer: Peer,
    state: &ListenerState,
) -> Result<Option<Introduction>, Refusal> {
    match &state.proxy_protocol {
        None => Ok(Some(Introduction::of(socket, peer))),
        Some(rule) => hear(socket, peer, rule).await,
    }
}

/// Counts the connection under its client's address; `None` if it ends here.
fn admit(
    known: Result<Option<Introduction>, Refusal>,
    permit: &mut Permit,
    (listener, peer): (&str, Peer),
    state: &ListenerState,
    metrics: &Metrics,
) -> Option<Introduction> {
    let known = known
        .map_err(|refusal| log_refused(listener, peer, metrics, &refusal))
        .ok()??;
    if state.proxy_protocol.is_some()
        && let Err(shut) = state
            .accept_rules
            .admit(known.peer.ip(), Instant::now().into_std())
    {
        let refusal = shut.label();
        metrics.connections_refused.get(&Refused { refusal }).inc();
        tracing::debug!(listener, peer = %known.peer, %shut, "connection refused");
        return None;
    }
    permit
        .count(known.peer.ip())
        .map_err(|refused| count_refused(listener, known.peer, metrics, refused))
        .ok()?;
    Some(known)
}

/// Serves what the client speaks.
async fn speak(
    opening: Opening,
    transport: Transport,
    entrance: Entrance,
    snapshot: Arc<Snapshot>,
    (watch, listener_watch): (Watch, Watch),
) {
    let config = &snapshot.config;
    match opening {
        Opening::Http1(ahead) => {
            let http = Http1::new(config);
            // Not to the connection's end: a kept snapshot would keep its upstreams.
            drop(snapshot);
            http.serve((transport, ahead), entrance, watch, listener_watch)
                .await;
        }
        Opening::Http2(ahead) => {
            let http = Http2::new(config, entrance.last.websocket_over_http2);
            // A task of its own size: this one is made for HTTP/1.1.
            tokio::spawn(http.serve((transport, ahead), entrance, watch, listener_watch));
        }
    }
}

/// A transport on which HTTP can begin.
struct Dressed {
    transport: Transport,
    tls: Option<TlsFacts>,
    /// Settled by ALPN whatever the opening is, which may not come.
    http: Http,
    opening: Result<Opening, ClientFault>,
}

/// Does TLS where the listener has it, and settles which HTTP is spoken: by
/// ALPN, or on a plain listener by what the client sends first.
async fn dress(
    socket: Socket,
    state: &ListenerState,
    snapshot: &Snapshot,
) -> Result<Dressed, tls::AcceptError> {
    let nothing = Bytes::new();
    let deadlines = read_deadlines(&snapshot.config.limits);
    let (transport, tls, http, opening) = match &state.tls {
        Some(config) => {
            // Boxed: most of what a connection takes while it says nothing would be room
            // for this, with TLS or without.
            let done = Box::pin(handshake(socket, config, snapshot)).await;
            let (mut transport, tls, http) = done?;
            let opening = match http {
                Http::One => Ok(Opening::Http1(nothing)),
                Http::Two => {
                    let read = read_opening(&mut transport, &deadlines).await;
                    // ALPN has settled it, whatever this is.
                    read.map(|opening| Opening::Http2(opening.into_bytes()))
                }
            };
            (transport, Some(tls), http, opening)
        }
        None if state.http2 => {
            let mut transport = Transport::Plain(socket);
            let opening = read_opening(&mut transport, &deadlines).await;
            let http = match opening {
                Ok(Opening::Http2(_)) => Http::Two,
                Ok(Opening::Http1(_)) | Err(_) => Http::One,
            };
            (transport, None, http, opening)
        }
        None => {
            let transport = Transport::Plain(socket);
            (transport, None, Http::One, Ok(Opening::Http1(nothing)))
        }
    };
    Ok(Dressed {
        transport,
        tls,
        http,
        opening,
    })
}

/// The TLS handshake, within its deadline and its share of those in flight.
async fn handshake(
    socket: Socket,
    tls: &tls::ServerTls,
    snapshot: &Snapshot,
) -> Result<(Transport, TlsFacts, Http), tls::AcceptError> {
    let deadline = Instant::now() + snapshot.config.limits.tls_handshake_timeout;
    let (stream, facts) =
        tls::accept(tls.clone(), socket, deadline, &snapshot.tls_handshakes).await?;
    let http = match facts.alpn.as_deref() {
        Some("h2") => Http::Two,
        Some(_) | None => Http::One,
    };
    let cas = tls.client_cas().cloned().unwrap_or_default();
    let certificate = facts.client_subject.map(|subject| Certificate {
        subject,
        not_after: facts.client_not_after,
        cas,
    });
    let facts = TlsFacts {
        version: facts.version,
        sni: facts.sni,
        certificate: certificate.map(Box::new),
        resumed: facts.resumed,
    };
    let transport = Transport::Tls(Box::new(TlsStream::Server(stream)));
    Ok((transport, facts, http))
}

fn count_tls(metrics: &Metrics, tls: Option<&TlsFacts>) {
    if let Some(tls) = tls {
        let labels = TlsVersion {
            version: tls.version,
            resumed: tls.resumed,
        };
        metrics.tls_handshakes.get(&labels).inc();
    }
}

fn log_tls_failure(listener: &str, peer: Peer, metrics: &Metrics, error: &tls::AcceptError) {
    if matches!(error, tls::AcceptError::Proven) {
        tracing::info!(listener, client = %peer, "acme proof shown");
        return;
    }
    let refusal = error.label();
    metrics.tls_failures.get(&Refused { refusal }).inc();
    tracing::info!(
        target: "access",
        listener,
        client = %peer,
        refusal,
        reason = %error,
        "tls handshake failed"
    );
}

pub(super) fn read_deadlines(limits: &Limits) -> ReadDeadlines {
    ReadDeadlines {
        first_byte: limits.first_byte_timeout,
        request_head: limits.request_head_timeout,
        keepalive: limits.keepalive_timeout,
    }
}

/// What a fault before there was a request is called.
pub(super) fn of_fault(fault: ClientFault) -> Option<Refusal> {
    match fault {
        ClientFault::Keepalive => None,
        ClientFault::FirstByte => Some(Refusal::FirstByteTimeout),
        ClientFault::RequestHead => Some(Refusal::RequestHeadTimeout),
        ClientFault::Ambiguous(Ambiguous::ProxyHeader) => Some(Refusal::UnaskedProxyHeader),
        ClientFault::Ambiguous(what) => {
            Some(Refusal::BadHead(StatusCode::BAD_REQUEST, what.to_string()))
        }
    }
}

/// The client that a proxy has named has as many connections as it may have.
fn count_refused(listener: &str, peer: Peer, metrics: &Metrics, refused: net::Refused) {
    let refusal = refused.label();
    metrics.connections_refused.get(&Refused { refusal }).inc();
    tracing::debug!(listener, client = %peer, %refused, "connection refused");
}

pub(super) fn log_refusal(client: &Client, metrics: &Metrics, refusal: &Refusal) {
    log_refused(&client.listener, client.peer, metrics, refusal);
}

fn log_refused(listener: &str, peer: Peer, metrics: &Metrics, refusal: &Refusal) {
    metrics.refused(refusal.label());
    tracing::info!(
        target: "access",
        listener,
        client = %peer,
        status = refusal.status().as_u16(),
        refusal = refusal.label(),
        reason = %refusal,
        "request"
    );
}
