//! One step of a relay: both directions in turns, until nothing can be moved or
//! the tunnel has had its share.
//!
//! It waits for nothing and knows no clock but the ticket's; what a turn's end
//! means is the course's to say.
//!
//! Invariant: a step says `Waits` only when each direction has asked the
//! streams it waits for, and owns no buffer then unless a sink is full.

use std::sync::Arc;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Relay;
use crate::tunnel::bulk::Bulk;
use crate::tunnel::direction::Way;
use crate::tunnel::outcome::{Cause, Outcome, Side};
use crate::tunnel::pump::{Pump, Turn};
use crate::tunnel::quota::Breach;
use crate::tunnel::scratch::Scratch;

/// Turns of both directions before other tunnels of the thread get theirs.
const TURNS_PER_STEP: usize = 4;

/// Bytes of each direction in one step, give or take the last read: reads
/// that are spliced are large.
const BYTES_PER_STEP: usize = 128 * 1024;

/// The same of who exchanges messages: others need not wait to see whether it is more.
const BYTES_OF_MESSAGES: usize = 32 * 1024;

/// How much a step may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tunnel) enum Quantum {
    Messages,
    /// Of who moves much, and takes turns with others who do.
    Bulk,
}

/// What a step came to.
pub(in crate::tunnel) enum Step {
    Done(Outcome),
    /// Nothing more can be moved; what fits the next step.
    Waits(Quantum),
    /// It has had its quantum and could go on.
    Again,
}

impl Quantum {
    /// What fits who has moved so many bytes in a step.
    fn after(moved: usize) -> Self {
        match moved < BYTES_OF_MESSAGES {
            true => Self::Messages,
            false => Self::Bulk,
        }
    }

    /// Of each direction.
    fn bytes(self) -> usize {
        match self {
            Self::Messages => BYTES_OF_MESSAGES,
            Self::Bulk => BYTES_PER_STEP,
        }
    }
}

impl<C, B, X> Relay<C, B, X>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
    X: Bulk<C, B> + Bulk<B, C>,
{
    /// Moves what can be moved now, and no more than the quantum. `expired`: the sweep
    /// has seen that the deadline is over.
    pub(in crate::tunnel) fn step(
        &mut self,
        cx: &mut Context<'_>,
        expired: bool,
        quantum: Quantum,
    ) -> Step {
        let deadline = self.deadline();
        self.obey(expired);
        // A side may have spoken, or have room, though nobody was told: so what it
        // has to say for itself goes before the verdict.
        let mut asks = expired && self.ticket.pulse().is_some();
        let mut scratch = Scratch::take();
        let mut left = [quantum.bytes(); 2];
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
            if let Some((way, breach)) = self.ticket.take_breach() {
                self.breached(way, breach);
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
                let moved = left.iter().map(|left| quantum.bytes() - left).sum();
                return Step::Waits(Quantum::after(moved));
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
        let (tunnel, (pulse, _), now) = self.ticket.parts();
        let Some(pulse) = pulse.filter(|_| self.course.began().is_none()) else {
            return;
        };
        let Some(way) = pulse.expired(now, waiting) else {
            return;
        };
        let order = Arc::new(pulse.order(way.sink()));
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

    /// The source of `way` has sent more than it may.
    fn breached(&mut self, way: Way, breach: Breach) {
        let order = Arc::new(breach.order());
        let (tunnel, now) = (self.ticket.tunnel(), self.ticket.now());
        // Otherwise another order was first, which is obeyed.
        if tunnel.close(Arc::clone(&order)) {
            self.course.breached(way, &order, &tunnel.limits, now);
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
        let (tunnel, (pulse, quota), now) = self.ticket.parts();
        match way {
            Way::In => Pump {
                way,
                direction,
                tunnel,
                pulse,
                quota,
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
                quota,
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
