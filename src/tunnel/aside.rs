//! What few relays have, or for one step only, behind a single pointer that all
//! have.
//!
//! Invariant: there is nothing behind the pointer that is empty.

use bytes::Bytes;

use super::direction::Way;
use super::pulse::Pulse;
use super::quota::{Breach, Quota};
use super::registry::Ticket;

#[derive(Debug, Default)]
pub(super) struct Aside {
    /// `None` if nobody is pinged.
    pulse: Option<Pulse>,
    /// `None` if nobody is limited.
    quota: Option<Box<Quota>>,
    /// Until the first step; indexed by `Way`.
    read_ahead: [Bytes; 2],
}

impl Aside {
    pub(super) fn new(pulse: Option<Pulse>, quota: Option<Box<Quota>>) -> Option<Box<Self>> {
        (pulse.is_some() || quota.is_some()).then(|| {
            Box::new(Self {
                pulse,
                quota,
                ..Self::default()
            })
        })
    }

    pub(super) fn parts(&mut self) -> (Option<&mut Pulse>, Option<&mut Quota>) {
        (self.pulse.as_mut(), self.quota.as_deref_mut())
    }
}

impl Ticket {
    pub(super) fn pulse(&self) -> Option<&Pulse> {
        self.aside.as_ref()?.pulse.as_ref()
    }

    /// The breach of a limit that nobody has been told of.
    pub(super) fn take_breach(&mut self) -> Option<(Way, Breach)> {
        self.aside.as_mut()?.quota.as_mut()?.take_breach()
    }

    /// Keeps what was read ahead, indexed by `Way`.
    pub(super) fn keep_ahead(&mut self, read_ahead: [Bytes; 2]) {
        if read_ahead.iter().any(|bytes| !bytes.is_empty()) {
            self.aside.get_or_insert_default().read_ahead = read_ahead;
        }
    }

    pub(super) fn take_ahead(&mut self, way: Way) -> Bytes {
        let Some(aside) = &mut self.aside else {
            return Bytes::new();
        };
        let bytes = std::mem::take(&mut aside.read_ahead[way as usize]);
        let lasts = aside.pulse.is_some() || aside.quota.is_some();
        if !lasts && aside.read_ahead.iter().all(Bytes::is_empty) {
            self.aside = None;
        }
        bytes
    }
}
