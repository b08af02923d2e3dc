//! How a tunnel comes to its end: both directions together, the closing
//! handshakes, the deadlines and who began it; without the streams.
//!
//! A *polite* end forwards each way up to a message boundary, sends a Close
//! frame there unless one has gone that way, and then waits for the answers
//! (RFC 6455 section 7.1). A *plain* end forwards nothing more, shuts both
//! ways and reads on for a moment. It does not poll and reads no clock.
//!
//! A stream that breaks takes along what was to go to it and nothing else.
//!
//! Invariant: every phase but `Open` has a deadline, and so has `Open` once one
//! side has ended; each deadline leads to a later phase.

use super::clock::{NEVER, Ticks, later};
use super::direction::{CloseSent, Direction, Flow, Sink, Way};
use super::entry::{CloseOrder, State};
use super::options::{LINGER, Limits};
use super::outcome::{Cause, Side};
use crate::ws::close::{GOING_AWAY, INTERNAL_ERROR, close_frame};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Forwarding, until the peers end it.
    Open,
    Polite,
    Plain,
    /// Out of time: whatever is left is dropped.
    Over,
}

#[derive(Debug)]
pub(super) struct Course {
    directions: [Direction; 2],
    /// When `expire` is due.
    deadline: Ticks,
    phase: Phase,
    began: Option<(Side, Cause)>,
    /// Whose stream broke first.
    broke: Option<Side>,
}

