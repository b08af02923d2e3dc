//! The beginning of a frame, up to where its length is known (RFC 6455 section
//! 5.2), for whoever must know it before anything of the frame is passed on.
//!
//! It judges nothing: a length that cannot be is one all the same.

const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
/// Two bytes, and eight of length.
const LONGEST: usize = 10;

/// As much as has come of it. It ends before the masking key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; LONGEST],
    count: u8,
}

impl Head {
    /// One byte more; there must be no length yet.
    pub fn push(&mut self, byte: u8) {
        debug_assert!(self.length().is_none());
        self.bytes[usize::from(self.count) % LONGEST] = byte;
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.count)]
    }

    /// The length of the payload, once all of it is there.
    pub fn length(&self) -> Option<u64> {
        let bytes = self.bytes();
        let [_, second, extended @ ..] = bytes else {
            return None;
        };
        let wanted = match second & !MASKED {
            126 => 2,
            127 => 8,
            short => return Some(u64::from(short)),
        };
        let whole = |length, byte: &u8| length << 8 | u64::from(*byte);
        (extended.len() == wanted).then(|| extended.iter().fold(0, whole))
    }

    pub fn is_control(&self) -> bool {
        self.bytes[0] & CONTROL != 0
    }

    /// Whether it is the first frame of a data message.
    pub fn begins_message(&self) -> bool {
        !self.is_control() && self.bytes[0] & OPCODE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[u8]) -> Head {
        let mut head = Head::default();
        bytes.iter().for_each(|byte| head.push(*byte));
        head
    }

    #[test]
    fn the_length_is_known_at_its_last_byte() {
        for (bytes, length) in [
            (&b"\x82\x7d"[..], 125),
            (b"\x82\x80", 0),
            (b"\x82\x7e\x01\x02", 0x102),
            (b"\x82\xfe\xff\xff", 0xffff),
            (b"\x82\x7f\0\0\0\x01\0\0\0\0", 1 << 32),
            (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(head(&bytes[..end]).length(), None, "{bytes:?}");
            }
            assert_eq!(head(bytes).length(), Some(length), "{bytes:?}");
            assert_eq!(head(bytes).bytes(), bytes);
        }
    }

    #[test]
    fn continuations_and_control_frames_begin_no_message() {
        for (first, begins, control) in [
            (0x01, true, false),
            (0x82, true, false),
            (0xc1, true, false),
            (0x80, false, false),
            (0x00, false, false),
            (0x89, false, true),
            (0x88, false, true),
        ] {
            let head = head(&[first, 0]);
            assert_eq!(head.begins_message(), begins, "{first:x}");
            assert_eq!(head.is_control(), control, "{first:x}");
        }
    }
}
