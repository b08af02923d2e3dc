//! Close codes and Close frames (RFC 6455 sections 5.5.1 and 7.4, and the IANA
//! "WebSocket Close Code Number" registry).
//!
//! Builds the frames that longhaul itself sends. It does not parse those that
//! pass by (`frame` does), and does not decide when one is due (`tunnel` does).
//!
//! Invariant: a frame built here is at most 131 bytes, its payload at most 125,
//! and its code is one that may be sent.

use std::ops::Deref;

/// The longest payload of a control frame (RFC 6455 section 5.5).
const MAX_PAYLOAD: usize = 125;
/// First byte, length byte and mask.
const MAX_HEAD: usize = 2 + 4;
/// FIN and opcode 8.
const FIN_CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

/// Whether an endpoint may put `code` into a Close frame.
///
/// 1004 is reserved; 1005, 1006 and 1015 only describe closes that carried no
/// code (RFC 6455 section 7.4.1). 1016–2999 are not assigned; 3000–3999 are
/// registered by libraries, 4000–4999 are private (section 7.4.2).
pub fn may_send(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// An endpoint goes away, as a browser does that leaves a page (RFC 6455 section
/// 7.4.1).
pub const GOING_AWAY: u16 = 1001;
/// What came is not what the protocol has (RFC 6455 section 7.4.1).
pub const PROTOCOL_ERROR: u16 = 1002;
/// An endpoint met what it did not expect (RFC 6455 section 7.4.1).
pub const INTERNAL_ERROR: u16 = 1011;
/// A peer has sent what it may not.
pub const POLICY_VIOLATION: u16 = 1008;
/// A peer has sent a message that is too big.
pub const MESSAGE_TOO_BIG: u16 = 1009;

/// The bytes of one Close frame, without an allocation.
#[derive(Clone, Copy)]
pub struct CloseFrame {
    bytes: [u8; MAX_HEAD + MAX_PAYLOAD],
    length: usize,
}

/// Builds a Close frame.
///
/// Without a code, or with one that may not be sent, the frame is empty: a
/// reason cannot stand without a code (RFC 6455 section 5.5.1). A reason of
/// more than 123 bytes is cut in front of the first character that does not
/// fit whole. Give a `mask` (random for each frame, section 5.3) towards
/// backends, none towards clients.
pub fn close_frame(code: Option<u16>, reason: &str, mask: Option<[u8; 4]>) -> CloseFrame {
    let mut frame = CloseFrame {
        bytes: [0; MAX_HEAD + MAX_PAYLOAD],
        length: 2,
    };
    frame.bytes[0] = FIN_CLOSE;
    if let Some(mask) = mask {
        frame.bytes[1] = MASKED;
        frame.push(&mask);
    }
    let start = frame.length;
    if let Some(code) = code.filter(|&code| may_send(code)) {
        frame.push(&code.to_be_bytes());
        frame.push(cut(reason, MAX_PAYLOAD - 2).as_bytes());
    }
    let payload = &mut frame.bytes[start..frame.length];
    if let Some(mask) = mask {
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
    }
    // At most 125, so it neither wraps nor touches the mask bit.
    frame.bytes[1] |= payload.len() as u8;
    frame
}

impl CloseFrame {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl Deref for CloseFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for CloseFrame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for CloseFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CloseFrame({:02x?})", &**self)
    }
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_that_may_be_sent_are_those_of_the_registry() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&code| may_send(code)).collect();
        let expected: Vec<u16> = (1000..=1003)
            .chain(1007..=1014)
            .chain(3000..=4999)
            .collect();
        assert_eq!(allowed, expected);
    }

    #[test]
    fn a_close_with_code_and_reason_has_the_bytes_of_the_rfc() {
        let frame = close_frame(Some(1012), "bye", None);
        assert_eq!(&*frame, b"\x88\x05\x03\xf4bye");
    }

    #[test]
    fn towards_a_backend_the_payload_is_masked() {
        let frame = close_frame(Some(1000), "ok", Some([1, 2, 3, 4]));
        assert_eq!(
            &*frame,
            &[
                0x88,
                0x84,
                1,
                2,
                3,
                4,
                0x03 ^ 1,
                0xe8 ^ 2,
                b'o' ^ 3,
                b'k' ^ 4
            ]
        );
    }

    #[test]
    fn without_a_code_that_may_be_sent_the_frame_is_empty() {
        for code in [
            None,
            Some(1005),
            Some(1006),
            Some(1015),
            Some(0),
            Some(5000),
        ] {
            assert_eq!(&*close_frame(code, "lost", None), b"\x88\x00");
            assert_eq!(
                &*close_frame(code, "lost", Some([9, 8, 7, 6])),
                b"\x88\x80\x09\x08\x07\x06"
            );
        }
    }

    #[test]
    fn a_long_reason_is_cut_before_the_character_that_does_not_fit() {
        let frame = close_frame(Some(1000), &"é".repeat(100), None);
        // 123 bytes are left for the reason; `é` has two.
        assert_eq!(frame.len(), 2 + 2 + 122);
        let frame = close_frame(Some(1000), &"x".repeat(500), None);
        assert_eq!(frame.len(), 2 + 125);
    }

    proptest! {
        #[test]
        fn unmasking_gives_back_code_and_a_prefix_of_the_reason(
            code in 0u16..=5100, reason in ".{0,140}", mask: Option<[u8; 4]>,
        ) {
            let frame = close_frame(Some(code), &reason, mask);
            let length = usize::from(frame[1] & 0x7f);
            prop_assert_eq!(frame[0], 0x88);
            prop_assert_eq!(frame[1] & 0x80 != 0, mask.is_some());
            let mut payload = frame[frame.len() - length..].to_vec();
            prop_assert_eq!(frame.len(), 2 + 4 * usize::from(mask.is_some()) + length);
            for (i, byte) in payload.iter_mut().enumerate() {
                *byte ^= mask.map_or(0, |mask| mask[i % 4]);
            }
            if !may_send(code) {
                prop_assert!(payload.is_empty());
                return Ok(());
            }
            prop_assert_eq!(&payload[..2], &code.to_be_bytes());
            let text = std::str::from_utf8(&payload[2..]);
            prop_assert!(text.is_ok_and(|text| reason.starts_with(text)));
        }
    }
}
