//! The stream below hyper's HTTP/1.1 client.
//!
//! It adds one thing: the sending side can be ended from outside while hyper
//! waits for the response, which is how a client's half-close is passed on.
//!
//! Invariant: the sending side ends only in `poll_flush`, which hyper calls when
//! its own write buffer is empty, so no byte of a request is cut off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Transport;
use super::patience::Patience;

/// A dialled transport, dressed for hyper.
#[derive(Debug)]
pub struct BackendIo {
    transport: Transport,
    finish: Finish,
    state: Sending,
    patience: Patience,
}

/// The handle that ends the sending side of a [`BackendIo`].
#[derive(Clone, Debug, Default)]
pub struct Finish(Arc<FinishState>);

#[derive(Debug, Default)]
struct FinishState {
    wanted: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    Ending,
    Ended,
}

impl Finish {
    /// Ends the sending side (FIN, after `close_notify` on TLS). The request
    /// must have been sent whole.
    pub fn finish(&self) {
        self.0.wanted.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    pub fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Acquire)
    }
}

impl BackendIo {
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            finish: Finish::default(),
            state: Sending::Open,
            patience: Patience::default(),
        }
    }

    /// Ends the connection when the backend takes no byte for so long, where the
    /// kernel does not see to it.
    #[must_use]
    pub fn with_patience(mut self, limit: Duration) -> Self {
        self.patience = Patience::with(&self.transport, limit);
        self
    }

    pub fn finish_handle(&self) -> Finish {
        self.finish.clone()
    }

    /// The bare transport, for the tunnel.
    pub fn into_transport(self) -> Transport {
        self.transport
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) {
        if self.state == Sending::Ended {
            return;
        }
        if self.state == Sending::Open {
            self.finish.0.waker.register(cx.waker());
            if !self.finish.is_wanted() {
                return;
            }
            self.state = Sending::Ending;
        }
        // An error here shows itself to the reader as well.
        if Pin::new(&mut self.transport).poll_shutdown(cx).is_ready() {
            self.state = Sending::Ended;
        }
    }
}

impl AsyncRead for BackendIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for BackendIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.transport).poll_write(cx, buf);
        this.patience.bound(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.transport).poll_write_vectored(cx, bufs);
        this.patience.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.transport).poll_flush(cx))?;
        this.poll_finish(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
