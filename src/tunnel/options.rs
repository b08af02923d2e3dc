//! What a tunnel is told at birth, by value, so that no reload can change it.

use std::time::Duration;

use crate::config::{Clocks, Drain, Ending, MessageLimits};
use crate::ws::close::{GOING_AWAY, INTERNAL_ERROR};

use super::clock::{self, NEVER, Ticks};

/// A plain close shuts both ways and then reads on for this long, because a
/// socket that is closed with unread bytes resets its peer, which may lose what
/// was delivered.
pub(super) const LINGER: Ticks = 10;

/// Whether the bytes of a tunnel are WebSocket frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    WebSocket,
    /// Any other upgraded protocol: no messages, and ended without a frame.
    Opaque,
}

/// How longhaul closes a tunnel on its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    pub codes: Codes,
    /// From the order to close until both sides have answered; then the close
    /// is plain.
    pub timeout: Duration,
}

/// The status codes of closes by a tunnel's own clocks; `None` closes without a
/// frame, at a message boundary all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    pub max_lifetime: Option<u16>,
    pub idle_timeout: Option<u16>,
    /// What the backend of a client that hangs is told.
    pub client_hangs: Option<u16>,
    /// What the client of a backend that hangs is told.
    pub backend_hangs: Option<u16>,
}

impl Codes {
    fn new(drain: &Drain) -> Self {
        Self {
            max_lifetime: drain.code(Ending::MaxLifetime),
            // 1012, the default of every other end, would say that longhaul
            // restarts.
            idle_timeout: drain.code_or(Ending::IdleTimeout, GOING_AWAY),
            client_hangs: drain.code_or(Ending::PingTimeout, GOING_AWAY),
            backend_hangs: drain.code_or(Ending::PingTimeout, INTERNAL_ERROR),
        }
    }
}

/// Everything a tunnel goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub framing: Framing,
    pub clocks: Clocks,
    pub close: Close,
    /// What the sides may send; `None`: anything.
    pub messages: Option<MessageLimits>,
    /// When what a client was granted ends.
    pub expiry: Option<Expiry>,
}

/// The end of what a client was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// From the opening.
    pub after: Duration,
    /// The status code of the Close frame; `None` closes without one.
    pub code: Option<u16>,
}

impl Options {
    pub fn new(framing: Framing, clocks: Clocks, drain: &Drain, expiry: Option<Expiry>) -> Self {
        Self {
            framing,
            clocks,
            expiry,
            messages: None,
            close: Close {
                codes: Codes::new(drain),
                timeout: drain.close_timeout,
            },
        }
    }
}

/// The same in ticks, as a tunnel keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// That of the end of its life, and whether it is then that what was granted
    /// ends.
    end: Flagged,
    /// That of `idle_timeout`, and whether the bytes are frames.
    quiet: Flagged,
    pub(super) idle: Ticks,
    pub(super) half_close: Ticks,
    pub(super) close: Ticks,
    /// A point in time, its jitter drawn.
    pub(super) dies_at: Ticks,
}

/// A status code and a flag, in the space of the code: there may be a million of
/// them.
#[derive(Clone, Copy, Debug)]
struct Flagged(u16);

impl Flagged {
    /// Above every status code that may be sent.
    const FLAG: u16 = 1 << 15;

    fn new(code: Option<u16>, flag: bool) -> Self {
        let flag = if flag { Self::FLAG } else { 0 };
        Self(code.unwrap_or(0) & !Self::FLAG | flag)
    }

    fn code(self) -> Option<u16> {
        Some(self.0 & !Self::FLAG).filter(|code| *code != 0)
    }

    fn flag(self) -> bool {
        self.0 & Self::FLAG != 0
    }
}

impl Limits {
    pub(super) fn new(options: &Options, now: Ticks) -> Self {
        let clocks = &options.clocks;
        let dies_at = clocks.max_lifetime.map_or(NEVER, |most| {
            clock::later(now, lifetime(most, clocks.max_lifetime_jitter))
        });
        let expires_at = options
            .expiry
            .map_or(NEVER, |expiry| clock::later(now, clock::span(expiry.after)));
        let expires = expires_at < dies_at;
        let code = match options.expiry {
            Some(expiry) if expires => expiry.code,
            _ => options.close.codes.max_lifetime,
        };
        let is_framed = options.framing == Framing::WebSocket;
        Self {
            end: Flagged::new(code, expires),
            quiet: Flagged::new(options.close.codes.idle_timeout, is_framed),
            idle: clocks.idle_timeout.map_or(NEVER, clock::span),
            half_close: clock::span(clocks.half_close_timeout),
            close: clock::span(options.close.timeout),
            dies_at: dies_at.min(expires_at),
        }
    }

    pub(super) fn framing(&self) -> Framing {
        match self.quiet.flag() {
            true => Framing::WebSocket,
            false => Framing::Opaque,
        }
    }

    /// Whether it is what was granted that ends at `dies_at`.
    pub(super) fn expires(&self) -> bool {
        self.end.flag()
    }

    /// The status code of the close at `dies_at`.
    pub(super) fn end_code(&self) -> Option<u16> {
        self.end.code()
    }

    /// The status code of a close for `idle_timeout`.
    pub(super) fn idle_code(&self) -> Option<u16> {
        self.quiet.code()
    }
}

/// `most`, less a random part of its share `jitter`.
fn lifetime(most: Duration, jitter: f64) -> Ticks {
    let taken_off = rand::random::<f64>() * jitter.clamp(0.0, 1.0);
    clock::span(most.mul_f64(1.0 - taken_off))
}
