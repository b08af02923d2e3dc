//! Signals to a tunnel that may be on its way from a task to an engine's
//! thread: who is to be told, and that none is lost meanwhile.
//!
//! It tells nobody itself.
//!
//! Invariant: a signal given is either seen by `take_first` or its giver is told
//! where to send word of it.

use std::sync::atomic::AtomicU32;

use super::sync::{AtomicU8, OnceLock, Ordering};

/// Signals to one tunnel, as bits.
#[derive(Debug)]
pub(super) struct Signals<H> {
    given: AtomicU8,
    /// The tunnel's state, its backlog and its place in the engine, which are no signals:
    /// they ride in what alignment would waste here.
    pub(super) state: AtomicU8,
    /// The ways that have bytes which their sink has not taken, as bits.
    pub(super) backlog: AtomicU8,
    pub(super) slot: AtomicU32,
    home: OnceLock<H>,
}

impl<H> Signals<H> {
    pub(super) fn new(state: u8, slot: u32) -> Self {
        Self {
            given: AtomicU8::new(0),
            state: AtomicU8::new(state),
            backlog: AtomicU8::new(0),
            slot: AtomicU32::new(slot),
            home: OnceLock::new(),
        }
    }

    /// Says where word is to be sent from now on; only the first time counts.
    pub(super) fn send_to(&self, home: H) {
        let _ = self.home.set(home);
    }

    /// Gives `signal`; returns where to send word of it, if anywhere yet.
    pub(super) fn give(&self, signal: u8) -> Option<&H> {
        // If this reads what `take_first` left, then it also sees the home that
        // was set before; if not, `take_first` reads this.
        self.given.fetch_or(signal, Ordering::AcqRel);
        self.home.get()
    }

    /// Takes what was given. It may be called without need, so it is cheap.
    pub(super) fn take(&self) -> u8 {
        if self.given.load(Ordering::Acquire) == 0 {
            return 0;
        }
        self.take_first()
    }

    /// The same, to be called once after `send_to`.
    pub(super) fn take_first(&self) -> u8 {
        // Always a read-modify-write: see `give`.
        self.given.swap(0, Ordering::AcqRel)
    }
}
