//! The stream below `h2`'s connection: gives back what was read before, and
//! counts frames that ask for work and bring nothing.
//!
//! Invariant: once there were too many it reads no more, so that nothing behind
//! them is acted on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::calm::Calm;
use super::frames::Frames;
use crate::net::Transport;

#[derive(Debug)]
pub struct Io {
    transport: Transport,
    ahead: Bytes,
    frames: Frames,
    calm: Arc<Calm>,
}

impl Io {
    /// `ahead` are the bytes that were read from the transport before.
    pub fn new(transport: Transport, ahead: Bytes, calm: Arc<Calm>) -> Self {
        Self {
            transport,
            ahead,
            frames: Frames::default(),
            calm,
        }
    }

    fn poll_transport(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.transport).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.calm.is_lost() {
            // The connection's task sees that too, and ends it.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = this.poll_transport(cx, buf);
        let calm = &this.calm;
        this.frames.follow(&buf.filled()[before..], |frame| {
            if frame.asks_for_work() {
                calm.control_frame();
            }
        });
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
