//! What a side of a tunnel may send: how large its frames and messages are, and how
//! many come in which time. Without such limits a tunnel has none.
//!
//! It reads frame headers before anything of them is forwarded, and holds what has
//! come of one until its length is known: what is too large never begins at the
//! other side, which stands between two frames and can be told. It polls nothing,
//! reads no clock and closes nothing.
//!
//! Invariant: what it lets pass are the bytes that came, once and in order; and of
//! a header that it refuses nothing passes, nor of one that cannot be: behind that
//! nobody could count.

use super::clock::Ticks;
use super::direction::Way;
use super::facts::CloseOrder;
use super::options::{Framing, Options};
use super::outcome::Cause;
use crate::config::{ByteRate, LimitedSide, MessageLimits, Rate};
use crate::ws::close::{MESSAGE_TOO_BIG, POLICY_VIOLATION, PROTOCOL_ERROR};
use crate::ws::frame::FrameCursor;
use crate::ws::head::Head;

/// The ticks of a second.
const SECOND: u64 = 10;

#[derive(Debug)]
pub(super) struct Quota {
    max_frame: u64,
    max_message: u64,
    /// Of each limited side, by the way whose source it is.
    shares: [Option<Share>; 2],
    breach: Option<(Way, Breach)>,
    /// The first breach has been told: the tunnel ends by it.
    told: bool,
}

/// What one side has sent.
#[derive(Debug)]
struct Share {
    /// Behind what has been let pass.
    cursor: FrameCursor,
    /// The beginning of a header whose length is not known yet.
    head: Head,
    /// Payload of the open message.
    message: u64,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// Which limit a side has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    Frame,
    Message,
    MessageRate,
    ByteRate,
    /// It has sent the header of a frame that cannot be.
    Malformed,
}

/// What comes of bytes just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// What was held before and passes now.
    pub(super) freed: Head,
    /// How many of the bytes, from the first, pass behind it.
    pub(super) passes: usize,
    /// How many have been looked at; behind them no more, if it stops.
    pub(super) seen: usize,
    /// Nothing more of this way may be forwarded.
    pub(super) stops: bool,
}

/// A token bucket by the tunnels' clock. In units that make both the tokens and
/// the ticks whole numbers.
#[derive(Debug)]
struct Bucket {
    /// Units that a tick gives back.
    each_tick: u64,
    /// Units of one token.
    token: u64,
    /// Taken and not yet given back.
    taken: u64,
    at: Ticks,
}

impl Quota {
    /// `None` if nobody is limited.
    pub(super) fn new(options: &Options, now: Ticks) -> Option<Box<Self>> {
        let limits = options.messages?;
        if options.framing != Framing::WebSocket {
            return None;
        }
        let share = |other| (limits.side != other).then(|| Share::new(&limits, now));
        Some(Box::new(Self {
            max_frame: limits.max_frame.unwrap_or(u64::MAX),
            max_message: limits.max_message.unwrap_or(u64::MAX),
            shares: [share(LimitedSide::Backend), share(LimitedSide::Client)],
            breach: None,
            told: false,
        }))
    }

    /// Looks at bytes that come from the source of `way`.
    pub(super) fn look(&mut self, way: Way, bytes: &[u8], now: Ticks) -> Look {
        let limits = (self.max_frame, self.max_message);
        let (look, breach) = match &mut self.shares[way as usize] {
            None => return Look::all(bytes),
            Some(share) => share.look(bytes, limits, now),
        };
        if let Some(breach) = breach {
            self.breach(way, breach);
        }
        look
    }

    /// Takes note of `count` bytes of payload that pass unseen.
    pub(super) fn skip(&mut self, way: Way, count: usize, now: Ticks) {
        let Some(share) = &mut self.shares[way as usize] else {
            return;
        };
        share.cursor.skip(count as u64);
        if !take(&mut share.bytes, count as u64, now) {
            self.breach(way, Breach::ByteRate);
        }
    }

    /// What is held of a header that will not become one: the stream has ended.
    pub(super) fn release(&mut self, way: Way) -> Head {
        let share = self.shares[way as usize].as_mut();
        share.map_or_else(Head::default, |share| std::mem::take(&mut share.head))
    }

    /// A breach that nobody has been told of.
    pub(super) fn take_breach(&mut self) -> Option<(Way, Breach)> {
        let breach = self.breach.take()?;
        self.told = true;
        Some(breach)
    }

    fn breach(&mut self, way: Way, breach: Breach) {
        if !self.told {
            self.breach.get_or_insert((way, breach));
        }
    }
}

impl Look {
    fn all(bytes: &[u8]) -> Self {
        Self {
            freed: Head::default(),
            passes: bytes.len(),
            seen: bytes.len(),
            stops: false,
        }
    }
}

