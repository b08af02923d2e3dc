//! What a tunnel is told at birth, by value, so that no reload can change it.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::config::{Clocks, Drain};

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
    /// The status code for `max_lifetime`; `None` closes without a frame, at a
    /// message boundary all the same.
    pub code: Option<u16>,
    /// From the order to close until both sides have answered; then the close
    /// is plain.
    pub timeout: Duration,
}

/// Everything a tunnel goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub framing: Framing,
    pub clocks: Clocks,
    pub close: Close,
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
            close: Close {
                code: drain.close_code,
                timeout: drain.close_timeout,
            },
        }
    }
}

/// The same in ticks, as a tunnel keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) framing: Framing,
    /// For a close on longhaul's own account; that of the end of what was
    /// granted if that comes first. Never 0, which is no status code.
    code: Option<NonZeroU16>,
    pub(super) idle: Ticks,
    pub(super) half_close: Ticks,
    pub(super) close: Ticks,
    /// A point in time, its jitter drawn.
    pub(super) dies_at: Ticks,
    /// Whether it is what was granted that ends then.
    pub(super) expires: bool,
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
            _ => options.close.code,
        };
        Self {
            framing: options.framing,
            code: code.and_then(NonZeroU16::new),
            idle: clocks.idle_timeout.map_or(NEVER, clock::span),
            half_close: clock::span(clocks.half_close_timeout),
            close: clock::span(options.close.timeout),
            dies_at: dies_at.min(expires_at),
            expires,
        }
    }

    /// The status code of a close on longhaul's own account.
    pub(super) fn code(&self) -> Option<u16> {
        self.code.map(NonZeroU16::get)
    }
}

/// `most`, less a random part of its share `jitter`.
fn lifetime(most: Duration, jitter: f64) -> Ticks {
    let taken_off = rand::random::<f64>() * jitter.clamp(0.0, 1.0);
    clock::span(most.mul_f64(1.0 - taken_off))
}
