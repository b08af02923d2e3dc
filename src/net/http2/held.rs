//! Bytes that were received and not yet taken.
//!
//! Invariant: when all are taken no memory is kept, so an idle stream owns no
//! buffer.

use bytes::Bytes;
use tokio::io::ReadBuf;

#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    taken: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies: the frame is part of a larger buffer, which a few bytes of it
    /// would keep.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves as many bytes as there is space for.
    pub(super) fn fill(&mut self, space: &mut ReadBuf<'_>) -> usize {
        let unread = &self.bytes[self.taken..];
        let count = unread.len().min(space.remaining());
        space.put_slice(&unread[..count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
        count
    }

    /// Moves everything.
    pub(super) fn take(&mut self) -> Bytes {
        let Self { bytes, taken } = std::mem::take(self);
        Bytes::from(bytes).slice(taken..)
    }
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
        assert_eq!(held.bytes.capacity(), 0);
        held.put(b"i");
        assert_eq!(held.fill(&mut ReadBuf::new(&mut [0; 9])), 1);
        assert_eq!(held.bytes.capacity(), 0);
    }
}
