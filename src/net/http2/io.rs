//! The stream below `h2`'s connection: gives back what was read before, and shows
//! `h2` what the sieve makes of the client's bytes.
//!
//! Invariant: once the connection is to end it reads no more; and the sieve gives
//! out nothing of what was read with the cause, so nothing behind it is acted on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::calm::Calm;
use super::sieve::{Bounds, Sieve};
use crate::net::Transport;

#[derive(Debug)]
pub struct Io {
    transport: Transport,
    ahead: Bytes,
    sieve: Sieve,
    calm: Arc<Calm>,
}

impl Io {
    /// `ahead` are the bytes that were read from the transport before.
    pub fn new(transport: Transport, ahead: Bytes, bounds: Bounds, calm: Arc<Calm>) -> Self {
        Self {
            transport,
            ahead,
            sieve: Sieve::new(bounds),
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
        loop {
            let out = this.sieve.out();
            if !out.is_empty() {
                let count = out.len().min(buf.remaining());
                buf.put_slice(&out[..count]);
                out.drain(..count);
                if out.is_empty() {
                    *out = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.calm.is_lost() {
                // The connection's task sees that too, and ends it.
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(this.poll_transport(cx, buf))?;
            let read = buf.filled().len() - before;
            let passed = this.sieve.pass(&buf.filled()[before..], &this.calm);
            buf.set_filled(before + passed);
            if passed > 0 || read == 0 {
                return Poll::Ready(Ok(()));
            }
        }
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
