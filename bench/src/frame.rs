//! WebSocket frames (RFC 6455 section 5) and the payload that every message carries.
//!
//! It deliberately knows no fragments and no extensions: the benchmark sends whole binary messages.
//! Invariant: a payload is a slice of one fixed pseudo-random pattern, found from (stream, sequence number), so both
//! ends know every byte of every message without storing any.

/// Longest header of a frame.
pub const MAX_HEADER: usize = 14;
/// Where payloads start inside the pattern: multiples of 4 below this.
const SLACK: usize = 1 << 16;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The pattern of one message size, plain and masked.
pub struct Pattern {
    size: usize,
    plain: Vec<u8>,
    masked: Vec<u8>,
}

impl Pattern {
    /// Makes the pattern for messages of `size` bytes.
    pub fn new(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let plain: Vec<u8> = (0..size + SLACK)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_be_bytes()[0]
            })
            .collect();
        let masked = plain
            .iter()
            .enumerate()
            .map(|(i, b)| b ^ MASK[i & 3])
            .collect();
        Self {
            size,
            plain,
            masked,
        }
    }

    /// Bytes of one message.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The payload of message `seq` on `stream`.
    pub fn payload(&self, stream: u32, seq: u64) -> &[u8] {
        let start = start(stream, seq);
        &self.plain[start..start + self.size]
    }

    /// Appends message `seq` of `stream` as a client sends it: final, binary, masked.
    pub fn push_message(&self, stream: u32, seq: u64, out: &mut Vec<u8>) {
        let start = start(stream, seq);
        push_header(0x82, self.size as u64, Some(MASK), out);
        out.extend_from_slice(&self.masked[start..start + self.size]);
    }
}

// A multiple of 4, so that the masked copy of the pattern is in step with the mask of each frame.
fn start(stream: u32, seq: u64) -> usize {
    let mixed = seq
        .wrapping_mul(2_654_435_761)
        .wrapping_add(u64::from(stream).wrapping_mul(40_503));
    (mixed as usize % (SLACK / 4)) * 4
}

/// Appends a frame header.
pub fn push_header(first: u8, len: u64, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    out.push(first);
    match len {
        0..=125 => out.push(bit | len as u8),
        126..=0xffff => {
            out.push(bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(bit | 127);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
}

/// A parsed header: first byte, payload length, mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub first: u8,
    pub len: u64,
    pub mask: Option<[u8; 4]>,
}

/// Collects the header of one frame, byte by byte if it must be.
#[derive(Clone, Copy, Default)]
pub struct HeaderReader {
    bytes: [u8; MAX_HEADER],
    have: u8,
}

impl HeaderReader {
    /// Whether no byte of a header has come.
    pub fn is_empty(&self) -> bool {
        self.have == 0
    }

    /// Takes bytes from the front of `input`; a header when it is whole.
    pub fn read(&mut self, input: &mut &[u8]) -> Option<Header> {
        loop {
            let want = self.wanted();
            if usize::from(self.have) == want {
                break;
            }
            let take = (want - usize::from(self.have)).min(input.len());
            if take == 0 {
                return None;
            }
            let at = usize::from(self.have);
            self.bytes[at..at + take].copy_from_slice(&input[..take]);
            self.have += take as u8;
            *input = &input[take..];
        }
        Some(self.finish())
    }

    fn wanted(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let ext = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + ext + if self.bytes[1] & 0x80 != 0 { 4 } else { 0 }
    }

    fn finish(&mut self) -> Header {
        let b = &self.bytes;
        let (len, at) = match b[1] & 0x7f {
            126 => (u64::from(u16::from_be_bytes([b[2], b[3]])), 4),
            127 => (
                u64::from_be_bytes([b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9]]),
                10,
            ),
            n => (u64::from(n), 2),
        };
        let mask = (b[1] & 0x80 != 0).then(|| [b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let header = Header {
            first: b[0],
            len,
            mask,
        };
        self.have = 0;
        header
    }
}

/// Appends `input` to `out`, unmasked; `at` is the place of its first byte in the payload.
pub fn push_unmasked(input: &[u8], mask: [u8; 4], at: u64, out: &mut Vec<u8>) {
    let mut mask = mask;
    mask.rotate_left((at & 3) as usize);
    let wide = u64::from(u32::from_ne_bytes(mask)) << 32 | u64::from(u32::from_ne_bytes(mask));
    let from = out.len();
    out.extend_from_slice(input);
    let mut chunks = out[from..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes([
            chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
        ]) ^ wide;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (i, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= mask[i & 3];
    }
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2).
pub fn accept_of(key: &str) -> String {
    use sha1::{Digest, Sha1};
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    base64(&digest)
}

fn base64(input: &[u8]) -> String {
    const SET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in input.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = SET[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            accept_of("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn a_message_comes_out_at_any_split() {
        for size in [0, 1, 125, 126, 70_000] {
            let pattern = Pattern::new(size);
            let mut wire = Vec::new();
            pattern.push_message(3, 7, &mut wire);
            for split in [1, 2, 3, 7, 1000] {
                let (mut reader, mut header, mut got) = (HeaderReader::default(), None, Vec::new());
                for piece in wire.chunks(split) {
                    let mut piece = piece;
                    if header.is_none() {
                        header = reader.read(&mut piece);
                    }
                    if let Some(Header {
                        mask: Some(mask), ..
                    }) = header
                    {
                        push_unmasked(piece, mask, got.len() as u64, &mut got);
                    }
                }
                assert_eq!(header.map(|h| h.len), Some(size as u64));
                assert_eq!(got, pattern.payload(3, 7));
            }
        }
    }
}
