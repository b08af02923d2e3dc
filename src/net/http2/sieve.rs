//! What a client's bytes are before `h2` sees them, sans-I/O.
//!
//! Some mistakes of one stream are the end of the whole connection for `h2`, and
//! of every tunnel on it. So header blocks are read here, judged, and given on
//! without compression; a bad one is given on as a request that is answered with
//! 400 or 431. Credit of nothing becomes what resets its stream, and empty DATA,
//! which `h2` counts against the connection's life, is left out. Whatever is a
//! mistake of the connection is given on as it is, for `h2` to find.
//!
//! Invariant: frames come out whole, in order, and the state of compression is
//! here alone.

use h2::Reason;

use super::PREFACE;
use super::calm::Calm;
use super::fields::{self, Block, Fatal};
use super::frame::{Frame, HEADER, Kind};
use super::hpack::Decoder;

/// Largest payload (SETTINGS_MAX_FRAME_SIZE, which is not sent: the default).
const LARGEST: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Sieve {
    decoder: Decoder,
    /// Most bytes of a block's fields.
    most: usize,
    /// Bytes that pass before the next frame: the preface, or a payload.
    skip: usize,
    /// Frames that are not whole yet.
    held: Vec<u8>,
    /// For `h2`.
    out: Vec<u8>,
    /// A block under way.
    block: Option<Partial>,
    /// The last stream that was opened.
    last: u32,
}

#[derive(Debug)]
struct Partial {
    stream: u32,
    flags: u8,
    bytes: Vec<u8>,
    frames: usize,
}

impl Sieve {
    /// At the preface. `most`: bytes of a header block.
    pub(super) fn new(most: usize) -> Self {
        Self {
            decoder: Decoder::default(),
            most,
            skip: PREFACE.len(),
            held: Vec::new(),
            out: Vec::new(),
            block: None,
            last: 0,
        }
    }

    /// Takes what has come; says how much of it, from the first, is for `h2` as
    /// it is. The rest is in [`Sieve::out`], or kept.
    pub(super) fn pass(&mut self, bytes: &[u8], calm: &Calm) -> usize {
        if !self.held.is_empty() || !self.out.is_empty() {
            self.take_in(bytes, calm);
            return 0;
        }
        let mut at = 0;
        loop {
            let passed = self.skip.min(bytes.len() - at);
            at += passed;
            self.skip -= passed;
            let rest = &bytes[at..];
            match Frame::parse(rest) {
                Some(frame) if self.passes(frame, rest) => {
                    self.count(frame, calm);
                    self.skip = HEADER + frame.length;
                }
                None if rest.is_empty() => return at,
                _ => {
                    self.take_in(rest, calm);
                    return at;
                }
            }
        }
    }

    /// What is for `h2` and was not as it is.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether a frame is given on without a look at it.
    fn passes(&self, frame: Frame, bytes: &[u8]) -> bool {
        if self.block.is_some() {
            return false;
        }
        match frame.kind {
            Kind::DATA => !frame.is_idle_data(),
            Kind::HEADERS | Kind::CONTINUATION => false,
            Kind::WINDOW_UPDATE => frame.stream == 0 || has_credit(bytes),
            _ => true,
        }
    }

    fn count(&self, frame: Frame, calm: &Calm) {
        if frame.asks_for_work() {
            calm.control_frame();
        }
    }

