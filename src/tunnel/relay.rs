//! The relay: moves the bytes of a tunnel between any two streams until its
//! end. In tokio it is a future; the engine steps it itself.
//!
//! It reads into the thread's scratch buffer and writes at once to the other
//! side. What to forward and when to end is decided in `direction` and
//! `course`, how one direction moves in `pump`; this file puts them together.
//!
//! Invariant: a step says `Waits` only when each direction has asked the
//! streams it waits for, and owns no buffer then unless a sink is full.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
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
use super::pulse;
use super::pump::{Pump, Turn};
use super::registry::Ticket;
use super::scratch::Scratch;

/// Turns of both directions before other tunnels of the thread get theirs.
const TURNS_PER_STEP: usize = 4;

/// Bytes of each direction in one step, give or take the last read: reads
/// that are spliced are large.
const BYTES_PER_STEP: usize = 512 * 1024;

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

/// What a step came to.
pub(super) enum Step {
    Done(Outcome),
    Waits,
    /// It has had its share and could go on.
    Again,
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
        let is_framed = tunnel.limits.framing == Framing::WebSocket;
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

    /// Lets the sweep know of a deadline that is new since `before`.
    fn arm(&self, before: u32) {
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
        match this.step(cx, expired) {
            Step::Done(outcome) => Poll::Ready(outcome),
            Step::Waits => Poll::Pending,
            Step::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<C, B, X> Relay<C, B, X>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
    X: Bulk<C, B> + Bulk<B, C>,
{
    /// Moves what can be moved now. `expired`: the sweep has seen that the
    /// deadline is over.
    pub(super) fn step(&mut self, cx: &mut Context<'_>, expired: bool) -> Step {
        let deadline = self.deadline();
        self.obey(expired);
        // A side may have spoken, or have room, though nobody was told: so what it
        // has to say for itself goes before the verdict.
        let mut asks = expired && self.ticket.pulse().is_some();
        let mut scratch = Scratch::take();
        let mut left = [BYTES_PER_STEP; 2];
        for _ in 0..TURNS_PER_STEP {
            let mut again = false;
            for way in Way::BOTH {
                let turn = self.turn(cx, way, scratch.bytes(), &mut left[way as usize], asks);
                again |= self.conclude(way, turn);
            }
            if std::mem::take(&mut asks) {
                self.feel_pulse();
                again = true;
            }
            again |= self.settle();
            if self.course.is_done() {
                // A tunnel is done only after an end of stream, a reset or an
                // order, and each of them is noted.
                let began = self.course.began();
                let (ended_by, cause) = began.unwrap_or((Side::Longhaul, Cause::Reset));
                return Step::Done(self.outcome(ended_by, cause));
            }
            if !again {
                self.arm(deadline);
                return Step::Waits;
            }
            if left.contains(&0) {
                break;
            }
        }
        self.arm(deadline);
        Step::Again
    }

    /// Gives up a side that is dead, unless the end has begun.
    fn feel_pulse(&mut self) {
        let waiting = Way::BOTH.map(|way| self.course.direction(way).is_held_up());
        let (tunnel, pulse, now) = self.ticket.parts();
        let pulse = pulse.filter(|_| self.course.began().is_none());
        let Some(way) = pulse.and_then(|pulse| pulse.expired(now, waiting)) else {
            return;
        };
        let order = Arc::new(pulse::order(way.sink(), tunnel.limits.code()));
        // Otherwise another order was first, which is obeyed next.
        if tunnel.close(Arc::clone(&order)) {
            self.course.give_up(way, &order, &tunnel.limits, now);
            self.sever(way.sink());
            match way {
                Way::In => <X as Bulk<C, B>>::forsake(&mut self.backend),
                Way::Out => <X as Bulk<B, C>>::forsake(&mut self.client),
            }
        }
    }

    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        way: Way,
        scratch: &mut [u8],
        left: &mut usize,
        asks: bool,
    ) -> Turn {
        let ahead = self.ticket.take_ahead(way);
        let direction = self.course.direction(way);
        let (tunnel, pulse, now) = self.ticket.parts();
        match way {
            Way::In => Pump {
                way,
                direction,
                tunnel,
                pulse,
                now,
                source: &mut self.client,
                sink: &mut self.backend,
                left,
                gathers: false,
                asks,
            }
            .run::<X>(cx, &ahead, scratch),
            Way::Out => Pump {
                way,
                direction,
                tunnel,
                pulse,
                now,
                source: &mut self.backend,
                sink: &mut self.client,
                left,
                gathers: false,
                asks,
            }
            .run::<X>(cx, &ahead, scratch),
        }
    }

    /// Takes note of a turn's end; says whether another turn is due.
    fn conclude(&mut self, way: Way, turn: Turn) -> bool {
        match turn {
            Turn::Waits => return false,
            Turn::MayGoOn => {}
            Turn::SourceEnded(cause) => self.course.source_ended(way, cause),
            Turn::SourceBroke(cause) => {
                self.course.source_broke(way, cause);
                self.sever(way.source());
            }
            Turn::SinkBroke(cause) => {
                self.course.sink_broke(way, cause);
                self.sever(way.sink());
            }
        }
        true
    }

    /// Has the end of the other stream say that this side's broke.
    fn sever(&mut self, broken: Side) {
        match broken {
            Side::Client => <X as Bulk<C, B>>::sever(&mut self.backend),
            Side::Backend => <X as Bulk<B, C>>::sever(&mut self.client),
            Side::Longhaul => {}
        }
    }
}
