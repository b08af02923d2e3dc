//! Ping frames that longhaul itself sends (RFC 6455 section 5.5.2).
//!
//! Builds them; when one is due and whether it was answered is others' matter.
//!
//! Invariant: final, not fragmented, with a payload of eight bytes, which tell
//! an answer of ours from any other.

/// FIN and opcode 9.
const FIN_PING: u8 = 0x89;
const MASKED: u8 = 0x80;

/// Builds a Ping frame. Give a `mask` (random for each frame, section 5.3)
/// towards backends, none towards clients.
pub fn ping_frame(payload: [u8; 8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = vec![FIN_PING, payload.len() as u8];
    match mask {
        None => frame.extend(payload),
        Some(mask) => {
            frame[1] |= MASKED;
            frame.extend(mask);
            let masked = payload.iter().zip(mask.iter().cycle());
            frame.extend(masked.map(|(byte, key)| byte ^ key));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_rfc() {
        assert_eq!(ping_frame(*b"abcdefgh", None), b"\x89\x08abcdefgh");
        let masked = ping_frame([1, 2, 3, 4, 5, 6, 7, 8], Some([1, 2, 3, 4]));
        assert_eq!(masked, b"\x89\x88\x01\x02\x03\x04\0\0\0\0\x04\x04\x04\x0c");
    }
}
