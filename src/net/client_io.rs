//! The stream below hyper's HTTP/1.1 server.
//!
//! It adds what hyper's server does not do:
//! - a client that ends its stream while its request is pending keeps the
//!   connection (hyper would drop the exchange), and the exchange is told, also
//!   where bytes behind the request keep hyper from reading (see
//!   [`super::departure`]);
//! - interim responses are written between responses;
//! - three read deadlines: first byte, request head, keep-alive;
//! - an ambiguous head is refused (see [`super::head_guard`]).
//!
//! Invariant: interim bytes are written only from `poll_flush`, which hyper
//! calls when its own write buffer is empty, so they never land inside a
//! response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::departure::Departure;
use super::head_guard::HeadGuard;
use super::patience::Patience;
use super::{ClientFault, ClientLink, Transport};

/// Deadlines of the reading side while no request is in flight.
#[derive(Clone, Copy, Debug)]
pub struct ReadDeadlines {
    pub first_byte: Duration,
    /// From the first byte of a head to its last.
    pub request_head: Duration,
    /// Between two requests.
    pub keepalive: Duration,
}

/// An accepted transport, dressed for hyper.
#[derive(Debug)]
pub struct ClientIo {
    transport: Transport,
    /// Read before it was clear that this is HTTP/1.1.
    ahead: Bytes,
    link: Arc<ClientLink>,
    deadlines: ReadDeadlines,
    phase: Phase,
    /// Requests that had begun when the phase was last settled.
    begun: u32,
    guard: HeadGuard,
    /// Whether the end of the stream has been read.
    at_end: bool,
    /// Whether a read waits for bytes: then it sees the client leave.
    reads: bool,
    /// While a request is pending and nothing reads.
    departure: Option<Departure>,
    patience: Patience,
    /// The read deadline.
    alarm: Alarm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    First,
    /// Part of a head has come.
    Head,
    /// A request is with the service.
    Exchange,
    /// A response is done and the next head has not begun.
    Idle,
}

impl ClientIo {
    /// `ahead` are the bytes that were read from the transport before.
    pub fn new(
        transport: Transport,
        ahead: Bytes,
        link: Arc<ClientLink>,
        deadlines: ReadDeadlines,
    ) -> Self {
        let mut io = Self {
            transport,
            ahead,
            link,
            deadlines,
            phase: Phase::First,
            begun: 0,
            guard: HeadGuard::default(),
            at_end: false,
            reads: false,
            departure: None,
            patience: Patience::default(),
            alarm: Alarm::default(),
        };
        io.arm(Some(deadlines.first_byte));
        io
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

    /// Ends the connection when the client takes no byte for so long, where the
    /// kernel does not see to it.
    #[must_use]
    pub fn with_patience(mut self, limit: Duration) -> Self {
        self.patience = Patience::with(&self.transport, limit);
        self
    }

    /// The bare transport, for the tunnel; after a head has been read, so that
    /// nothing is ahead of it.
    pub fn into_transport(self) -> Transport {
        self.transport
    }

    fn arm(&mut self, timeout: Option<Duration>) {
        self.alarm
            .set(timeout.map(|timeout| Instant::now() + timeout));
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == phase && phase != Phase::Idle {
            return;
        }
        self.phase = phase;
        self.arm(match phase {
            Phase::First => Some(self.deadlines.first_byte),
            Phase::Head => Some(self.deadlines.request_head),
            Phase::Idle => Some(self.deadlines.keepalive),
            Phase::Exchange => None,
        });
    }

    /// Ready with the read deadline that has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<ClientFault> {
        ready!(self.alarm.poll(cx));
        Poll::Ready(match self.phase {
            Phase::First => ClientFault::FirstByte,
            Phase::Idle => ClientFault::Keepalive,
            Phase::Head | Phase::Exchange => ClientFault::RequestHead,
        })
    }

    /// Tells the exchange if the client leaves while its request is pending and
    /// nothing reads.
    fn poll_departure(&mut self, cx: &mut Context<'_>) {
        let unseen = self.link.is_in_flight()
            && self.link.is_request_whole()
            && !self.link.is_ended()
            && !self.reads
            && self.guard.is_ahead();
        if !unseen {
            self.departure = None;
            return;
        }
        if self.departure.is_none() {
            // Without a descriptor it is noticed when the answer is written.
            let socket = self.transport.socket();
            self.departure = socket.and_then(|socket| Departure::of(socket).ok());
        }
        if let Some(departure) = &mut self.departure
            && departure.poll(cx).is_ready()
        {
            self.link.end_behind_bytes();
        }
    }

    /// Notes the fault, answers it if it can be done at once, and ends the
    /// reading.
    fn fail(&mut self, fault: ClientFault, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.fail(fault);
        if let Some(answer) = fault.answer() {
            // Best effort: the client is slow, hostile or gone.
            let _ = Pin::new(&mut self.transport).poll_write(cx, answer);
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.link.register_connection(cx);
        let begun = this.link.begun();
        if this.link.is_in_flight() || this.link.is_body_pending() {
            // A body may go on arriving behind the response; it has a deadline
            // of its own.
            this.enter(Phase::Exchange);
        } else if begun != this.begun {
            // Responses have been sent since, perhaps without a read between.
            this.begun = begun;
            this.enter(Phase::Idle);
        }
        if this.at_end {
            // Told once; hyper learns of it when the response is done.
            return if this.link.is_in_flight() {
                Poll::Pending
            } else {
                Poll::Ready(Ok(()))
            };
        }
        let before = buf.filled().len();
        let read = this.poll_transport(cx, buf);
        this.reads = read.is_pending();
        match read {
            Poll::Pending => {
                let fault = ready!(this.poll_deadline(cx));
                this.fail(fault, cx)
            }
            Poll::Ready(Ok(())) if buf.filled().len() == before => {
                this.at_end = true;
                this.link.end();
                if this.link.is_in_flight() {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                }
            }
            Poll::Ready(Ok(())) => {
                if matches!(this.phase, Phase::First | Phase::Idle) {
                    this.guard.next_head();
                    this.enter(Phase::Head);
                }
                match this.guard.check(&buf.filled()[before..]) {
                    Ok(()) => Poll::Ready(Ok(())),
                    Err(ambiguous) => this.fail(ambiguous.into(), cx),
                }
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for ClientIo {
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
        this.link.register_connection(cx);
        this.poll_departure(cx);
        let transport = &mut this.transport;
        ready!(
            this.link
                .drain_interim(|bytes| Pin::new(&mut *transport).poll_write(cx, bytes))
        )?;
        Pin::new(transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
