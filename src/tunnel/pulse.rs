//! The pulse of a tunnel: when a side is to be pinged, and when one that gives
//! no sign of life counts as dead. For peers whose kernel answers and whose
//! program hangs; without pings a tunnel has none.
//!
//! It reads no clock, polls nothing and closes nothing. Anything that comes
//! from a side is a sign of life; so is that it takes bytes which had waited
//! for it. A ping goes out only after `interval` without one.
//!
//! Invariant: a side is given up no sooner than `timeout` after it was given
//! a ping, or had left bytes waiting, during which it gave no sign of life and
//! could have; and a side that takes none of the bytes that wait for it is given
//! up within `interval` and twice `timeout`, each rounded up to the next look.

use super::clock::{self, NEVER, Ticks, later};
use super::direction::Way;
use super::entry::CloseOrder;
use super::facts::reason;
use super::options::{Codes, Framing, Options};
use super::outcome::{Cause, Side};
use crate::config::{Ending, PingSide};
use crate::ws::pong::PongWatch;

#[derive(Debug)]
pub(super) struct Pulse {
    interval: Ticks,
    timeout: Ticks,
    /// How far apart the looks are.
    step: Ticks,
    codes: Codes,
    /// Of each side that is pinged, by the way whose source it is.
    beats: [Option<Beat>; 2],
}

/// The pulse of one side.
#[derive(Debug)]
struct Beat {
    watch: PongWatch,
    /// When it last gave a sign of life.
    heard: Ticks,
    /// When to look at it. Late where it has been heard meanwhile, so that
    /// bytes move no deadline.
    due: Ticks,
    stage: Stage,
    /// Once it is sent a ping: until when it may leave it unanswered.
    patience: Ticks,
    /// A sign of life has come since this stage began.
    answered: bool,
    /// At the last look bytes waited for it.
    stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Quiet,
    /// A ping is to go out at the next frame boundary.
    Wanted,
    Sent,
}

impl Pulse {
    /// `None` if nobody is to be pinged.
    pub(super) fn new(options: &Options, now: Ticks) -> Option<Self> {
        let pings = options.clocks.pings?;
        if options.framing != Framing::WebSocket {
            return None;
        }
        let interval = clock::span(pings.interval);
        let step = clock::step(interval);
        let due = clock::look(later(now, interval), step);
        let beat = |other| (pings.side != other).then(|| Beat::new(now, due));
        Some(Self {
            interval,
            timeout: clock::span(pings.timeout),
            step,
            codes: options.close.codes,
            beats: [beat(PingSide::Backend), beat(PingSide::Client)],
        })
    }

    /// When `expired` can find something.
    pub(super) fn due(&self) -> Ticks {
        let beats = self.beats.iter().flatten();
        beats.map(|beat| beat.due).min().unwrap_or(NEVER)
    }

    /// The source of `way` has given a sign of life.
    pub(super) fn heard(&mut self, way: Way, now: Ticks) {
        if let Some(beat) = &mut self.beats[way as usize] {
            beat.heard = now;
            beat.answered = true;
        }
    }

    /// What knows the answers of the source of `way`.
    pub(super) fn watch(&mut self, way: Way) -> Option<&mut PongWatch> {
        let beat = self.beats[way as usize].as_mut();
        beat.map(|beat| &mut beat.watch)
    }

    /// Whether a ping is to go to the sink of `way`.
    pub(super) fn wants_ping(&self, way: Way) -> bool {
        let beat = &self.beats[way.reverse() as usize];
        let wants = |beat: &Beat| beat.stage == Stage::Wanted && !beat.answered;
        beat.as_ref().is_some_and(wants)
    }

    /// The ping to the sink of `way`, which goes out now.
    pub(super) fn ping(&mut self, way: Way, now: Ticks) -> Vec<u8> {
        let Some(beat) = &mut self.beats[way.reverse() as usize] else {
            return Vec::new();
        };
        beat.stage = Stage::Sent;
        beat.patience = later(now, self.timeout);
        // Whoever has answered by then may have been silent again for long enough.
        let next = later(now, self.interval.min(self.timeout));
        beat.due = clock::look(next, self.step);
        // Fresh and unpredictable for each frame (RFC 6455 section 5.3).
        beat.watch.ping((way == Way::In).then(rand::random))
    }

    /// Looks at the sides whose time is over; the way to one that is dead.
    /// `waiting`: the ways whose sink has not taken what waits for it.
    pub(super) fn expired(&mut self, now: Ticks, waiting: [bool; 2]) -> Option<Way> {
        let (spans, step) = ([self.interval, self.timeout], self.step);
        // Where neither takes anything it is mostly the client that hangs: its backend
        // may be waiting for room itself.
        let ways = match waiting {
            [true, true] => [Way::Out, Way::In],
            _ => Way::BOTH,
        };
        ways.into_iter().find(|way| {
            let from = way.reverse() as usize;
            let beat = self.beats[from].as_mut();
            let (stuck, unheard) = (waiting[*way as usize], waiting[from]);
            beat.is_some_and(|beat| {
                let looks = beat.due <= now;
                let dead = looks && beat.is_dead(now, spans, stuck, unheard);
                beat.due = clock::look(beat.due, step);
                dead
            })
        })
    }

    /// The order by which a tunnel ends whose peer is dead: what the other one is
    /// told.
    pub(super) fn order(&self, dead: Side) -> CloseOrder {
        let code = match dead {
            Side::Backend => self.codes.backend_hangs,
            _ => self.codes.client_hangs,
        };
        CloseOrder {
            cause: Cause::PingTimeout,
            code,
            reason: reason(Ending::PingTimeout).into(),
        }
    }
}

impl Beat {
    fn new(now: Ticks, due: Ticks) -> Self {
        Self {
            watch: PongWatch::new(payload()),
            heard: now,
            due,
            stage: Stage::Quiet,
            patience: NEVER,
            answered: false,
            stuck: false,
        }
    }

    /// `stuck`: bytes wait for it. `unheard`: those it has sent wait for the
    /// other side, so nothing more is read from it, and it is not to blame.
    fn is_dead(
        &mut self,
        now: Ticks,
        [interval, timeout]: [Ticks; 2],
        stuck: bool,
        unheard: bool,
    ) -> bool {
        if self.stage == Stage::Quiet || self.answered {
            let quiet_until = later(self.heard, interval);
            let quiet = quiet_until > now;
            (self.stage, self.due) = match quiet {
                true => (Stage::Quiet, quiet_until),
                false => (Stage::Wanted, later(now, timeout)),
            };
            (self.answered, self.stuck) = (false, stuck && !quiet);
            return false;
        }
        if self.stage == Stage::Sent && now < self.patience {
            self.due = self.patience;
            return false;
        }
        // An open frame of the other side may keep the ping from going out for
        // long. That this side takes none of it shows all the same.
        let dead = self.stage == Stage::Sent && !unheard || self.stuck && stuck;
        self.stuck = stuck;
        self.due = later(now, timeout);
        dead
    }
}

/// Nobody else can know it.
#[cfg(not(test))]
fn payload() -> [u8; 8] {
    rand::random()
}

/// The tests know whose pings they see.
#[cfg(test)]
fn payload() -> [u8; 8] {
    *super::tests::PAYLOAD
}
