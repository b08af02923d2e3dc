//! A plain socket under the engine: system calls that do not block, and what
//! epoll has said of it.
//!
//! It speaks `AsyncRead` and `AsyncWrite` so that the one relay runs over it,
//! but knows no wakers: a call that finds the socket not ready says `Pending`,
//! and the thread's epoll tells of the change.
//!
//! Invariant: `readable` and `writable` are false only when the kernel will
//! report the next change. After a short read or write it will, so no call is
//! spent on hearing `EAGAIN`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pipes::Pipe;
use super::splice::Queued;

#[derive(Debug)]
pub(in crate::tunnel) struct Sock {
    fd: OwnedFd,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Something other than bytes is to be read behind them (an end, an error,
    /// urgent data) and the kernel has reported it already, so that a short
    /// read does not mean that the next one would wait.
    pub(super) more_than_bytes: bool,
    /// Reads in a row that filled the buffer: a sign of bulk.
    pub(super) full_reads: u8,
    /// Splices in a row that were hardly worth it.
    pub(super) thin_splices: u8,
    /// Bulk is going on.
    pub(super) splicing: bool,
    /// Bytes for this socket that were spliced and not taken yet.
    queued: Option<Box<Queued>>,
    /// Some of them were taken lately.
    progressed: bool,
    /// None of them were since the worker looked.
    stuck: bool,
}

impl Sock {
    pub(in crate::tunnel) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            // Epoll reports at once what can be read, and a new socket takes
            // bytes nearly always.
            readable: false,
            writable: true,
            more_than_bytes: false,
            full_reads: 0,
            thin_splices: 0,
            splicing: false,
            queued: None,
            progressed: false,
            stuck: false,
        }
    }

    /// What the thread's epoll is to report: all changes, once each.
    pub(super) const INTEREST: EventFlags = EventFlags::IN
        .union(EventFlags::OUT)
        .union(EventFlags::RDHUP)
        .union(EventFlags::PRI)
        .union(EventFlags::ET);

    /// Takes note of an event.
    pub(super) fn note(&mut self, event: EventFlags) {
        const ENDS: EventFlags = EventFlags::RDHUP
            .union(EventFlags::HUP)
            .union(EventFlags::ERR)
            .union(EventFlags::PRI);
        self.more_than_bytes |= event.intersects(ENDS);
        self.readable |= event.intersects(ENDS.union(EventFlags::IN));
        self.writable |= event.intersects(
            EventFlags::OUT
                .union(EventFlags::HUP)
                .union(EventFlags::ERR),
        );
    }

    /// The next read may wait, for the kernel has no more bytes.
    pub(super) fn drained(&mut self) {
        self.readable = self.more_than_bytes;
    }

    pub(super) fn stop_splicing(&mut self) {
        self.splicing = false;
        self.full_reads = 0;
    }

    pub(super) fn holds_pipe(&self) -> bool {
        self.queued
            .as_ref()
            .is_some_and(|queued| queued.holds_pipe())
    }

    /// Takes over spliced bytes that did not go out yet.
    pub(super) fn queue(&mut self, pipe: Pipe) {
        self.writable = false;
        self.stuck = false;
        self.queued = Some(Box::new(Queued::Pipe(pipe)));
    }

    /// Gives back a pipe that nothing has left since the last call.
    pub(super) fn reclaim_pipe(&mut self) {
        let stuck = std::mem::replace(&mut self.stuck, true);
        if let Some(queued) = self.queued.as_mut().filter(|_| stuck)
            && queued.leave_pipe().is_err()
        {
            // Bytes are lost, so no later one may reach the peer.
            let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
        }
    }

    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Ready once the socket has taken all that was spliced for it.
    pub(super) fn write_queued(&mut self) -> Poll<io::Result<()>> {
        while let Some(queued) = &mut self.queued {
            if !self.writable {
                return Poll::Pending;
            }
            match queued.write_to(&self.fd) {
                // Whether a short splice waits for space is not said, so only
                // EAGAIN counts.
                Ok(0) => self.queued = None,
                Ok(_) => (self.progressed, self.stuck) = (true, false),
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(error) => {
                    // Nobody will have the rest, and others need the pipe.
                    self.queued = None;
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while self.writable {
            match rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => {
                    self.writable = sent == bytes.len();
                    return Poll::Ready(Ok(sent));
                }
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Pending
    }
}

impl AsFd for Sock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsyncRead for Sock {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.readable {
            let free = buffer.initialize_unfilled();
            let room = free.len();
            match rustix::net::recv(&this.fd, free, RecvFlags::DONTWAIT) {
                Ok((read, _)) => {
                    if read == room {
                        this.full_reads = this.full_reads.saturating_add(1);
                    } else {
                        this.full_reads = 0;
                        if read > 0 {
                            this.drained();
                        }
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => this.readable = false,
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Pending
    }
}

impl AsyncWrite for Sock {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_queued())?;
        this.send(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().write_queued()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write_queued())?;
        rustix::net::shutdown(&this.fd, Shutdown::Write)?;
        Poll::Ready(Ok(()))
    }
}
