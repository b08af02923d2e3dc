//! The relay: moves the bytes of a tunnel between any two streams until its
//! end. In tokio it is a future; the engine steps it itself.
//!
//! It reads into the thread's scratch buffer and writes at once to the other
//! side. What to forward and when to end is decided in `direction` and
//! `course`, how one direction moves in `pump`; `step` puts them together. This
//! file has what the relay is, and what of its course others get to know.
//!
//! Invariant: the sweep knows of the earliest deadline whenever no step runs.

mod step;

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::bulk::{Bulk, Copying};
use super::clock::Ticks;
use super::course::Course;
use super::direction::Way;
use super::entry::State;
use super::options::Framing;
use super::outcome::{Cause, Outcome, Side};
use super::registry::Ticket;

pub(super) use self::step::{Quantum, Step};

/// One side of a tunnel.
pub struct Leg<S> {
    pub stream: S,
    /// Bytes that were read from the stream together with the response or
    /// request head; they are forwarded first.
    pub read_ahead: Bytes,
}

/// A running tunnel; resolves with how it ended.
///
/// It holds the streams and the ticket. Permits and leases stay with the task
/// that awaits it, and so live as long as the tunnel.
#[must_use = "futures do nothing unless polled"]
pub struct Relay<C, B, X = Copying> {
    client: C,
    backend: B,
    course: Course,
    ticket: Ticket,
    bulk: PhantomData<fn() -> X>,
}

/// Joins both sides, from the next byte on.
pub fn relay<C, B>(client: Leg<C>, backend: Leg<B>, ticket: Ticket) -> Relay<C, B> {
    Relay::new(client, backend, ticket)
}

impl<C, B, X> Relay<C, B, X> {
    pub(super) fn new(client: Leg<C>, backend: Leg<B>, mut ticket: Ticket) -> Self {
        ticket.keep_ahead([client.read_ahead, backend.read_ahead]);
        if let Some(pulse) = ticket.pulse() {
            ticket.arm(pulse.due());
        }
        Self {
            client: client.stream,
            backend: backend.stream,
            course: Course::new(&ticket.tunnel().limits),
            ticket,
            bulk: PhantomData,
        }
    }

    pub(super) fn client(&mut self) -> &mut C {
        &mut self.client
    }

    pub(super) fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Drops both streams where they stand, because of `cause` unless the end
    /// had begun.
    pub(super) fn abandon(self, by: Side, cause: Cause) -> (Ticket, Outcome) {
        let (ended_by, cause) = self.course.began().unwrap_or((by, cause));
        let outcome = self.outcome(ended_by, cause);
        (self.ticket, outcome)
    }

    /// Drops both streams after the end.
    pub(super) fn into_ticket(self) -> Ticket {
        self.ticket
    }

    fn outcome(&self, ended_by: Side, cause: Cause) -> Outcome {
        let tunnel = self.ticket.tunnel();
        // Where there are no frames, none is ever read.
        let is_framed = tunnel.limits.framing() == Framing::WebSocket;
        Outcome {
            client_close_code: self.course.close_code(Way::In),
            backend_close_code: self.course.close_code(Way::Out),
            client_unreadable: is_framed && self.course.is_lost(Way::In),
            ..tunnel.outcome(ended_by, cause)
        }
    }

    fn obey(&mut self, expired: bool) {
        let (tunnel, now) = (self.ticket.tunnel(), self.ticket.now());
        if let Some(order) = tunnel.order() {
            self.course.ordered(order, &tunnel.limits, now);
        }
        if expired {
            self.course.expired(now);
        }
        self.settle();
    }

    fn settle(&mut self) -> bool {
        let (tunnel, now) = (self.ticket.tunnel(), self.ticket.now());
        let order = tunnel.order().map(|order| &**order);
        self.course.settle(order, &tunnel.limits, now)
    }

    /// When to step it though nothing happens.
    fn deadline(&self) -> Ticks {
        let deadline = self.course.deadline();
        match self.ticket.pulse() {
            Some(pulse) if self.course.began().is_none() => deadline.min(pulse.due()),
            _ => deadline,
        }
    }

    /// Lets the sweep know of a deadline that is new since `before`, and everyone
    /// where the tunnel stands.
    fn arm(&self, before: u32) {
        self.ticket.tunnel().set_backlog(self.course.backlog());
        let state = self.course.state();
        if state != State::Open {
            self.ticket.tunnel().set_state(state);
        }
        let deadline = self.deadline();
        if deadline != before {
            self.ticket.arm(deadline);
        }
    }
}

impl<C, B, X> Future for Relay<C, B, X>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
    X: Bulk<C, B> + Bulk<B, C>,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        let expired = this.ticket.tunnel().listen(cx.waker());
        match this.step(cx, expired, Quantum::Bulk) {
            Step::Done(outcome) => Poll::Ready(outcome),
            Step::Waits(_) => Poll::Pending,
            Step::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
