//! An HTTP/1.1 connection to a backend.
//!
//! A connection that carried an upgrade attempt is never reused: until the
//! backend's 101 it is HTTP, and whatever follows a refused attempt on the same
//! connection could be read as a request by one side and not by the other.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;

use super::{Backend, DialError, Dialer};
use crate::exchange::Body;
use crate::net::{BackendIo, Finish};

/// Most bytes of a response head, and of what is read ahead.
const MAX_BUFFER: usize = 64 * 1024;
/// Most header lines of a response.
const MAX_HEADERS: usize = 256;

/// The sending half; the connection itself is driven by a task of its own that
/// ends with it.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Body>,
    finish: Finish,
    /// What it was dialled by: an edit may have changed how.
    dialer: Arc<Dialer>,
    /// Whether requests went over it before.
    reused: bool,
}

/// Why there is no connection to send a request on. Nothing has been sent, so
/// another backend may be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the connection failed before the request: {0}")]
    Http(#[from] hyper::Error),
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

    /// A new connection, for plain requests and for upgrades.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open(dialer: &Arc<Dialer>, backend: &Backend) -> Result<Self, ConnectError> {
        let io = BackendIo::new(dialer.dial(backend).await?);
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
        tokio::spawn(async move {
            // The exchange sees the same error; here it is only for debugging.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(backend = &*name, %error, "backend connection ended");
            }
        });
        Ok(Self {
            sender,
            finish,
            dialer: Arc::clone(dialer),
            reused: false,
        })
    }

    /// # Errors
    /// hyper's, with the request if it was not sent.
    pub async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        self.sender.try_send_request(request).await
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
        self.sender.is_closed()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }
}
