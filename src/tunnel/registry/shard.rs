//! One part of the registry's tunnels, behind a lock of its own.
//!
//! It gives out places and keeps what is due; who the tunnels are is no
//! business of it.
//!
//! Invariant: a slot that is taken stays its tunnel's until it is given back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::clock::{NEVER, Ticks};
use super::super::entry::Tunnel;

pub(super) struct Shard {
    slots: Mutex<Slots>,
    /// No tunnel of this shard has anything due before.
    soonest: AtomicU32,
}

#[derive(Default)]
pub(super) struct Slots {
    pub(super) tunnels: Vec<Option<Arc<Tunnel>>>,
    free: Vec<u32>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            slots: Mutex::default(),
            soonest: AtomicU32::new(NEVER),
        }
    }

    pub(super) fn insert(&self, tunnel: Arc<Tunnel>) -> u32 {
        let due = tunnel.next_check();
        let mut slots = self.lock();
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.tunnels[slot as usize] = Some(tunnel);
                slot
            }
            None => {
                slots.tunnels.push(Some(tunnel));
                slots.tunnels.len() as u32 - 1
            }
        };
        drop(slots);
        self.due_by(due);
        slot
    }

    pub(super) fn remove(&self, slot: u32) {
        let mut slots = self.lock();
        let gone = slots.tunnels[slot as usize].take();
        slots.free.push(slot);
        drop(slots);
        drop(gone);
    }

    pub(super) fn sweep(&self, now: Ticks) {
        if self.soonest.load(Ordering::Relaxed) > now {
            return;
        }
        self.soonest.swap(NEVER, Ordering::AcqRel);
        let (mut due, mut next) = (Vec::new(), NEVER);
        let slots = self.lock();
        for tunnel in slots.tunnels.iter().flatten() {
            let at = tunnel.next_check();
            if at <= now {
                due.push(Arc::clone(tunnel));
            } else {
                next = next.min(at);
            }
        }
        drop(slots);
        // Woken without the lock: whatever a waker drops may hold a ticket.
        for tunnel in due {
            next = next.min(tunnel.check(now));
        }
        self.due_by(next);
    }

    pub(super) fn due_by(&self, at: Ticks) {
        self.soonest.fetch_min(at, Ordering::AcqRel);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Slots> {
        // Nothing panics while it is held, and every step leaves it whole.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