    fn take_in(&mut self, bytes: &[u8], calm: &Calm) {
        self.held.extend_from_slice(bytes);
        let mut held = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            let passed = self.skip.min(held.len() - at);
            self.out.extend_from_slice(&held[at..at + passed]);
            at += passed;
            self.skip -= passed;
            let rest = &held[at..];
            let Some(frame) = Frame::parse(rest) else {
                break;
            };
            let large = frame.length > LARGEST;
            let whole = rest.get(HEADER..HEADER + frame.length);
            match whole {
                _ if large || self.passes(frame, rest) => {
                    self.count(frame, calm);
                    self.skip = HEADER + frame.length;
                }
                None => break,
                Some(payload) => {
                    self.count(frame, calm);
                    self.treat(frame, payload, &rest[..HEADER + frame.length], calm);
                    at += HEADER + frame.length;
                }
            }
        }
        held.drain(..at);
        if held.is_empty() {
            // An idle connection keeps no memory.
            held = Vec::new();
        }
        self.held = held;
    }

    /// Acts on a whole frame that is not simply given on.
    fn treat(&mut self, frame: Frame, payload: &[u8], raw: &[u8], calm: &Calm) {
        match (frame.kind, self.block.take()) {
            (Kind::CONTINUATION, Some(block)) if block.stream == frame.stream => {
                self.continued(block, frame, payload, calm);
            }
            (_, Some(block)) => {
                // Nothing may come between (RFC 9113 section 4.3): `h2` is to see
                // that a block was under way.
                self.put(Kind::HEADERS, block.flags, block.stream, &[]);
                self.out.extend_from_slice(raw);
            }
            (Kind::HEADERS, None) => match frame.block(payload) {
                Some(bytes) if frame.stream % 2 == 1 => {
                    let block = Partial {
                        stream: frame.stream,
                        flags: frame.flags & Frame::END_STREAM,
                        bytes: Vec::new(),
                        frames: 0,
                    };
                    self.continued(block, frame, bytes, calm);
                }
                _ => self.out.extend_from_slice(raw),
            },
            (Kind::WINDOW_UPDATE, None) if frame.length == 4 => {
                // Twice the most there can be is too much in any case.
                for _ in 0..2 {
                    let most = 0x7fff_ffff_u32.to_be_bytes();
                    self.put(Kind::WINDOW_UPDATE, 0, frame.stream, &most);
                }
            }
            (Kind::DATA, None) if frame.stream <= self.last => {}
            (_, None) => self.out.extend_from_slice(raw),
        }
    }

    /// Adds a part to a block, and reads it when it is whole.
    fn continued(&mut self, mut block: Partial, frame: Frame, bytes: &[u8], calm: &Calm) {
        block.bytes.extend_from_slice(bytes);
        block.frames += 1;
        let most_frames = 8 + 4 * self.most / LARGEST;
        if block.bytes.len() > self.most.saturating_mul(4) || block.frames > most_frames {
            return calm.lose(Reason::ENHANCE_YOUR_CALM);
        }
        if frame.flags & Frame::END_HEADERS == 0 {
            self.block = Some(block);
            return;
        }
        let opens = block.stream > self.last;
        self.last = self.last.max(block.stream);
        let read = fields::read(&mut self.decoder, &block.bytes, !opens, self.most);
        let (flags, plain) = match read {
            Err(Fatal::NotHpack) => return calm.lose(Reason::COMPRESSION_ERROR),
            Err(Fatal::Bomb) => return calm.lose(Reason::ENHANCE_YOUR_CALM),
            Ok(Block::Good(plain)) => (block.flags, plain),
            // Trailers that end nothing: malformed to `h2`, and of one stream.
            Ok(_) if !opens => (0, Vec::new()),
            Ok(Block::Malformed) => (block.flags, fields::verdict("400")),
            Ok(Block::TooLarge) => (block.flags, fields::verdict("431")),
        };
        let mut parts = plain.chunks(LARGEST);
        let first = parts.next().unwrap_or_default();
        let mut left = parts.len();
        let end = |left: usize| if left == 0 { Frame::END_HEADERS } else { 0 };
        self.put(Kind::HEADERS, flags | end(left), block.stream, first);
        for part in parts {
            left -= 1;
            self.put(Kind::CONTINUATION, end(left), block.stream, part);
        }
    }

    fn put(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        Frame::write(&mut self.out, kind, flags, stream, payload);
    }
}

/// Whether a WINDOW_UPDATE brings anything, as far as it is there.
fn has_credit(bytes: &[u8]) -> bool {
    let credit = bytes.get(HEADER..).and_then(<[u8]>::first_chunk::<4>);
    // The first bit means nothing.
    credit.is_some_and(|credit| u32::from_be_bytes(*credit) & 0x7fff_ffff != 0)
}

#[cfg(test)]
mod tests {
    use super::super::hpack::encode;
    use super::*;

    const MOST: usize = 64 * 1024;

    fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame::write(&mut bytes, kind, flags, stream, payload);
        bytes
    }

    fn head(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            encode(&mut block, name.as_bytes(), value.as_bytes());
        }
        block
    }

    /// What comes out, at one way of splitting what goes in.
    fn sieved(bytes: &[u8], split: usize) -> (Vec<u8>, Calm) {
        let (mut sieve, calm) = (Sieve::new(MOST), Calm::new(1000, 1000));
        let mut seen = Vec::new();
        for part in bytes.chunks(split) {
            let passed = sieve.pass(part, &calm);
            // What passes as it is comes before what does not.
            seen.extend_from_slice(&part[..passed]);
            seen.append(sieve.out());
        }
        (seen, calm)
    }

    #[track_caller]
    fn comes_out(frames: &[Vec<u8>], expected: &[Vec<u8>]) {
        let bytes = [PREFACE, &frames.concat()].concat();
        let expected = [PREFACE, &expected.concat()].concat();
        for split in 1..=bytes.len() {
            let (seen, calm) = sieved(&bytes, split);
            assert!(seen == expected, "split {split}: {seen:?}");
            assert!(!calm.is_lost());
        }
    }

    const HEADERS_END: u8 = Frame::END_HEADERS | Frame::END_STREAM;

    #[test]
    fn what_is_nobodys_business_passes_as_it_is() {
        let frames = [
            frame(Kind::SETTINGS, 0, 0, &[0; 12]),
            frame(Kind::DATA, 0, 1, b"some bytes"),
            frame(Kind::DATA, Frame::END_STREAM, 1, b""),
            frame(Kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
            frame(Kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            frame(Kind(0xee), 0xff, 9, b"whatever"),
        ];
        comes_out(&frames, &frames);
    }

    #[test]
    fn blocks_come_out_whole_and_plain() {
        let block = head(&[(":method", "GET"), ("x-own", "1")]);
        let plain = frame(Kind::HEADERS, HEADERS_END, 1, &block);
        comes_out(std::slice::from_ref(&plain), std::slice::from_ref(&plain));
        let parts = [
            frame(Kind::HEADERS, Frame::END_STREAM, 1, &block[..5]),
            frame(Kind::CONTINUATION, 0, 1, &block[5..6]),
            frame(Kind::CONTINUATION, Frame::END_HEADERS, 1, &block[6..]),
        ];
        comes_out(&parts, &[plain]);
    }

    #[test]
    fn mistakes_of_a_stream_stay_with_it() {
        let bad = head(&[(":method", "GET"), ("X-Own", "1")]);
        let verdict = fields::verdict("400");
        let most = frame(Kind::WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes());
        comes_out(
            &[
                frame(Kind::HEADERS, Frame::END_HEADERS, 1, &bad),
                frame(Kind::DATA, 0, 1, b""),
                frame(Kind::WINDOW_UPDATE, 0, 1, &[0; 4]),
                frame(Kind::HEADERS, HEADERS_END, 1, &bad),
                frame(Kind::PING, 0, 0, &[1; 8]),
            ],
            &[
                frame(Kind::HEADERS, Frame::END_HEADERS, 1, &verdict),
                most.clone(),
                most,
                // Trailers that end nothing.
                frame(Kind::HEADERS, Frame::END_HEADERS, 1, b""),
                frame(Kind::PING, 0, 0, &[1; 8]),
            ],
        );
    }

    #[test]
    fn mistakes_of_the_connection_are_left_to_h2() {
        let block = head(&[(":method", "GET")]);
        let frames = [
            frame(Kind::CONTINUATION, 0, 1, &block),
            frame(Kind::HEADERS, HEADERS_END, 2, &block),
            frame(Kind::HEADERS, HEADERS_END | 0x8, 1, &[255, 0]),
        ];
        comes_out(&frames, &frames);
        let ping = frame(Kind::PING, 0, 0, &[1; 8]);
        let begun = frame(Kind::HEADERS, 0, 1, &block);
        let empty = frame(Kind::HEADERS, 0, 1, b"");
        comes_out(&[begun, ping.clone()], &[empty, ping]);
    }

    #[test]
    fn what_compression_cannot_be_ends_the_connection() {
        for block in [&[0x80][..], &[0xff; 9]] {
            let frame = frame(Kind::HEADERS, HEADERS_END, 1, block);
            let (_, calm) = sieved(&[PREFACE, &frame].concat(), 1000);
            assert!(calm.is_lost());
        }
    }
}
