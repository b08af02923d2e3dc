//! HTTP/2 frames (RFC 9113), as far as a client of extended CONNECT (RFC 8441) needs them.
//!
//! It deliberately keeps no state. Invariant: a frame is handed out whole or not at all.

use anyhow::{Result, ensure};

/// What a client sends first (RFC 9113 section 3.4), before its SETTINGS.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest payload of a frame both ways: the least that everybody takes, which is what stays unless raised.
pub const MAX_FRAME: usize = 16_384;
/// Bytes of a frame's header.
pub const HEAD: usize = 9;
/// Windows as they are until somebody changes them (RFC 9113 section 6.9.2).
pub const WINDOW: u32 = 65_535;

/// Types of frames (RFC 9113 section 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

/// Flags of frames; SETTINGS and PING use the first bit for ACK.
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings (RFC 9113 section 6.5.2, RFC 8441 section 3).
pub mod setting {
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// One frame as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes one frame from the front of `bytes`; None when it is not whole yet.
    ///
    /// # Errors
    /// When it is longer than we allow, which is also what bytes that are not HTTP/2 look like.
    pub fn take(bytes: &mut &'a [u8]) -> Result<Option<Self>> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        ensure!(len <= MAX_FRAME, "not a frame of HTTP/2: {head:?}");
        let Some((payload, rest)) = rest.split_at_checked(len) else {
            return Ok(None);
        };
        *bytes = rest;
        Ok(Some(Self {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
            payload,
        }))
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and without a priority, which DATA and HEADERS may have around it.
    ///
    /// # Errors
    /// When there is less than there must be.
    pub fn content(&self) -> Result<&'a [u8]> {
        let (mut bytes, mut padding) = (self.payload, 0);
        if self.has(flag::PADDED) {
            ensure!(!bytes.is_empty(), "a padded frame without its length");
            padding = usize::from(bytes[0]);
            bytes = &bytes[1..];
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            ensure!(bytes.len() >= 5, "a priority that is cut off");
            bytes = &bytes[5..];
        }
        ensure!(padding <= bytes.len(), "more padding than payload");
        Ok(&bytes[..bytes.len() - padding])
    }

    /// The 32 bits at `at`: an increment, an error code.
    ///
    /// # Errors
    /// When the payload ends before.
    pub fn word(&self, at: usize) -> Result<u32> {
        let bytes = self.payload.get(at..).and_then(<[u8]>::first_chunk);
        let bytes = bytes.ok_or_else(|| anyhow::anyhow!("a frame that is cut off: {self:?}"))?;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// The pairs of a SETTINGS frame.
    pub fn settings(&self) -> impl Iterator<Item = (u16, u32)> + use<'a> {
        self.payload.chunks_exact(6).map(|s| {
            let value = u32::from_be_bytes([s[2], s[3], s[4], s[5]]);
            (u16::from_be_bytes([s[0], s[1]]), value)
        })
    }
}

/// Appends a frame.
pub fn push(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= MAX_FRAME);
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends a SETTINGS frame.
pub fn push_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    push(kind::SETTINGS, 0, 0, &payload, out);
}

/// Appends a WINDOW_UPDATE; stream 0 is the connection.
pub fn push_window_update(stream: u32, by: u32, out: &mut Vec<u8>) {
    push(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_when_it_is_whole() {
        let mut wire = Vec::new();
        push(kind::DATA, flag::END_STREAM, 7, b"abc", &mut wire);
        push_window_update(0, 5, &mut wire);
        for end in 0..HEAD + 3 {
            assert_eq!(Frame::take(&mut &wire[..end]).unwrap(), None);
        }
        let mut rest = &wire[..];
        let frame = Frame::take(&mut rest).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.stream, frame.payload),
            (0, 7, &b"abc"[..])
        );
        assert!(frame.has(flag::END_STREAM));
        let frame = Frame::take(&mut rest).unwrap().unwrap();
        assert_eq!((frame.kind, frame.word(0).unwrap()), (8, 5));
        assert!(rest.is_empty() && frame.word(1).is_err());
    }

    #[test]
    fn what_is_not_http2_is_refused() {
        assert!(Frame::take(&mut &b"HTTP/1.1 400 Bad Request"[..]).is_err());
    }

    #[test]
    fn settings_are_read_as_written() {
        let (mut wire, pairs) = (Vec::new(), [(2, 0), (4, 1 << 20)]);
        push_settings(&pairs, &mut wire);
        let frame = Frame::take(&mut &wire[..]).unwrap().unwrap();
        assert_eq!(frame.settings().collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn padding_and_priority_are_left_out() {
        let frame = |kind, flags, payload| Frame {
            kind,
            flags,
            stream: 1,
            payload,
        };
        let padded = frame(kind::DATA, flag::PADDED, b"\x02abc\0\0");
        assert_eq!(padded.content().unwrap(), b"abc");
        let both = frame(
            kind::HEADERS,
            flag::PADDED | flag::PRIORITY,
            b"\x01\0\0\0\0\x10\x88\0",
        );
        assert_eq!(both.content().unwrap(), b"\x88");
        assert!(
            frame(kind::DATA, flag::PADDED, b"\x04abc")
                .content()
                .is_err()
        );
    }
}
