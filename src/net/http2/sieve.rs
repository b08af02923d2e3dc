//! What a client's bytes are before `h2` sees them, sans-I/O.
//!
//! Some mistakes of one stream are the end of the whole connection for `h2`, and
//! of every tunnel on it. So header blocks are read here, judged, and given on
//! without compression; a bad one is given on as a request that is answered with
//! 400 or 431. Credit of nothing becomes what resets its stream, and empty DATA,
//! which `h2` counts against the connection's life, is left out. Whatever is a
//! mistake of the connection is given on as it is, for `h2` to find.
//!
//! Invariants: frames come out whole, in order; nothing comes out behind what
//! ends the connection; and the state of compression is here alone.

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
            if calm.is_lost() {
                return at;
            }
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
            if calm.is_lost() {
                // `h2` would name another reason for what comes behind the cause:
                // of a block that was given up it has not seen the beginning.
                return;
            }
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
mod tests;
