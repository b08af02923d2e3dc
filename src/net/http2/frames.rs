//! Follows the frames of one direction by their headers (RFC 9113 section 4.1),
//! to count them. It reads no payload and judges nothing: `h2` does.

use super::PREFACE;

const HEADER: usize = 9;

/// A frame's header, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
}

/// Where the direction stands.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// Bytes of `header` that are there.
    known: usize,
    /// Bytes to come before the next header: a payload, or the preface.
    skip: usize,
}

impl Default for Frames {
    /// At the preface.
    fn default() -> Self {
        Self {
            header: [0; HEADER],
            known: 0,
            skip: PREFACE.len(),
        }
    }
}

impl Frames {
    /// Calls `each` for every header that the bytes complete.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let count = (HEADER - self.known).min(bytes.len());
            self.header[self.known..][..count].copy_from_slice(&bytes[..count]);
            self.known += count;
            bytes = &bytes[count..];
            if self.known == HEADER {
                let [a, b, c, kind, flags, ..] = self.header;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                (self.known, self.skip) = (0, length);
                each(Frame {
                    kind,
                    flags,
                    length,
                });
            }
        }
    }
}

impl Frame {
    /// Whether it costs something and brings nothing by itself: empty DATA and
    /// CONTINUATION, PRIORITY, SETTINGS, PING, and what nobody knows. Credit
    /// (WINDOW_UPDATE) is the price of what the client gets, and resets are
    /// counted where it is known what they reset.
    pub(super) fn asks_for_work(self) -> bool {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const PRIORITY: u8 = 2;
        const RST_STREAM: u8 = 3;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        const GOAWAY: u8 = 7;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        /// END_STREAM, and the ACK of SETTINGS and PING.
        const FIRST_FLAG: u8 = 1;
        match self.kind {
            DATA => self.length == 0 && self.flags & FIRST_FLAG == 0,
            CONTINUATION => self.length == 0,
            SETTINGS | PING => self.flags & FIRST_FLAG == 0,
            HEADERS | RST_STREAM | GOAWAY | WINDOW_UPDATE => false,
            PRIORITY => true,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER + length, 0xff);
        bytes
    }

    #[test]
    fn headers_are_found_at_every_split() {
        let mut bytes = PREFACE.to_vec();
        for part in [
            frame(4, 0, 12),
            frame(0, 1, 0),
            frame(6, 0, 8),
            frame(0, 0, 300),
        ] {
            bytes.extend(part);
        }
        for split in 1..bytes.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in bytes.chunks(split) {
                frames.follow(part, |frame| found.push((frame.kind, frame.length)));
            }
            assert_eq!(found, [(4, 12), (0, 0), (6, 8), (0, 300)], "{split}");
        }
    }

    #[test]
    fn what_brings_nothing_is_told_from_what_does() {
        for (kind, flags, length, expected) in [
            (0, 0, 0, true),
            (0, 1, 0, false),
            (0, 0, 1, false),
            (1, 4, 20, false),
            (2, 0, 5, true),
            (3, 0, 4, false),
            (4, 0, 6, true),
            (4, 1, 0, false),
            (6, 0, 8, true),
            (6, 1, 8, false),
            (8, 0, 4, false),
            (9, 0, 0, true),
            (9, 4, 9, false),
            (0xee, 0, 9, true),
        ] {
            let frame = Frame {
                kind,
                flags,
                length,
            };
            assert_eq!(frame.asks_for_work(), expected, "{frame:?}");
        }
    }
}
