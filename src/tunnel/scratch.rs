//! The buffer that all tunnels of one thread read into, one after the other.
//!
//! Invariant: a tunnel holds it only while it is being polled, so an idle
//! tunnel owns none.

use std::cell::Cell;

/// Bytes read at once, and so the most that a direction keeps when its sink
/// takes none of them.
pub(super) const SIZE: usize = 32 * 1024;

/// Where in a page the buffer begins. rustls copies it to where pages begin, behind a
/// header of five bytes; `rep movsb`, which glibc takes for that, is several times slower
/// on AMD where what it writes is in its page just ahead of what it reads (glibc bug
/// 30994).
const IN_PAGE: usize = PAGE / 2;
const PAGE: usize = 4096;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// The thread's buffer, on loan until dropped.
pub(super) struct Scratch(Box<[u8]>);

impl Scratch {
    /// Takes the buffer; a poll within a poll gets a new one.
    pub(super) fn take() -> Self {
        let spare = SPARE.take();
        Self(spare.unwrap_or_else(|| of_size(SIZE)))
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let size = self.0.len() - PAGE;
        let begin = IN_PAGE.wrapping_sub(self.0.as_ptr().addr()) % PAGE;
        &mut self.0[begin..begin + size]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(Some(std::mem::take(&mut self.0)));
    }
}

fn of_size(size: usize) -> Box<[u8]> {
    vec![0; size + PAGE].into_boxed_slice()
}

/// Has this thread read no more than `size` bytes at once.
#[cfg(test)]
pub(super) fn shrink_to(size: usize) {
    SPARE.set(Some(of_size(size)));
}
