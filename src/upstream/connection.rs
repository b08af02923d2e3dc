//! A connection to a backend: of HTTP/1.1 and one request at a time, or of HTTP/2
//! and shared with others.
//!
//! A connection that carried an upgrade attempt is never reused: until the
//! backend's 101 it is HTTP, and whatever follows a refused attempt on the same
//! connection could be read as a request by one side and not by the other.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;

use super::http2::{Answered, Carrier, Shared, absolute};
use super::{Backend, DialError, Dialer};
use crate::exchange::Body;
use crate::net::{Alarm, BackendIo, Finish};
use crate::proxy_protocol::Header;

/// Most bytes of a response head, and of what is read ahead.
const MAX_BUFFER: usize = 64 * 1024;
/// Most header lines of a response.
const MAX_HEADERS: usize = 256;

/// The sending half; the connection itself is driven by a task of its own that
/// ends with it, once a request has been sent that may leave something to be done
/// behind its answer's head.
pub struct Connection {
    sender: Sender,
    /// Until the connection has that task.
    driver: Option<Driver>,
    finish: Finish,
    /// For whoever waits for an answer.
    alarm: Alarm,
    /// What it was dialled by: an edit may have changed how.
    dialer: Arc<Dialer>,
    /// Whether requests went over it before.
    reused: bool,
}

/// Reads and writes a connection of HTTP/1.1, to its end.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(Shared<http2::SendRequest<Body>>),
    /// For a WebSocket (RFC 8441).
    Stream(Shared<Carrier>),
}

/// What came of a plain request.
type Sent = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// A backend's answer to an upgrade.
#[derive(Debug)]
pub enum Answer {
    Http1(Response<Incoming>),
    Http2(Answered),
}

/// Why there is no answer to an upgrade.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl HandshakeError {
    /// Whether the backend has not looked at the request, so that it may be sent
    /// again (RFC 9113 section 8.7). GOAWAY is the error of streams beyond its
    /// last one alone.
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(error) => {
                error.is_remote()
                    && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
            }
        }
    }
}

/// Why there is no connection to send a request on. Nothing has been sent, so
/// another backend may be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the connection failed before the request: {0}")]
    Http(#[from] hyper::Error),
    #[error("the connection failed before the answer: {0}")]
    Http2(h2::Error),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("sender", &self.sender)
            .field("reused", &self.reused)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A pooled connection if there is one.
    pub fn pooled(dialer: &Arc<Dialer>, backend: &Backend, timeout: Duration) -> Option<Self> {
        let connection = backend.pool.take(dialer, timeout)?;
        Some(Self {
            reused: true,
            ..connection
        })
    }

    /// A connection of HTTP/2 with room for one more plain request.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn shared(dialer: &Arc<Dialer>, backend: &Backend) -> Result<Self, ConnectError> {
        let (sender, reused) = backend.http2.sender(dialer, backend).await?;
        Ok(Self {
            sender: Sender::Http2(sender),
            driver: None,
            finish: Finish::default(),
            alarm: Alarm::default(),
            dialer: Arc::clone(dialer),
            reused,
        })
    }

    /// A connection for a WebSocket: of HTTP/2 if the backend allows that, else
    /// a new one of HTTP/1.1.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn for_websocket(
        dialer: &Arc<Dialer>,
        backend: &Backend,
        header: &Header,
    ) -> Result<Self, ConnectError> {
        match Shared::to(dialer, backend).await? {
            None => Self::open(dialer, backend, header).await,
            Some(shared) => Ok(Self {
                sender: Sender::Stream(shared),
                driver: None,
                finish: Finish::default(),
                alarm: Alarm::default(),
                dialer: Arc::clone(dialer),
                reused: true,
            }),
        }
    }

    /// Sends the request of an upgrade.
    ///
    /// # Errors
    /// hyper's or `h2`'s.
    pub async fn shake_hands(&mut self, request: Request<Body>) -> Result<Answer, HandshakeError> {
        if let Sender::Stream(shared) = &self.sender {
            let request = shared.extended(&request);
            return Ok(Answer::Http2(shared.shake_hands(request).await?));
        }
        let (Sender::Http1(sender), Some(mut driver)) = (&mut self.sender, self.driver.take())
        else {
            let sent = self.send(request).await;
            return Ok(Answer::Http1(sent.map_err(TrySendError::into_error)?));
        };
        // Driven from here: a connection that switches protocols is over with the
        // head of the answer, and so never needs a task.
        let mut sent = pin!(sender.send_request(request));
        let answer = tokio::select! {
            biased;
            answer = &mut sent => {
                tokio::spawn(driver);
                answer
            }
            () = &mut driver => sent.await,
        };
        Ok(Answer::Http1(answer?))
    }

    /// A new connection of HTTP/1.1, for plain requests and for upgrades.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open(
        dialer: &Arc<Dialer>,
        backend: &Backend,
        header: &Header,
    ) -> Result<Self, ConnectError> {
        let io = BackendIo::new(dialer.dial(backend, header).await?);
        let io = io.with_patience(dialer.keepalive.user_timeout);
        let finish = io.finish_handle();
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(MAX_BUFFER)
            // The buffer alone would let through what comes in one read.
            .max_header_size(MAX_BUFFER)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(io))
            .await?;
        let name = backend.name().clone();
        let driver = async move {
            // The exchange sees the same error; here it is only for debugging.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(backend = &*name, %error, "backend connection ended");
            }
        };
        Ok(Self {
            sender: Sender::Http1(sender),
            driver: Some(Box::pin(driver)),
            finish,
            alarm: Alarm::default(),
            dialer: Arc::clone(dialer),
            reused: false,
        })
    }

    /// Sends a plain request.
    ///
    /// # Errors
    /// hyper's, with the request if it was not sent.
    pub async fn send(&mut self, request: Request<Body>) -> Sent {
        self.send_within(request).0.await
    }

    /// The same, and an alarm for whoever does not want to wait for ever. It begins at
    /// once: the task that drives a new connection is spawned here.
    pub fn send_within(
        &mut self,
        mut request: Request<Body>,
    ) -> (impl Future<Output = Sent>, &mut Alarm) {
        if let Some(driver) = self.driver.take() {
            tokio::spawn(driver);
        }
        let (sender, secure) = (&mut self.sender, self.dialer.tls.is_some());
        let sent = async move {
            match sender {
                Sender::Http1(sender) => sender.try_send_request(request).await,
                Sender::Http2(shared) => {
                    absolute(&mut request, secure);
                    shared.sender.try_send_request(request).await
                }
                Sender::Stream(_) => std::future::pending().await,
            }
        };
        (sent, &mut self.alarm)
    }

    /// The handle that passes on a client's half-close.
    pub fn finish_handle(&self) -> Finish {
        self.finish.clone()
    }

    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Gives the connection to the backend's pool, for the next request.
    pub fn give_back(self, backend: &Arc<Backend>, most: usize) {
        if !matches!(self.sender, Sender::Http1(_)) {
            // It is kept where it was shared.
            return;
        }
        if self.dialer.proxy_protocol.is_some() {
            // It is one client's.
            return;
        }
        if !backend.is_retired() && !self.finish.is_wanted() && !self.is_closed() {
            backend.pool.put(self, most);
            if backend.is_retired() {
                // In between.
                backend.pool.clear();
            }
        }
    }

    pub(super) fn is_by(&self, dialer: &Arc<Dialer>) -> bool {
        Arc::ptr_eq(&self.dialer, dialer)
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(shared) => shared.sender.is_closed(),
            Sender::Stream(_) => false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(shared) => shared.sender.is_ready(),
            Sender::Stream(_) => true,
        }
    }
}
