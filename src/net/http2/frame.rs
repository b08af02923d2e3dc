//! Headers of frames (RFC 9113 section 4.1).

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u8);

impl Kind {
    pub(super) const DATA: Self = Self(0);
    pub(super) const HEADERS: Self = Self(1);
    pub(super) const PRIORITY: Self = Self(2);
    pub(super) const RST_STREAM: Self = Self(3);
    pub(super) const SETTINGS: Self = Self(4);
    pub(super) const PING: Self = Self(6);
    pub(super) const GOAWAY: Self = Self(7);
    pub(super) const WINDOW_UPDATE: Self = Self(8);
    pub(super) const CONTINUATION: Self = Self(9);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Of the payload.
    pub(super) length: usize,
}

impl Frame {
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    const ACK: u8 = 0x1;
    const PADDED: u8 = 0x8;
    const WITH_PRIORITY: u8 = 0x20;

    /// The header at the front; `None` if it is not all there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk::<HEADER>()?;
        Some(Self {
            kind: Kind(kind),
            flags,
            // The first bit means nothing.
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
            length: u32::from_be_bytes([0, a, b, c]) as usize,
        })
    }

    /// Adds a frame; the payload is no larger than every peer takes.
    pub(super) fn write(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        out.extend_from_slice(&length[1..]);
        out.extend_from_slice(&[kind.0, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
    }

    /// The block in the payload of HEADERS, without padding and priority; `None`
    /// if there is more padding than payload (RFC 9113 section 6.2).
    pub(super) fn block(self, payload: &[u8]) -> Option<&[u8]> {
        let (mut block, mut padding) = (payload, 0);
        if self.flags & Self::PADDED != 0 {
            let (first, rest) = block.split_first()?;
            (block, padding) = (rest, usize::from(*first));
        }
        if self.flags & Self::WITH_PRIORITY != 0 {
            block = block.get(5..)?;
        }
        block.get(..block.len().checked_sub(padding)?)
    }

    /// Whether it is DATA that carries nothing and ends nothing.
    pub(super) fn is_idle_data(self) -> bool {
        self.kind == Kind::DATA && self.length == 0 && self.flags & Self::END_STREAM == 0
    }

    /// Whether it costs something and brings nothing by itself. Credit is the
    /// price of what the client gets, and resets are counted where it is known
    /// what they reset.
    pub(super) fn asks_for_work(self) -> bool {
        match self.kind {
            Kind::DATA => self.is_idle_data(),
            Kind::CONTINUATION => self.length == 0,
            Kind::SETTINGS | Kind::PING => self.flags & Self::ACK == 0,
            Kind::HEADERS | Kind::RST_STREAM | Kind::GOAWAY | Kind::WINDOW_UPDATE => false,
            Kind::PRIORITY => true,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        Frame::write(&mut bytes, Kind::PING, Frame::ACK, 7, &[1; 8]);
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!((frame.kind, frame.flags), (Kind::PING, Frame::ACK));
        assert_eq!((frame.stream, frame.length), (7, 8));
        assert_eq!(Frame::parse(&bytes[..HEADER - 1]), None);
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
                kind: Kind(kind),
                flags,
                stream: 1,
                length,
            };
            assert_eq!(frame.asks_for_work(), expected, "{frame:?}");
        }
    }

    #[test]
    fn blocks_lose_their_padding_and_priority() {
        let block = |flags, payload: &'static [u8]| {
            let (kind, stream, length) = (Kind::HEADERS, 1, payload.len());
            let frame = Frame {
                kind,
                flags,
                stream,
                length,
            };
            frame.block(payload)
        };
        assert_eq!(block(0, b"abc"), Some(&b"abc"[..]));
        assert_eq!(block(0x8, b"\x02abc\0\0"), Some(&b"abc"[..]));
        assert_eq!(block(0x28, b"\x01PRIOWabc\0"), Some(&b"abc"[..]));
        assert_eq!(block(0x8, b"\x02a"), None);
        assert_eq!(block(0x8, b""), None);
        assert_eq!(block(0x20, b"abcd"), None);
    }
}
