//! Whether a backend is to be used: what the file says, and what a person has
//! said since.
//!
//! It says nothing of health, and does nothing about tunnels: the server does.
//!
//! Invariant: what a person said stands until it is taken back, or until the
//! file says something else than it did then.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::BackendState;

/// The states of one backend. Each part is read by itself; they change seldom.
#[derive(Debug)]
pub(super) struct States {
    /// By the configuration in force.
    filed: AtomicU8,
    /// By a person; 0 is none.
    said: AtomicU8,
}

impl States {
    pub(super) fn new(filed: BackendState) -> Self {
        Self {
            filed: AtomicU8::new(code(filed)),
            said: AtomicU8::new(0),
        }
    }

    /// What a person has said.
    pub(super) fn said(&self) -> Option<BackendState> {
        state(self.said.load(Ordering::Acquire))
    }

    /// What holds.
    pub(super) fn state(&self) -> BackendState {
        self.said()
            .unwrap_or_else(|| state(self.filed.load(Ordering::Acquire)).unwrap_or_default())
    }

    /// A person says something, or takes it back.
    pub(super) fn say(&self, state: Option<BackendState>) {
        self.said.store(state.map_or(0, code), Ordering::Release);
    }

    /// A configuration comes into force that says this.
    pub(super) fn file(&self, state: BackendState) {
        if self.filed.swap(code(state), Ordering::AcqRel) != code(state) {
            self.say(None);
        }
    }
}

fn state(code: u8) -> Option<BackendState> {
    match code {
        1 => Some(BackendState::Active),
        2 => Some(BackendState::Draining),
        3 => Some(BackendState::Disabled),
        _ => None,
    }
}

fn code(state: BackendState) -> u8 {
    match state {
        BackendState::Active => 1,
        BackendState::Draining => 2,
        BackendState::Disabled => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BackendState::{Active, Disabled, Draining};

    #[test]
    fn a_word_stands_until_the_file_says_otherwise() {
        let states = States::new(Active);
        states.file(Active);
        for said in [Draining, Disabled, Active] {
            states.say(Some(said));
            states.file(Active);
            assert_eq!(states.said(), Some(said));
        }
        states.file(Draining);
        assert_eq!((states.said(), states.state()), (None, Draining));
        states.say(Some(Active));
        states.file(Draining);
        assert_eq!(states.said(), Some(Active));
        states.say(None);
        assert_eq!(states.said(), None);
    }
}
