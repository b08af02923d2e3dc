//! What a request and the connection it came on tell each other: that the client
//! has ended its stream, which interim responses (1xx) to send before the final
//! one, and what was wrong before there was a request.
//!
//! hyper offers neither for HTTP/1.1 servers, so [`super::ClientIo`] does it
//! below hyper and the exchange above it; this is what they share. A request on
//! an HTTP/2 stream has a link of its own, which speaks to that stream.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use http::{HeaderMap, Response, StatusCode};

use super::ClientFault;
use super::http2::Stream;

/// Most bytes of interim responses that may wait for a slow client.
const MAX_INTERIM: usize = 64 * 1024;

/// The shared side of one client connection.
#[derive(Debug)]
pub struct ClientLink {
    in_flight: AtomicBool,
    /// Requests begun on this connection, wrapping.
    begun: AtomicU32,
    ended: AtomicBool,
    /// Whether the client ended its stream behind bytes that are still unread.
    ended_behind: AtomicBool,
    request_whole: AtomicBool,
    /// Whether somebody still reads the body of the last request.
    body_pending: AtomicBool,
    exchange: AtomicWaker,
    body: AtomicWaker,
    connection: AtomicWaker,
    /// As bytes on the wire, for HTTP/1.1.
    interim: Mutex<Vec<u8>>,
    /// For HTTP/2.
    stream: Option<Arc<Stream>>,
    fault: OnceLock<ClientFault>,
}

/// Held from a request's arrival until its response has been sent or dropped.
#[derive(Debug)]
pub struct InFlight(Arc<ClientLink>);

impl Default for ClientLink {
    fn default() -> Self {
        Self {
            in_flight: AtomicBool::new(false),
            begun: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            ended_behind: AtomicBool::new(false),
            request_whole: AtomicBool::new(false),
            body_pending: AtomicBool::new(false),
            exchange: AtomicWaker::new(),
            body: AtomicWaker::new(),
            connection: AtomicWaker::new(),
            interim: Mutex::default(),
            stream: None,
            fault: OnceLock::new(),
        }
    }
}

impl ClientLink {
    /// The link of a request that came on a stream of its own.
    pub fn of_stream(stream: Arc<Stream>) -> Self {
        Self {
            stream: Some(stream),
            ..Self::default()
        }
    }

    /// Marks a request as in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.begun.fetch_add(1, Ordering::Release);
        self.in_flight.store(true, Ordering::Release);
        InFlight(Arc::clone(self))
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Somebody reads a body from now on, until `false` is said.
    pub fn set_body_pending(&self, pending: bool) {
        self.body_pending.store(pending, Ordering::Release);
        if !pending {
            // As when the response is done: what comes now has other deadlines.
            self.connection.wake();
        }
    }

    pub(super) fn is_body_pending(&self) -> bool {
        self.body_pending.load(Ordering::Acquire)
    }

    pub(super) fn is_request_whole(&self) -> bool {
        self.request_whole.load(Ordering::Acquire)
    }

    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the client has ended its stream.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether bytes came behind the request before the client ended its stream:
    /// then its end cannot be passed on before they are.
    pub fn is_ended_behind_bytes(&self) -> bool {
        self.ended_behind.load(Ordering::Acquire)
    }

    /// Says whether the request in flight has come in whole.
    pub fn set_request_whole(&self, whole: bool) {
        self.request_whole.store(whole, Ordering::Release);
        self.exchange.wake();
    }

    /// Ready once the client has ended its stream behind a whole request: that
    /// is what can be passed on. One waiter: the exchange.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = || self.is_ended() && self.is_request_whole();
        Self::poll_flag(ended, &self.exchange, cx)
    }

    /// Ready once the client has ended its stream, wherever. One waiter: the
    /// request body's reader, which may be in another task.
    pub fn poll_body_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_flag(|| self.is_ended(), &self.body, cx)
    }

    /// Waits for [`ClientLink::poll_ended`].
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| self.poll_ended(cx)).await;
    }

    /// Sends an interim response, or queues it. One that finds the queue full
    /// is left out: interim responses are optional (RFC 9110 section 15.2).
    pub fn push_interim(&self, status: StatusCode, headers: HeaderMap) {
        if let Some(stream) = &self.stream {
            let mut head = Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = headers;
            return stream.inform(head);
        }
        let head = on_the_wire(status, &headers);
        let mut queue = self.interim();
        if queue.len() + head.len() <= MAX_INTERIM {
            queue.extend_from_slice(&head);
            drop(queue);
            self.connection.wake();
        }
    }

    /// The body that waited for it is about to be read: tells the client to send
    /// it, where hyper does not.
    pub fn push_continue(&self) {
        if self.stream.is_some() {
            self.push_interim(StatusCode::CONTINUE, HeaderMap::new());
        }
    }

    /// Waits until no interim response is queued, so that the final one cannot
    /// overtake it.
    pub async fn interim_sent(&self) {
        std::future::poll_fn(|cx| {
            self.exchange.register(cx.waker());
            if self.interim().is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Why the stream below hyper ended the reading, if it did: hyper does not
    /// always pass on the error.
    pub fn fault(&self) -> Option<ClientFault> {
        self.fault.get().copied()
    }

    pub(super) fn fail(&self, fault: ClientFault) {
        // The first one counts.
        let _ = self.fault.set(fault);
    }

    /// The client has ended its stream, and all it sent has been read.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.exchange.wake();
        self.body.wake();
    }

    /// The same, but there is something left to read.
    pub(super) fn end_behind_bytes(&self) {
        self.ended_behind.store(true, Ordering::Release);
        self.end();
    }

    pub(super) fn register_connection(&self, cx: &Context<'_>) {
        self.connection.register(cx.waker());
    }

    /// Lets `write` take bytes off the front of the queue.
    pub(super) fn drain_interim<E>(
        &self,
        mut write: impl FnMut(&[u8]) -> Poll<Result<usize, E>>,
    ) -> Poll<Result<(), E>> {
        let mut queue = self.interim();
        while !queue.is_empty() {
            match write(&queue) {
                Poll::Ready(Ok(n)) => drop(queue.drain(..n)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            if queue.is_empty() {
                self.exchange.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn interim(&self) -> MutexGuard<'_, Vec<u8>> {
        // The bytes are valid after any panic: they only grow or shrink whole.
        self.interim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_flag(flag: impl Fn() -> bool, waker: &AtomicWaker, cx: &Context<'_>) -> Poll<()> {
        if flag() {
            return Poll::Ready(());
        }
        waker.register(cx.waker());
        // Again, in case the flag was set before the waker was there.
        if flag() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// The head of an interim response of HTTP/1.1.
fn on_the_wire(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or("Interim");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.store(false, Ordering::Release);
        // hyper waits for bytes; the stream below it waits for this.
        self.0.connection.wake();
    }
}
