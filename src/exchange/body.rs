//! The body of requests and responses, as one type with a named error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderName;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Instant;

use super::{Record, headers};
use crate::net::http2::Broken;
use crate::net::{Alarm, ClientLink};

/// A request or response body.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// What its trailers may not say.
    withheld: Vec<HeaderName>,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Full(Full<Bytes>),
    Streamed(UnsyncBoxBody<Bytes, BodyError>),
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("body stream failed")]
    Http(#[from] hyper::Error),
    #[error("the client left in the middle of the body")]
    ClientLeft,
    #[error("no part of the body came within request_body_timeout")]
    Stalled,
    #[error("the answer did not end within half_close_timeout of the client's end")]
    HalfClose,
    #[error("the backend sent nothing more within response_idle_timeout")]
    Idle,
    #[error("body stream failed")]
    Io(#[from] io::Error),
}

impl From<Broken> for BodyError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Reset(_) | Broken::Lost | Broken::Unanswered | Broken::Stalled => {
                Self::ClientLeft
            }
        }
    }
}

impl Body {
    pub const fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    const fn of(kind: Kind) -> Self {
        Self {
            kind,
            withheld: Vec::new(),
        }
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Kind::Full(Full::new(bytes.into())))
    }

    /// Any other body.
    pub fn streamed(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::of(Kind::Streamed(UnsyncBoxBody::new(body)))
    }

    /// Its trailers will not say this.
    pub fn withhold(&mut self, name: HeaderName) {
        // Others have none.
        if let Kind::Streamed(_) = self.kind {
            self.withheld.push(name);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|result| result.map_err(|never| match never {}))),
            Kind::Streamed(body) => {
                let mut frame = Pin::new(body).poll_frame(cx);
                if !this.withheld.is_empty()
                    && let Poll::Ready(Some(Ok(frame))) = &mut frame
                    && let Some(trailers) = frame.trailers_mut()
                {
                    headers::strip_trailers(trailers, &this.withheld);
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(body) => body.is_end_stream(),
            Kind::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(body) => body.size_hint(),
            Kind::Streamed(body) => body.size_hint(),
        }
    }
}

/// The body that a client sends: bounded in silence, counted, and ended with an
/// error when the client leaves in the middle of it.
#[derive(Debug)]
pub struct RequestBody<B> {
    incoming: B,
    link: Arc<ClientLink>,
    record: Record,
    timeout: Duration,
    /// Set once the client has been waited for.
    alarm: Alarm,
    gate: Option<ContinueGate>,
}

/// Holds a request body back until the backend has said `100 Continue`
/// (RFC 9110 section 10.1.1).
#[derive(Clone, Debug, Default)]
pub struct ContinueGate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: AtomicBool,
    waker: AtomicWaker,
}

impl ContinueGate {
    pub fn open(&self) {
        self.0.open.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.0.open.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<B> RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    BodyError: From<B::Error>,
{
    /// Wraps what was received. `gate` holds back a body that the client
    /// sends only after `100 Continue`.
    pub fn wrap(
        incoming: B,
        link: Arc<ClientLink>,
        record: Record,
        timeout: Duration,
        gate: Option<ContinueGate>,
    ) -> Body {
        link.set_request_whole(incoming.is_end_stream());
        if incoming.is_end_stream() {
            return Body::empty();
        }
        link.set_body_pending(true);
        Body::streamed(Self {
            incoming,
            link,
            record,
            timeout,
            alarm: Alarm::default(),
            gate,
        })
    }
}

impl<B> RequestBody<B> {
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.alarm.is_set() {
            self.alarm.set(Some(Instant::now() + self.timeout));
        }
        self.alarm.poll(cx)
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.link.set_body_pending(false);
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(gate) = &this.gate {
            if gate.poll_open(cx).is_pending() {
                return Poll::Pending;
            }
            this.gate = None;
            this.link.push_continue();
        }
        let mut frame = Pin::new(&mut this.incoming).poll_frame(cx);
        if frame.is_pending() && this.link.poll_body_ended(cx).is_ready() {
            // What came before the client's end may have arrived since.
            frame = Pin::new(&mut this.incoming).poll_frame(cx);
            if frame.is_pending() {
                return Poll::Ready(Some(Err(BodyError::ClientLeft)));
            }
        }
        let Poll::Ready(mut frame) = frame else {
            return match this.poll_stalled(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Stalled))),
                Poll::Pending => Poll::Pending,
            };
        };
        if this.alarm.is_set() {
            this.alarm.set(Some(Instant::now() + this.timeout));
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.record.update(|entry| {
                entry.bytes_in += data.len() as u64;
                entry.body_at = Some(std::time::Instant::now());
            });
        }
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::strip_trailers(trailers, &[]);
        }
        if frame.is_none() || this.incoming.is_end_stream() {
            this.link.set_request_whole(true);
        }
        Poll::Ready(frame.map(|result| result.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
