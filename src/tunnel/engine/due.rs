//! Which tunnels of a thread are stepped next.
//!
//! Who exchanges messages goes first, each with a quantum that nobody waits long for; of
//! those who move much one goes after them, so that a message waits for one of them and
//! not for all.
//!
//! Invariant: a slot is in here once at most, and whoever has gone goes to the end.

use std::collections::VecDeque;

use crate::tunnel::relay::Quantum;

#[derive(Default)]
pub(super) struct Due {
    messages: Vec<u32>,
    bulk: VecDeque<u32>,
    /// The buffer of the turn before.
    spare: Vec<u32>,
}

impl Due {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.bulk.is_empty()
    }

    /// Puts a slot in, unless it `is_due` already.
    pub(super) fn push(&mut self, slot: u32, quantum: Quantum, is_due: &mut bool) {
        if std::mem::replace(is_due, true) {
            return;
        }
        match quantum {
            Quantum::Messages => self.messages.push(slot),
            Quantum::Bulk => self.bulk.push_back(slot),
        }
    }

    /// Takes out those that exchange messages, and says how many others wait; the buffer
    /// comes back by `done`.
    pub(super) fn turn(&mut self) -> (Vec<u32>, usize) {
        let next = std::mem::take(&mut self.spare);
        let messages = std::mem::replace(&mut self.messages, next);
        (messages, self.bulk.len())
    }

    pub(super) fn done(&mut self, mut messages: Vec<u32>) {
        messages.clear();
        self.spare = messages;
    }

    /// Takes out the one that has waited longest of those that move much.
    pub(super) fn next_bulk(&mut self) -> Option<u32> {
        self.bulk.pop_front()
    }
}
