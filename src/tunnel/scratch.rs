//! The buffer that all tunnels of one thread read into, one after the other.
//!
//! Invariant: a tunnel holds it only while it is being polled, so an idle
//! tunnel owns none.

use std::cell::Cell;

/// Bytes read at once, and so the most that a direction keeps when its sink
/// takes none of them.
pub(super) const SIZE: usize = 32 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// The thread's buffer, on loan until dropped.
pub(super) struct Scratch(Box<[u8]>);

impl Scratch {
    /// Takes the buffer; a poll within a poll gets a new one.
    pub(super) fn take() -> Self {
        let spare = SPARE.take();
        Self(spare.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()))
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(Some(std::mem::take(&mut self.0)));
    }
}

/// Has this thread read no more than `size` bytes at once.
#[cfg(test)]
pub(super) fn shrink_to(size: usize) {
    SPARE.set(Some(vec![0; size].into_boxed_slice()));
}
