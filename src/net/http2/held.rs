//! Bytes that were received and not yet taken.
//!
//! Invariants: when all are taken no memory is kept, so an idle stream owns no
//! buffer; and what was taken takes no more beside what was not than a block, so
//! that a reader that never catches up costs the stream's window and no more.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::io::ReadBuf;

/// Bytes of a block: as many as a frame brings at most. In blocks, nothing is
/// moved to where there is more room, which would take room itself.
const BLOCK: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Held {
    /// None of them is empty.
    blocks: VecDeque<Vec<u8>>,
    /// Of the first block.
    taken: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Copies: the frame is part of a larger buffer, which a few bytes of it
    /// would keep.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        if let Some(last) = self.blocks.back_mut() {
            bytes = fill_up(last, bytes);
        }
        while !bytes.is_empty() {
            let mut block = Vec::new();
            bytes = fill_up(&mut block, bytes);
            self.blocks.push_back(block);
        }
    }

    /// Moves as many bytes as there is space for.
    pub(super) fn fill(&mut self, space: &mut ReadBuf<'_>) -> usize {
        let before = space.remaining();
        while let Some(first) = self.blocks.front()
            && space.remaining() > 0
        {
            let unread = &first[self.taken..];
            let count = unread.len().min(space.remaining());
            space.put_slice(&unread[..count]);
            self.taken += count;
            if self.taken == first.len() {
                self.drop_first();
            }
        }
        before - space.remaining()
    }

    /// Moves a block.
    pub(super) fn take(&mut self) -> Bytes {
        let taken = self.taken;
        Bytes::from(self.drop_first()).slice(taken..)
    }

    fn drop_first(&mut self) -> Vec<u8> {
        let first = self.blocks.pop_front().unwrap_or_default();
        self.taken = 0;
        if self.blocks.is_empty() {
            self.blocks = VecDeque::new();
        }
        first
    }

    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.blocks.iter().map(Vec::capacity).sum()
    }
}

/// Adds what fits; the rest.
fn fill_up<'a>(block: &mut Vec<u8>, bytes: &'a [u8]) -> &'a [u8] {
    let (fits, rest) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
    let needed = block.len() + fits.len();
    if needed > block.capacity() {
        block.reserve_exact(needed.next_power_of_two() - block.len());
    }
    block.extend_from_slice(fits);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_leave_nothing_behind() {
        let mut held = Held::default();
        held.put(b"abc");
        held.put(b"defg");
        let mut space = [0; 5];
        let mut space = ReadBuf::new(&mut space);
        assert_eq!(held.fill(&mut space), 5);
        assert_eq!(space.filled(), b"abcde");
        held.put(b"h");
        assert_eq!(held.take(), "fgh");
        assert!(held.is_empty());
        assert_eq!(held.capacity(), 0);
        held.put(b"i");
        assert_eq!(held.fill(&mut ReadBuf::new(&mut [0; 9])), 1);
        assert_eq!(held.capacity(), 0);
    }

    /// A reader that never catches up with what comes.
    #[test]
    fn what_was_taken_is_not_kept_beside_what_was_not() {
        const WINDOW: usize = 64 * 1024;
        let mut held = Held::default();
        held.put(&[1; WINDOW]);
        let mut space = vec![0; WINDOW / 4];
        for _ in 0..100 {
            let taken = held.fill(&mut ReadBuf::new(&mut space));
            for _ in 0..taken / 16 {
                held.put(&[2; 16]);
            }
            assert!(held.capacity() <= WINDOW + BLOCK, "{}", held.capacity());
        }
        let mut left = 0;
        while !held.is_empty() {
            left += held.take().len();
        }
        assert_eq!((left, held.capacity()), (WINDOW, 0));
    }
}
