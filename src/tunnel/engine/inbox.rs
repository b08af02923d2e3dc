//! The queue by which other threads reach an engine's thread.
//!
//! It wakes the thread by a bell of its owner's choice and does no I/O itself.
//! Only tunnels that begin, orders and deadlines come through it, never bytes.
//!
//! Invariant: a message that was accepted is taken, or still there when the
//! thread takes `closed`; none is accepted after that.

use super::sync::{Mutex, MutexGuard, PoisonError};

/// Wakes the thread that takes from an [`Inbox`].
pub(super) trait Bell {
    /// Has a wait that is under way, or else the next one, return.
    fn ring(&self);
}

/// Messages for one thread.
pub(super) struct Inbox<M, B> {
    state: Mutex<State<M>>,
    bell: B,
}

struct State<M> {
    messages: Vec<M>,
    closed: bool,
}

impl<M, B: Bell> Inbox<M, B> {
    pub(super) fn new(bell: B) -> Self {
        Self {
            state: Mutex::new(State {
                messages: Vec::new(),
                closed: false,
            }),
            bell,
        }
    }

    pub(super) fn bell(&self) -> &B {
        &self.bell
    }

    /// # Errors
    /// The message, if the inbox is closed.
    pub(super) fn push(&self, message: M) -> Result<(), M> {
        let mut state = self.lock();
        if state.closed {
            return Err(message);
        }
        let first = state.messages.is_empty();
        state.messages.push(message);
        drop(state);
        // Whoever found it empty rings: the others' messages are taken with
        // that one.
        if first {
            self.bell.ring();
        }
        Ok(())
    }

    /// Moves all messages behind those in `into`; says whether these were the
    /// last.
    pub(super) fn take(&self, into: &mut Vec<M>) -> bool {
        let mut state = self.lock();
        into.append(&mut state.messages);
        state.closed
    }

    /// Accepts no more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.ring();
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        // Every step under it leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
