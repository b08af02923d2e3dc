//! Which streams a client has opened, and which of them it has yet to end.
//!
//! It knows nothing of what the server ends: of those it is `h2` that judges what
//! still comes. Invariant: a stream that its client may go on with never counts
//! as ended, however many there are.

/// What a client may make its connection keep.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a header block.
    pub head: usize,
    /// Streams at once.
    pub streams: u32,
    /// Bytes of a stream's window; the connection's has as many to spare.
    pub window: usize,
}

#[derive(Debug)]
pub(super) struct Streams {
    /// The last one that was opened.
    last: u32,
    /// Opened and not ended, in their order.
    open: Vec<u32>,
    /// Of those up to this one nothing is known any more.
    forgotten: u32,
    /// Most of them that are remembered.
    most: usize,
    /// The last ones that their client has reset; 0 is none.
    reset: [u32; RESETS],
    /// Bytes of the connection's window that may still be lost.
    spare: usize,
}

/// As many as `h2` may not have given up when something comes behind.
const RESETS: usize = 16;

impl Streams {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            last: 0,
            open: Vec::new(),
            forgotten: 0,
            // Those that the server has ended stay among them, because the client
            // says nothing of these.
            most: 2 * bounds.streams as usize + 2,
            reset: [0; RESETS],
            spare: bounds.window,
        }
    }

    /// Whether it is a client's, and is or was one (RFC 9113 section 5.1.1: those
    /// below an opened one have been passed over and are closed).
    pub(super) fn has_begun(&self, stream: u32) -> bool {
        stream % 2 == 1 && stream <= self.last
    }

    /// Whether its client has said that nothing more comes on it.
    pub(super) fn has_ended(&self, stream: u32) -> bool {
        self.has_begun(stream)
            && stream > self.forgotten
            && self.open.binary_search(&stream).is_err()
    }

    /// A stream that has not begun before.
    pub(super) fn begin(&mut self, stream: u32) {
        if self.open.len() == self.most {
            let older = self.most / 2;
            self.forgotten = self.open[older - 1];
            self.open.drain(..older);
        }
        self.last = stream;
        self.open.push(stream);
    }

    /// By RST_STREAM.
    pub(super) fn reset(&mut self, stream: u32) {
        self.end(stream);
        if self.has_begun(stream) && !self.was_reset(stream) {
            self.reset.rotate_right(1);
            self.reset[0] = stream;
        }
    }

    /// Whether DATA of this size came behind a reset and is to be thrown away,
    /// though nobody gives its credit back.
    pub(super) fn loses(&mut self, stream: u32, bytes: usize) -> bool {
        let loses = self.was_reset(stream) && bytes <= self.spare;
        self.spare -= if loses { bytes } else { 0 };
        loses
    }

    fn was_reset(&self, stream: u32) -> bool {
        stream != 0 && self.reset.contains(&stream)
    }

    /// By END_STREAM.
    pub(super) fn end(&mut self, stream: u32) {
        if let Ok(at) = self.open.binary_search(&stream) {
            self.open.remove(at);
            if self.open.is_empty() {
                // An idle connection keeps no memory.
                self.open = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(at_once: u32) -> Streams {
        Streams::new(Bounds {
            head: 1000,
            streams: at_once,
            window: 1000,
        })
    }

    #[test]
    fn ends_are_remembered() {
        let mut streams = streams(10);
        assert!(!streams.has_begun(1) && !streams.has_ended(1));
        for stream in [1, 5, 7] {
            streams.begin(stream);
        }
        streams.end(5);
        streams.end(9);
        let ended: Vec<u32> = (0..=9).filter(|id| streams.has_ended(*id)).collect();
        // The client has passed over 3.
        assert_eq!(ended, [3, 5]);
        let begun: Vec<u32> = (0..=9).filter(|id| streams.has_begun(*id)).collect();
        assert_eq!(begun, [1, 3, 5, 7]);
    }

    #[test]
    fn the_last_resets_are_remembered() {
        let mut streams = streams(10);
        streams.reset(1);
        assert!(!streams.was_reset(1) && !streams.was_reset(0));
        for stream in (1..=2 * RESETS as u32 + 1).step_by(2) {
            streams.begin(stream);
            streams.reset(stream);
            streams.reset(stream);
            assert!(streams.has_ended(stream) && streams.was_reset(stream));
        }
        assert!(!streams.was_reset(1) && streams.was_reset(3));
    }

    /// Streams that the server ends and the client never does.
    #[test]
    fn what_is_forgotten_does_not_count_as_ended() {
        let mut streams = streams(4);
        for stream in (1..1001).step_by(2) {
            streams.begin(stream);
            assert!(streams.open.len() <= 10, "{streams:?}");
        }
        assert!((1..1001).all(|stream| !streams.has_ended(stream)));
        streams.end(999);
        streams.end(1);
        assert!(streams.has_ended(999) && !streams.has_ended(1));
    }
}