impl Course {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            directions: Way::BOTH.map(|_| Direction::new(limits.framing())),
            deadline: NEVER,
            phase: Phase::Open,
            began: None,
            broke: None,
        }
    }

    pub(super) fn direction(&mut self, way: Way) -> &mut Direction {
        &mut self.directions[way as usize]
    }

    pub(super) fn deadline(&self) -> Ticks {
        self.deadline
    }

    /// Who began the end, and why; `None` while nobody has.
    pub(super) fn began(&self) -> Option<(Side, Cause)> {
        self.began
    }

    /// The status code of the Close frame that `way`'s source has sent.
    pub(super) fn close_code(&self, way: Way) -> Option<u16> {
        self.directions[way as usize].cursor.close()?.code
    }

    /// Which ways have bytes that their sink has not taken.
    pub(super) fn backlog(&self) -> [bool; 2] {
        self.directions.each_ref().map(Direction::is_held_up)
    }

    /// Whether `way`'s source has sent what is no frame.
    pub(super) fn is_lost(&self, way: Way) -> bool {
        self.directions[way as usize].cursor.is_lost()
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Over || self.directions.iter().all(Direction::is_done)
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Open if self.began.is_none() => State::Open,
            Phase::Open => State::HalfClosed,
            _ => State::Closing,
        }
    }

    /// The source of `way` has ended its stream.
    pub(super) fn source_ended(&mut self, way: Way, cause: Cause) {
        self.note_closes();
        self.begin(way.source(), cause);
        self.direction(way).source_ended = true;
    }

    /// The source of `way` has broken: nothing comes from there, and nothing goes
    /// there any more.
    pub(super) fn source_broke(&mut self, way: Way, cause: Cause) {
        self.note_break(way.source(), cause);
        self.direction(way).source_ended = true;
        self.direction(way.reverse()).lose_sink();
    }

    /// The sink of `way` has broken. What its peer sent before may still be on
    /// its way to a slow reader, so the other way goes on to its own end. A peer
    /// that has been given up may never come to one: nothing more is waited for.
    pub(super) fn sink_broke(&mut self, way: Way, cause: Cause) {
        self.note_break(way.sink(), cause);
        self.direction(way).lose_sink();
        if matches!(cause, Cause::PeerTimeout | Cause::PingTimeout) {
            self.direction(way.reverse()).source_ended = true;
        }
    }

    /// The sink of `way` counts as dead: the other side is told by `order`.
    pub(super) fn give_up(&mut self, way: Way, order: &CloseOrder, limits: &Limits, now: Ticks) {
        self.begin(way.sink(), order.cause);
        self.ordered(order, limits, now);
        self.sink_broke(way, order.cause);
    }

    /// The source of `way` has sent more than it may, and both sides are told.
    pub(super) fn breached(&mut self, way: Way, order: &CloseOrder, limits: &Limits, now: Ticks) {
        self.note_closes();
        if !matches!(self.began, Some((_, Cause::Close(_)))) {
            self.began = Some((way.source(), order.cause));
        }
        self.ordered(order, limits, now);
    }

    fn note_break(&mut self, side: Side, cause: Cause) {
        self.note_closes();
        self.begin(side, cause);
        self.broke.get_or_insert(side);
    }

    /// An order to close. It counts as the beginning of the end unless a Close
    /// frame was before it.
    pub(super) fn ordered(&mut self, order: &CloseOrder, limits: &Limits, now: Ticks) {
        if self.phase != Phase::Open {
            return;
        }
        self.note_closes();
        self.began_by_longhaul(order.cause);
        // One that has stopped in time stands at a boundary, whatever came then.
        let nowhere = |it: &Direction| it.cursor.is_lost() && it.flow != Flow::Stopped;
        if self.directions.iter().any(nowhere) {
            self.end_plainly(now);
            return;
        }
        self.phase = Phase::Polite;
        self.deadline = self.deadline.min(later(now, limits.close));
        for way in Way::BOTH {
            let answered = self.directions[way.reverse() as usize].close_sent == CloseSent::Theirs;
            let direction = self.direction(way);
            if !direction.source_ended {
                // The source owes an answer to the Close that went to it: that
                // one goes through rather than ours.
                direction.stop_at(if answered && direction.close_sent == CloseSent::No {
                    Flow::UntilClose
                } else {
                    Flow::UntilBoundary
                });
            }
        }
    }

    /// The deadline is over.
    pub(super) fn expired(&mut self, now: Ticks) {
        if self.deadline > now {
            return;
        }
        match self.phase {
            Phase::Open => {
                if self.broke.is_none() && !self.both_closes_sent() {
                    self.began = Some((Side::Longhaul, Cause::HalfCloseTimeout));
                }
                self.end_plainly(now);
            }
            Phase::Polite => self.end_plainly(now),
            Phase::Plain | Phase::Over => self.phase = Phase::Over,
        }
    }

    /// Draws the conclusions from what the directions have become. To be called
    /// after every step and before waiting; says whether there is something
    /// new to write, to shut or to discard.
    pub(super) fn settle(
        &mut self,
        order: Option<&CloseOrder>,
        limits: &Limits,
        now: Ticks,
    ) -> bool {
        self.note_closes();
        if self.began.is_none() {
            return false;
        }
        let mut news = false;
        if self.phase == Phase::Polite && self.directions.iter().any(Direction::is_adrift) {
            self.end_plainly(now);
            news = true;
        }
        let all_shut = |directions: &[Direction]| directions.iter().all(|it| it.sink == Sink::Shut);
        if self.phase == Phase::Open && all_shut(&self.directions) {
            // After a break a peer may have nothing left to be told.
            self.end_plainly(now);
        }
        match (self.phase, order) {
            (Phase::Open, _) => self.arm_half_close(limits, now),
            (Phase::Polite, Some(order)) => news |= self.say_close(order),
            _ => {}
        }
        for way in Way::BOTH {
            let due = self.sink_is_due(way);
            let direction = self.direction(way);
            if due && direction.sink == Sink::Open {
                direction.sink = Sink::Shutting;
                news = true;
            }
        }
        news
    }

    /// Whether nothing more will go to the sink of `way`.
    fn sink_is_due(&self, way: Way) -> bool {
        let direction = &self.directions[way as usize];
        let back = &self.directions[way.reverse() as usize];
        if direction.flow != Flow::Stopped {
            return direction.source_ended;
        }
        if self.phase != Phase::Polite || direction.close_sent == CloseSent::No {
            return true;
        }
        // The server closes TCP first (RFC 6455 section 7.1.1): longhaul does
        // so towards the client, and waits for the backend to do it. An answer
        // that nobody could read is not waited for.
        let answered = back.cursor.close().is_some() || back.cursor.is_lost();
        back.source_ended || (way == Way::Out && answered)
    }

    /// Puts our Close frame where a direction has stopped without one.
    fn say_close(&mut self, order: &CloseOrder) -> bool {
        let mut said = false;
        for way in Way::BOTH {
            let Some((code, reason)) = self.farewell(way, order) else {
                continue;
            };
            let direction = self.direction(way);
            let stopped = direction.flow == Flow::Stopped && direction.sink == Sink::Open;
            if stopped && direction.close_sent == CloseSent::No {
                // Fresh and unpredictable for each frame (RFC 6455 section 5.3).
                let mask = (way == Way::In).then(rand::random);
                direction.keep(&close_frame(Some(code), reason, mask));
                direction.close_sent = CloseSent::Ours;
                said = true;
            }
        }
        said
    }

    /// What the sink of `way` is told. A peer that has sent nothing it may not is not
    /// told that it has.
    fn farewell<'o>(&self, way: Way, order: &'o CloseOrder) -> Option<(u16, &'o str)> {
        match self.began {
            Some((side, cause)) if cause.is_breach() && way.sink() != side => {
                let code = match side {
                    Side::Backend => INTERNAL_ERROR,
                    Side::Client | Side::Longhaul => GOING_AWAY,
                };
                Some((code, "the other side has broken a limit"))
            }
            _ => Some((order.code?, &order.reason)),
        }
    }

    /// One side has ended: by its stream or a Close frame. The other has
    /// `half_close_timeout` to follow; once both have sent a Close, they have
    /// the time of a close by longhaul to end their streams.
    fn arm_half_close(&mut self, limits: &Limits, now: Ticks) {
        if self.deadline == NEVER {
            self.deadline = later(now, limits.half_close);
        }
        if self.both_closes_sent() {
            self.deadline = self.deadline.min(later(now, limits.close));
        }
    }

    fn end_plainly(&mut self, now: Ticks) {
        self.phase = Phase::Plain;
        self.deadline = later(now, LINGER);
        for direction in &mut self.directions {
            direction.flow = Flow::Stopped;
        }
    }

    /// Notes the first Close frame that was forwarded as the beginning of the
    /// end. An end of stream without one before it stays the beginning.
    fn note_closes(&mut self) {
        for way in Way::BOTH {
            let direction = &self.directions[way as usize];
            if let (CloseSent::Theirs, Some(close)) =
                (direction.close_sent, direction.cursor.close())
            {
                let (side, cause) = (way.source(), Cause::Close(close.code));
                self.begin(side, cause);
                // It was sent before the stream broke, though it is read after.
                if self.broke == Some(side) && self.began.is_some_and(|(by, _)| by == side) {
                    self.began = Some((side, cause));
                }
            }
        }
    }

    fn begin(&mut self, side: Side, cause: Cause) {
        if self.began.is_none() {
            self.began = Some((side, cause));
        }
    }

    fn began_by_longhaul(&mut self, cause: Cause) {
        let stands = |cause: Cause| {
            matches!(cause, Cause::Close(_) | Cause::PingTimeout) || cause.is_breach()
        };
        if !self.began.is_some_and(|(_, cause)| stands(cause)) {
            self.began = Some((Side::Longhaul, cause));
        }
    }

    fn both_closes_sent(&self) -> bool {
        self.directions
            .iter()
            .all(|direction| direction.close_sent == CloseSent::Theirs)
    }
}
