//! The body of a backend's answer on its way to the client.
//!
//! It holds the lease until the answer has ended, gives the connection back to
//! the pool then, and passes on the end of the client's stream while the answer
//! is still coming (a browser that closed an event stream).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::config;
use crate::exchange::{Body, BodyError, Exchange};
use crate::upstream::{Connection, Lease};

pub(super) struct ResponseBody<B> {
    incoming: B,
    exchange: Exchange,
    half_close_timeout: Duration,
    idle_timeout: Option<Duration>,
    // Set while the backend is waited for.
    silence: Option<Pin<Box<Sleep>>>,
    // Set once the client has ended its stream.
    left: Option<Pin<Box<Sleep>>>,
    // Gone when the answer has ended.
    rest: Option<Rest>,
}

struct Rest {
    connection: Connection,
    lease: Lease,
    max_idle: usize,
}

impl<B> ResponseBody<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    BodyError: From<B::Error>,
{
    pub(super) fn wrap(
        incoming: B,
        exchange: Exchange,
        settings: &config::Route,
        (connection, lease, max_idle): (Connection, Lease, usize),
    ) -> Body {
        let mut body = Self {
            incoming,
            exchange,
            half_close_timeout: settings.clocks.half_close_timeout,
            idle_timeout: settings.response_idle_timeout,
            silence: None,
            left: None,
            rest: Some(Rest {
                connection,
                lease,
                max_idle,
            }),
        };
        if body.incoming.is_end_stream() {
            body.finish();
        }
        Body::streamed(body)
    }
}

impl<B> ResponseBody<B> {
    fn finish(&mut self) {
        if let Some(rest) = self.rest.take() {
            rest.connection
                .give_back(rest.lease.backend(), rest.max_idle);
        }
    }

    /// Ready when the backend has been silent for too long. The time that a slow
    /// client takes does not count: nobody asks then.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = self.idle_timeout else {
            return Poll::Pending;
        };
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(timeout)));
        silence.as_mut().poll(cx)
    }

    /// Passes on the client's end, and bounds what may follow it.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left.is_none() {
            ready!(self.exchange.link.poll_ended(cx));
            if let Some(rest) = &self.rest {
                rest.connection.finish_handle().finish();
            }
        }
        let timeout = self.half_close_timeout;
        self.left
            .get_or_insert_with(|| Box::pin(sleep(timeout)))
            .as_mut()
            .poll(cx)
    }
}

impl<B> HttpBody for ResponseBody<B>
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
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.silence = None;
                if frame.is_none() || this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(frame.map(|result| result.map_err(BodyError::from)))
            }
            Poll::Pending => {
                if this.poll_silence(cx).is_ready() {
                    return Poll::Ready(Some(Err(BodyError::Idle)));
                }
                ready!(this.poll_left(cx));
                Poll::Ready(Some(Err(BodyError::HalfClose)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
