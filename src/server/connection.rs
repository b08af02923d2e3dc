//! One accepted connection, from TLS to its last response.
//!
//! A connection that becomes a tunnel leaves here at the 101: its sockets go to
//! [`crate::proxy`], and this task ends.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;
use tower::Service as _;

use super::Context;
use crate::config::Config;
use crate::drain::{Stage, Watch};
use crate::exchange::{
    Body, Client, ContinueGate, Exchange, Place, Record, Refusal, RequestBody, TlsFacts,
};
use crate::metrics::{Metrics, Refused};
use crate::net::{
    ClientFault, ClientIo, ClientLink, Keepalive, Peer, Permit, ReadDeadlines, Socket, Transport,
    tune,
};
use crate::state::{ListenerState, Snapshot};
use crate::{exchange, tls};

/// A connection that has been let in.
pub(super) struct Accepted {
    pub(super) listener: Arc<str>,
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) permit: Permit,
    pub(super) context: Arc<Context>,
    pub(super) watch: Watch,
    /// Ends when the listener is removed.
    pub(super) listener_watch: Watch,
}

/// How long and how much is read of a client that has been told goodbye.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// hyper's smallest read buffer.
const MIN_BUFFER: usize = 8 * 1024;

pub(super) async fn serve(accepted: Accepted) {
    let Accepted {
        listener,
        socket,
        peer,
        permit,
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
    let keepalive = Keepalive::from(snapshot.config.tcp);
    if tune(&socket, &keepalive).is_err() {
        // It was reset before it was accepted.
        return;
    }
    let local_port = local_port(&socket);
    let dressed = match &state.tls {
        None => Ok((Transport::Plain(socket), None)),
        Some(config) => {
            let mut stopping = watch.clone();
            tokio::select! {
                biased;
                dressed = handshake(socket, config, &snapshot) => dressed,
                () = stopping.reached(Stage::Draining) => return,
            }
        }
    };
    let (transport, tls) = match dressed {
        Ok(dressed) => dressed,
        Err(error) => {
            let refusal = error.label();
            metrics
                .tls_failures
                .get_or_create(&Refused { refusal })
                .inc();
            tracing::info!(
                target: "access",
                listener = &*listener,
                client = %peer,
                refusal,
                reason = %error,
                "tls handshake failed"
            );
            return;
        }
    };
    let client = Arc::new(Client {
        listener,
        peer,
        local_port,
        tls,
        place: Arc::new(Place {
            _permit: permit,
            watch: watch.clone(),
        }),
    });
    // Not to the connection's end: a kept snapshot would keep its upstreams.
    let http = Http::new(&snapshot.config);
    drop(snapshot);
    let entrance = Entrance::new(context, client, state);
    http.serve(transport, entrance, watch, listener_watch).await;
}

/// The TLS handshake, within its deadline and its share of those in flight.
async fn handshake(
    socket: Socket,
    tls: &Arc<rustls::ServerConfig>,
    snapshot: &Snapshot,
) -> Result<(Transport, Option<TlsFacts>), tls::AcceptError> {
    let deadline = Instant::now() + snapshot.config.limits.tls_handshake_timeout;
    let (stream, facts) =
        tls::accept(Arc::clone(tls), socket, deadline, &snapshot.tls_handshakes).await?;
    let facts = TlsFacts {
        version: facts.version,
        sni: facts.sni,
        client_subject: facts.client_subject,
    };
    Ok((
        Transport::Tls(Box::new(TlsStream::Server(stream))),
        Some(facts),
    ))
}

/// How HTTP/1.1 is spoken on one connection.
struct Http {
    builder: http1::Builder,
    deadlines: ReadDeadlines,
    /// For a client that takes no bytes.
    patience: Duration,
}

impl Http {
    fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // `ClientIo` has deadlines of its own, which tell waiting for a
            // request from receiving one.
            .header_read_timeout(None)
            .preserve_header_case(true)
            .max_headers(limits.max_request_headers)
            .max_header_size(limits.max_request_head)
            .max_buf_size(limits.max_request_head.max(MIN_BUFFER));
        let deadlines = ReadDeadlines {
            first_byte: limits.first_byte_timeout,
            request_head: limits.request_head_timeout,
            keepalive: limits.keepalive_timeout,
        };
        Self {
            builder,
            deadlines,
            patience: config.tcp.user_timeout,
        }
    }

    async fn serve(
        self,
        transport: Transport,
        entrance: Entrance,
        mut watch: Watch,
        mut listener: Watch,
    ) {
        let (client, link) = (Arc::clone(&entrance.client), Arc::clone(&entrance.link));
        let metrics = Arc::clone(&entrance.context.state.metrics);
        let refused_upgrade = Arc::clone(&entrance.refused_upgrade);
        let io = ClientIo::new(transport, Arc::clone(&entrance.link), self.deadlines)
            .with_patience(self.patience);
        let connection = self
            .builder
            .serve_connection(TokioIo::new(io), entrance)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut ending = watch.clone();
        let mut draining = false;
        let ended = loop {
            tokio::select! {
                biased;
                () = ending.reached(Stage::Ending) => return,
                // The process stops, or an edit has removed the listener.
                () = async { tokio::select! {
                    () = watch.reached(Stage::Draining) => {}
                    () = listener.reached(Stage::Draining) => {}
                } }, if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                ended = &mut connection => break ended,
            }
        };
        // hyper gives up a connection that was asked to upgrade, whatever the
        // answer, and leaves its end to whoever asked.
        let left_over = refused_upgrade
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(left_over) = left_over {
            shut_down(left_over).await;
        }
        if let Err(error) = &ended {
            tracing::debug!(client = %client.peer, %error, "client connection ended");
        }
        if let Some(refusal) = refusal(&link, ended.as_ref().err()) {
            log_refusal(&client, &metrics, &refusal);
        }
    }
}