impl Share {
    fn new(limits: &MessageLimits, now: Ticks) -> Self {
        Self {
            cursor: FrameCursor::new(),
            head: Head::default(),
            message: 0,
            messages: limits
                .message_rate
                .map(|rate| Bucket::of_messages(rate, now)),
            bytes: limits.byte_rate.map(|rate| Bucket::of_bytes(rate, now)),
        }
    }

    fn look(&mut self, bytes: &[u8], limits: (u64, u64), now: Ticks) -> (Look, Option<Breach>) {
        let held = self.head;
        let mut look = Look {
            passes: 0,
            ..Look::all(bytes)
        };
        let mut at = 0;
        while at < bytes.len() {
            if self.head.is_empty() && !self.cursor.at_frame_boundary() {
                at += self.cursor.advance_past_frame(&bytes[at..]);
                look.passes = at;
                continue;
            }
            self.head.push(bytes[at]);
            at += 1;
            let Some(length) = self.head.length() else {
                continue;
            };
            if let Err(breach) = self.enter(length, limits, now) {
                (look.seen, look.stops) = (at, true);
                return (look, Some(breach));
            }
            // That of the first frame may have begun in an earlier read.
            if look.passes == 0 && look.freed.is_empty() {
                look.freed = held;
            }
            self.head = Head::default();
            look.passes = at;
        }
        let within = take(&mut self.bytes, bytes.len() as u64, now);
        (look, (!within).then_some(Breach::ByteRate))
    }

    /// Enters the frame whose header is there, if there is nothing against it.
    fn enter(&mut self, length: u64, limits: (u64, u64), now: Ticks) -> Result<(), Breach> {
        self.judge(length, limits, now)?;
        self.cursor.advance(self.head.bytes());
        match self.cursor.is_lost() {
            true => Err(Breach::Malformed),
            false => Ok(()),
        }
    }

    fn judge(&mut self, length: u64, limits: (u64, u64), now: Ticks) -> Result<(), Breach> {
        let (max_frame, max_message) = limits;
        if self.head.is_control() {
            return Ok(());
        }
        if length > max_frame {
            return Err(Breach::Frame);
        }
        if self.head.begins_message() {
            self.message = 0;
            if !take(&mut self.messages, 1, now) {
                return Err(Breach::MessageRate);
            }
        }
        self.message = self.message.saturating_add(length);
        match self.message > max_message {
            true => Err(Breach::Message),
            false => Ok(()),
        }
    }
}

fn take(bucket: &mut Option<Bucket>, count: u64, now: Ticks) -> bool {
    bucket.as_mut().is_none_or(|bucket| bucket.take(count, now))
}

impl Bucket {
    fn of_messages(rate: Rate, now: Ticks) -> Self {
        Self::new(u64::from(rate.count()), rate.per(), now)
    }

    fn of_bytes(rate: ByteRate, now: Ticks) -> Self {
        Self::new(rate.bytes, rate.per, now)
    }

    fn new(count: u64, seconds: u64, now: Ticks) -> Self {
        Self {
            each_tick: count,
            token: seconds * SECOND,
            taken: 0,
            at: now,
        }
    }

    /// Takes tokens; whether there were so many.
    fn take(&mut self, count: u64, now: Ticks) -> bool {
        let passed = u64::from(now.saturating_sub(self.at));
        let back = passed.saturating_mul(self.each_tick);
        self.at = now;
        let taken = count.saturating_mul(self.token);
        self.taken = self.taken.saturating_sub(back).saturating_add(taken);
        // One tick more: the clock may be late by almost that.
        self.taken <= self.each_tick.saturating_mul(self.token + 1)
    }
}

impl Breach {
    fn cause(self) -> Cause {
        match self {
            Self::Frame => Cause::MaxFrame,
            Self::Message => Cause::MaxMessage,
            Self::MessageRate => Cause::MessageRate,
            Self::ByteRate => Cause::ByteRate,
            Self::Malformed => Cause::MalformedFrame,
        }
    }

    /// The order by which the tunnel ends: what the side is told that has done it.
    /// Clients show the reason and may go by it, so it stays as it is.
    pub(super) fn order(self) -> CloseOrder {
        let (code, reason) = match self {
            Self::Frame => (MESSAGE_TOO_BIG, "frame is too large"),
            Self::Message => (MESSAGE_TOO_BIG, "message is too large"),
            Self::MessageRate => (POLICY_VIOLATION, "too many messages"),
            Self::ByteRate => (POLICY_VIOLATION, "too many bytes"),
            Self::Malformed => (PROTOCOL_ERROR, "frame is malformed"),
        };
        CloseOrder {
            cause: self.cause(),
            code: Some(code),
            reason: reason.into(),
        }
    }
}
