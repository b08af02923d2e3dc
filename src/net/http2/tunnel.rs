//! A stream as a byte stream, for tunnels: END_STREAM is the end of one way,
//! RST_STREAM an error of both (RFC 8441 section 5, RFC 9113 section 8.5).
//!
//! Invariant: a peer that opens no window is waited for no longer than it would
//! be on a socket of its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::{Broken, Stream};
use crate::net::Permit;

#[derive(Debug)]
pub struct Tunnel {
    stream: Arc<Stream>,
    /// How long no byte may be taken while there is one to send.
    patience: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    severed: bool,
    _place: Place,
}

/// What a stream takes up until its tunnel ends.
#[derive(Debug)]
pub enum Place {
    /// Of a client: its place under the connection limits.
    Client(Permit),
    /// Of a backend: one of those that its connection counts.
    Backend(Arc<()>),
}

impl Tunnel {
    /// `patience`: how long the peer may keep its window closed.
    pub fn new(stream: Arc<Stream>, patience: Duration, place: Place) -> Self {
        Self {
            stream,
            patience,
            stall: None,
            severed: false,
            _place: place,
        }
    }

    /// The other side of the tunnel was reset: so is this one, behind what was
    /// sent (RFC 8441 section 5).
    pub fn sever(&mut self) {
        self.severed = true;
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let patience = self.patience;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(Broken::Stalled.into()))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_fill(cx, buf).map_err(io::Error::from)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = this
            .stream
            .poll_send(cx, buf.len(), |count| Bytes::copy_from_slice(&buf[..count]));
        if sent.is_pending() {
            return this.poll_stalled(cx);
        }
        this.stall = None;
        sent.map_err(io::Error::from)
    }

    /// The connection's task sends what it was given by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.severed {
            // What was sent before, often a Close frame, arrives before the reset.
            ready!(self.stream.poll_sent(cx));
            self.stream.cut();
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.stream.finish(None).map_err(io::Error::from))
    }
}