/// What went wrong before there was a request; requests have their own lines.
fn refusal(link: &ClientLink, error: Option<&hyper::Error>) -> Option<Refusal> {
    match (link.fault(), error) {
        (Some(ClientFault::Keepalive), _) => None,
        (Some(ClientFault::FirstByte), _) => Some(Refusal::FirstByteTimeout),
        (Some(ClientFault::RequestHead), _) => Some(Refusal::RequestHeadTimeout),
        (Some(ClientFault::Ambiguous(what)), _) => {
            Some(Refusal::BadHead(StatusCode::BAD_REQUEST, what.to_string()))
        }
        (None, Some(error)) if error.is_parse() => {
            let text = error.to_string();
            let status = match error.is_parse_too_large() {
                true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                // hyper has no other name for this one (and answers it with 414).
                false if text.contains("URI too long") => StatusCode::URI_TOO_LONG,
                false => StatusCode::BAD_REQUEST,
            };
            Some(Refusal::BadHead(status, text))
        }
        // A client that goes away is not worth a line.
        (None, _) => None,
    }
}

fn log_refusal(client: &Client, metrics: &Metrics, refusal: &Refusal) {
    metrics.refused(refusal.label());
    tracing::info!(
        target: "access",
        listener = &*client.listener,
        client = %client.peer,
        status = refusal.status().as_u16(),
        refusal = refusal.label(),
        reason = %refusal,
        "request"
    );
}

/// Where requests come in: takes the snapshot of the moment and runs the
/// listener's stack of that snapshot.
struct Entrance {
    context: Arc<Context>,
    client: Arc<Client>,
    link: Arc<ClientLink>,
    /// For a listener that an edit has removed: its connections go on.
    last: Arc<ListenerState>,
    /// Of the last request that asked for an upgrade and did not get it.
    refused_upgrade: Arc<Mutex<Option<OnUpgrade>>>,
}

impl Entrance {
    fn new(context: Arc<Context>, client: Arc<Client>, last: Arc<ListenerState>) -> Self {
        Self {
            context,
            client,
            link: Arc::default(),
            last,
            refused_upgrade: Arc::default(),
        }
    }

    /// Makes hyper's request one of ours.
    fn dress(&self, request: Request<Incoming>, config: &Config) -> Request<Body> {
        let host = host(&request);
        let path = exchange::loggable_path(request.uri(), config.log.query_values);
        let record = Record::new(
            Arc::clone(&self.client),
            request.method().clone(),
            host,
            path,
        );
        let gate = expects_continue(request.headers()).then(ContinueGate::default);
        let (link, timeout) = (Arc::clone(&self.link), config.limits.request_body_timeout);
        let mut request = request.map(|incoming| {
            RequestBody::wrap(incoming, link, record.clone(), timeout, gate.clone())
        });
        let extensions = request.extensions_mut();
        if let Some(gate) = gate {
            extensions.insert(gate);
        }
        extensions.insert(Exchange {
            client: Arc::clone(&self.client),
            link: Arc::clone(&self.link),
            record,
            client_ip: self.client.peer.ip(),
            secure: self.client.tls.is_some(),
        });
        request
    }
}

impl hyper::service::Service<Request<Incoming>> for Entrance {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let snapshot = self.context.state.snapshot();
        let listener = snapshot
            .listeners
            .get(&*self.client.listener)
            .unwrap_or(&self.last);
        let request = self.dress(request, &snapshot.config);
        let asked = request.extensions().get::<OnUpgrade>().cloned();
        let mut stack = listener.stack.clone();
        let answer = stack.call(request);
        let Some(asked) = asked else {
            return answer;
        };
        let refused_upgrade = Arc::clone(&self.refused_upgrade);
        Box::pin(async move {
            let response = answer.await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let mut slot = refused_upgrade
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *slot = Some(asked);
            }
            Ok(response)
        })
    }
}

/// Ends a connection that hyper has left to us: says goodbye, and reads on for
/// a moment, because closing with unread bytes would reset the client before it
/// has read the answer.
async fn shut_down(left_over: OnUpgrade) {
    let ending = async {
        let mut io = TokioIo::new(left_over.await.ok()?);
        io.shutdown().await.ok()?;
        let mut rest = io.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink())
            .await
            .ok()
    };
    // Whatever comes of it, the connection goes.
    let _ = timeout(LINGER, ending).await;
}

fn host(request: &Request<Incoming>) -> String {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or(named)
        .unwrap_or("")
        .to_owned()
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn local_port(socket: &Socket) -> Option<u16> {
    match socket {
        Socket::Tcp(stream) => stream.local_addr().ok().map(|address| address.port()),
        Socket::Unix(_) => None,
    }
}
