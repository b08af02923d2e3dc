//! HTTP/2 towards one backend: connections that many requests share, and
//! connections that carry tunnels (RFC 8441).
//!
//! Plain requests go through hyper. Tunnels do not: a stream of theirs is a byte
//! stream with an end and a reset, as towards clients, which hyper does not tell
//! apart.
//!
//! Invariant: an extended CONNECT is sent only to a backend whose settings allow
//! it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use h2::client::{Builder, Connection, SendRequest};
use h2::ext::Protocol;
use h2::{Ping, Reason};
use http::{HeaderValue, Method, Request, Response, Uri, header, uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::dial::{DialError, Dialer};
use super::{Backend, ConnectError};
use crate::exchange::Body;
use crate::net::Transport;
use crate::net::http2::{Chunk, Place, Ready, Stream, StreamBody, Tunnel};
use crate::proxy_protocol::Header;
use crate::ws::handshake::WEBSOCKET;

/// Streams of one connection before another one is opened, whatever more the
/// backend allows.
const MOST_STREAMS: usize = 100;
/// Bytes of a stream that wait here for whoever takes them.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Wide enough for every stream's own.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * (MOST_STREAMS as u32 + 1);
const SEND_BUFFER: usize = 64 * 1024;
const MAX_HEADERS: u32 = 64 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What is kept for one backend.
#[derive(Debug, Default)]
pub(super) struct Http2Pool {
    requests: Mutex<Vec<Entry<http2::SendRequest<Body>>>>,
    tunnels: Mutex<Vec<Entry<Carrier>>>,
}

#[derive(Debug)]
struct Entry<S> {
    shared: Shared<S>,
    used: Instant,
}

/// A connection that others use too.
#[derive(Clone, Debug)]
pub(super) struct Shared<S> {
    pub(super) sender: S,
    dialer: Arc<Dialer>,
    /// As many handles as there are streams, and one.
    uses: Arc<()>,
}

/// The way into a connection that carries tunnels.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    sender: SendRequest<Chunk>,
    ready: Arc<Ready>,
    /// Its strong handle is with the task that drives the connection.
    driver: Weak<()>,
    /// The backend has refused a stream: the next ones go over another connection.
    refuses: Arc<AtomicBool>,
}

impl Carrier {
    /// Whether it takes a stream more: one whose backend has said GOAWAY lives on
    /// for those that it has.
    fn is_open(&self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        self.driver.strong_count() > 0
            && !self.refuses.load(Ordering::Relaxed)
            && !matches!(self.sender.clone().poll_ready(cx), Poll::Ready(Err(_)))
    }
}

impl Http2Pool {
    /// A connection for one more request: one that is there, or a new one.
    pub(super) async fn sender(
        &self,
        dialer: &Arc<Dialer>,
        backend: &Backend,
    ) -> Result<(Shared<http2::SendRequest<Body>>, bool), ConnectError> {
        let open = |sender: &http2::SendRequest<Body>| !sender.is_closed();
        if let Some(shared) = take(&self.requests, dialer, open) {
            return Ok((shared, true));
        }
        let transport = dialer.dial_http2(backend).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(transport))
            .await?;
        let name = backend.name().clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(backend = &*name, %error, "backend connection ended");
            }
        });
        Ok((put(&self.requests, sender, dialer), false))
    }

    /// Closes connections that have been without a stream for too long.
    pub(super) fn purge(&self, timeout: Duration) {
        purge(&self.requests, timeout);
        purge(&self.tunnels, timeout);
    }

    pub(super) fn clear(&self) {
        entries(&self.requests).clear();
        entries(&self.tunnels).clear();
    }
}

fn take<S: Clone>(
    list: &Mutex<Vec<Entry<S>>>,
    dialer: &Arc<Dialer>,
    is_open: impl Fn(&S) -> bool,
) -> Option<Shared<S>> {
    let mut entries = entries(list);
    entries.retain(|entry| is_open(&entry.shared.sender));
    let entry = entries.iter_mut().find(|entry| {
        let shared = &entry.shared;
        Arc::ptr_eq(&shared.dialer, dialer) && Arc::strong_count(&shared.uses) <= MOST_STREAMS
    })?;
    entry.used = Instant::now();
    Some(entry.shared.clone())
}

fn put<S: Clone>(list: &Mutex<Vec<Entry<S>>>, sender: S, dialer: &Arc<Dialer>) -> Shared<S> {
    let shared = Shared {
        sender,
        dialer: Arc::clone(dialer),
        uses: Arc::default(),
    };
    entries(list).push(Entry {
        shared: shared.clone(),
        used: Instant::now(),
    });
    shared
}

fn purge<S>(list: &Mutex<Vec<Entry<S>>>, timeout: Duration) {
    entries(list).retain_mut(|entry| {
        if Arc::strong_count(&entry.shared.uses) > 1 {
            entry.used = Instant::now();
        }
        entry.used.elapsed() < timeout
    });
}

fn entries<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    // A list of connections is whole after any panic.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The request as HTTP/2 has it: the host in the target, none in the headers.
pub(super) fn absolute(request: &mut Request<Body>, secure: bool) {
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.as_ref().and_then(|host| host.to_str().ok());
    if let Some(uri) = absolute_uri(request.uri(), authority.unwrap_or("localhost"), secure) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = http::Version::HTTP_2;
}

