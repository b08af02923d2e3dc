//! What is said of a tunnel: what is known when it opens, where it stands, and
//! the order to end it.
//!
//! Values only; who keeps them is the registry's entry (`entry`).

use std::borrow::Cow;
use std::sync::Arc;

use super::opening::Opening;
use super::outcome::Cause;
use crate::config::{Drain, Ending};

/// Names that many tunnels share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    pub listener: Arc<str>,
    /// What the client speaks: `1.1` or `2`.
    pub http: &'static str,
    pub route: Arc<str>,
    pub upstream: Arc<str>,
    pub backend: Arc<str>,
}

/// What is known of a tunnel when it opens.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Unique in this process, and the same as in the access log.
    pub id: u64,
    /// Build it once for each backend where you can: it is shared.
    pub labels: Arc<Labels>,
    /// The hash of the sticky key; 0 if there was none (a key whose hash is 0 is
    /// taken for none).
    pub key: u64,
    pub opening: Opening,
}

/// An order to end a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseOrder {
    pub cause: Cause,
    /// `None` closes without a frame, at a message boundary all the same.
    pub code: Option<u16>,
    /// At most 123 bytes are sent.
    pub reason: Cow<'static, str>,
}

impl CloseOrder {
    /// An end for a reason of longhaul's own, as the config says.
    pub fn new(ending: Ending, drain: &Drain) -> Self {
        Self {
            cause: Cause::of_ending(ending),
            code: drain.code(ending),
            reason: Cow::Borrowed(reason(ending)),
        }
    }
}

/// What a Close frame says beside its code. Clients show it and may go by it, so
/// it stays as it is; `docs/operations.md` has it too.
pub(super) fn reason(ending: Ending) -> &'static str {
    match ending {
        Ending::Stop => "server is stopping",
        Ending::Drain => "backend is draining",
        Ending::Removed => "backend was removed",
        Ending::Unhealthy => "backend is unhealthy",
        Ending::Rebalance => "connections are being rebalanced",
        Ending::Operator => "closed by an operator",
        Ending::MaxLifetime => "maximum lifetime reached",
        Ending::IdleTimeout => "idle for too long",
        Ending::PingTimeout => "the other side does not answer",
    }
}

/// Where a tunnel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// One side has sent a Close frame or ended its stream.
    HalfClosed,
    /// longhaul is ending it.
    Closing,
    /// It is over and has been told of.
    Ended,
}

impl State {
    const WORDS: [(&str, Self); 4] = [
        ("open", Self::Open),
        ("half_closed", Self::HalfClosed),
        ("closing", Self::Closing),
        ("ended", Self::Ended),
    ];

    /// The word of the admin API.
    pub fn label(self) -> &'static str {
        Self::WORDS[self as usize].0
    }

    /// The state that a word means; nobody meets one that has ended.
    pub fn of_word(word: &str) -> Option<Self> {
        let found = Self::WORDS[..3].iter().find(|(known, _)| *known == word);
        found.map(|(_, state)| *state)
    }
}