fn absolute_uri(uri: &Uri, authority: &str, secure: bool) -> Option<Uri> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(match secure {
        true => uri::Scheme::HTTPS,
        false => uri::Scheme::HTTP,
    });
    parts.authority = authority.parse().ok();
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts).ok()
}

/// A backend's answer to an extended CONNECT, and the stream that may be a
/// tunnel now.
#[derive(Debug)]
pub struct Answered {
    pub head: Response<()>,
    stream: Arc<Stream>,
    uses: Arc<()>,
    patience: Duration,
}

impl Answered {
    /// The stream as a tunnel's side.
    pub fn into_tunnel(self) -> Tunnel {
        Tunnel::new(self.stream, self.patience, Place::Backend(self.uses))
    }

    /// An answer that is none to a handshake, with its body.
    pub fn into_response(self) -> Response<StreamBody> {
        let (stream, uses) = (self.stream, self.uses);
        self.head
            .map(|()| StreamBody::new(stream, None).holding(uses))
    }
}

impl Shared<Carrier> {
    /// A connection whose backend allows an extended CONNECT, if it does.
    pub(super) async fn to(
        dialer: &Arc<Dialer>,
        backend: &Backend,
    ) -> Result<Option<Self>, ConnectError> {
        let shared = carrier(dialer, backend).await?;
        let allowed = shared.sender.sender.is_extended_connect_protocol_enabled();
        Ok(allowed.then_some(shared))
    }

    /// The handshake of HTTP/1.1 as this connection takes it.
    pub(super) fn extended(&self, handshake: &Request<Body>) -> Request<()> {
        extended(handshake, self.dialer.tls.is_some())
    }

    pub(super) async fn shake_hands(&self, request: Request<()>) -> Result<Answered, h2::Error> {
        let mut sender = self.sender.sender.clone().ready().await?;
        let (response, send) = sender.send_request(request, false)?;
        let response = response.await.inspect_err(|error| {
            if error.reason() == Some(Reason::REFUSED_STREAM) {
                self.sender.refuses.store(true, Ordering::Relaxed);
            }
        });
        let (head, recv) = response?.into_parts();
        Ok(Answered {
            head: Response::from_parts(head, ()),
            stream: Stream::answered(recv, send, &self.sender.ready),
            uses: Arc::clone(&self.uses),
            patience: self.dialer.keepalive.user_timeout,
        })
    }
}

async fn carrier(dialer: &Arc<Dialer>, backend: &Backend) -> Result<Shared<Carrier>, ConnectError> {
    let list = &backend.http2.tunnels;
    if let Some(shared) = take(list, dialer, Carrier::is_open) {
        return Ok(shared);
    }
    let transport = dialer.dial_http2(backend).await?;
    let (sender, mut connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS)
        .data_frame_budget(usize::MAX)
        .handshake::<Transport, Chunk>(transport)
        .await?;
    let pings = connection.ping_pong();
    let driver = Arc::new(());
    let carrier = Carrier {
        sender,
        ready: Arc::default(),
        driver: Arc::downgrade(&driver),
        refuses: Arc::default(),
    };
    tokio::spawn(drive(connection, Arc::clone(&carrier.ready), driver));
    if let Some(mut pings) = pings {
        // The settings come before the answer.
        pings.ping(Ping::opaque()).await?;
    }
    Ok(put(list, carrier, dialer))
}

/// Moves all streams of a connection until it ends; `driver` goes with it.
async fn drive(connection: Connection<Transport, Chunk>, ready: Arc<Ready>, driver: Arc<()>) {
    {
        let mut connection = pin!(connection);
        let ended = poll_fn(|cx| {
            ready.begin();
            let polled = connection.as_mut().poll(cx);
            ready.settle(cx.waker());
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "backend connection ended");
        }
    }
    // Its streams were told when it was dropped.
    ready.settle(Waker::noop());
    drop(driver);
}

/// The handshake of HTTP/1.1 as RFC 8441 section 5 has it.
fn extended(handshake: &Request<Body>, secure: bool) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    let headers = request.headers_mut();
    headers.clone_from(handshake.headers());
    let host = headers.remove(header::HOST);
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_KEY,
    ] {
        headers.remove(name);
    }
    let authority = host
        .as_ref()
        .and_then(|host: &HeaderValue| host.to_str().ok());
    let authority = authority.unwrap_or("localhost");
    if let Some(uri) = absolute_uri(handshake.uri(), authority, secure) {
        *request.uri_mut() = uri;
    }
    request
        .extensions_mut()
        .insert(Protocol::from_static(WEBSOCKET));
    request
}

impl From<h2::Error> for ConnectError {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

impl Dialer {
    /// Dials for HTTP/2: with TLS it must be agreed on. No client is named, for the
    /// connection is nobody's; the config has no PROXY header beside it.
    async fn dial_http2(&self, backend: &Backend) -> Result<Transport, DialError> {
        let transport = self
            .dial_for(backend, &Header::Local, self.tls_http2.as_ref())
            .await?;
        match &transport {
            Transport::Tls(stream) if stream.get_ref().1.alpn_protocol() != Some(b"h2") => {
                Err(DialError::NotHttp2)
            }
            _ => Ok(transport),
        }
    }
}
