//! What a client's bytes are before `h2` sees them, sans-I/O.
//!
//! Some mistakes of one stream are the end of the whole connection for `h2`, and
//! of every tunnel on it. So header blocks are read here, judged, and given on
//! without compression; a bad one is given on as a request that is answered with
//! 400 or 431. What comes behind the end of a stream, credit of nothing and a
//! PRIORITY of another length become what resets their stream. Empty DATA, which
//! `h2` counts against the connection's life, is left out, and so is PRIORITY,
//! which means nothing any more (RFC 9113 section 5.3.2). Whatever is a mistake of
//! the connection is given on as it is, for `h2` to find.
//!
//! Invariants: frames come out whole, in order; nothing comes out behind what
//! ends the connection; and the state of compression is here alone.

mod streams;

use h2::Reason;

use super::PREFACE;
use super::calm::Calm;
use super::fields::{self, Block, Fatal};
use super::frame::{Frame, HEADER, Kind};
use super::hpack::Decoder;
use streams::Streams;

pub use streams::Bounds;

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
    streams: Streams,
}

#[derive(Debug)]
struct Partial {
    stream: u32,
    flags: u8,
    bytes: Vec<u8>,
    frames: usize,
}

impl Sieve {
    /// At the preface.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            decoder: Decoder::default(),
            most: bounds.head,
            skip: PREFACE.len(),
            held: Vec::new(),
            out: Vec::new(),
            block: None,
            streams: Streams::new(bounds),
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
                    self.note(frame, calm);
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
            Kind::DATA => !frame.is_idle_data() && !self.streams.has_ended(frame.stream),
            Kind::HEADERS | Kind::CONTINUATION => false,
            Kind::PRIORITY => frame.stream == 0,
            Kind::WINDOW_UPDATE => frame.stream == 0 || has_credit(bytes),
            _ => true,
        }
    }

    fn note(&mut self, frame: Frame, calm: &Calm) {
        if frame.asks_for_work() {
            calm.control_frame();
        }
        match frame.kind {
            Kind::DATA if frame.flags & Frame::END_STREAM != 0 => self.streams.end(frame.stream),
            Kind::RST_STREAM => self.streams.reset(frame.stream),
            _ => {}
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
                    self.note(frame, calm);
                    self.skip = HEADER + frame.length;
                }
                None => break,
                Some(payload) => {
                    self.note(frame, calm);
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
            (_, None) => self.treat_alone(frame, raw),
        }
    }

    /// The same, of a frame that is no part of a block.
    fn treat_alone(&mut self, frame: Frame, raw: &[u8]) {
        let (stream, begun) = (frame.stream, self.streams.has_begun(frame.stream));
        match frame.kind {
            // `h2` would end the connection over it, or credit it: who can tell.
            Kind::DATA if self.streams.loses(stream, frame.length) => {}
            // Section 5.1, "half-closed (remote)", and section 6.1.
            Kind::DATA if self.streams.has_ended(stream) => {
                self.reset(stream);
                if frame.length > 0 {
                    // `h2` throws it away and gives its credit back.
                    self.out.extend_from_slice(raw);
                }
            }
            Kind::DATA if begun => {}
            // Section 6.9.
            Kind::WINDOW_UPDATE if begun && frame.length == 4 => self.reset(stream),
            // Section 6.3; an idle stream must not be reset (section 6.4).
            Kind::PRIORITY if begun && frame.length != 5 => self.reset(stream),
            Kind::PRIORITY => {}
            _ => self.out.extend_from_slice(raw),
        }
    }

    /// Has `h2` reset a stream with PROTOCOL_ERROR, whatever state it is in: that
    /// one depends on itself is a mistake to it.
    fn reset(&mut self, stream: u32) {
        let [a, b, c, d] = stream.to_be_bytes();
        self.put(Kind::PRIORITY, 0, stream, &[a, b, c, d, 0]);
    }

    /// Adds a part to a block, and reads it when it is whole.
    fn continued(&mut self, mut block: Partial, frame: Frame, bytes: &[u8], calm: &Calm) {
        block.bytes.extend_from_slice(bytes);
        block.frames += 1;
        let most_bytes = self.most.saturating_mul(fields::TIMES);
        let most_frames = 8 + most_bytes / LARGEST;
        if block.bytes.len() > most_bytes || block.frames > most_frames {
            return calm.lose(Reason::ENHANCE_YOUR_CALM);
        }
        if frame.flags & Frame::END_HEADERS == 0 {
            self.block = Some(block);
            return;
        }
        let ended = self.streams.has_ended(block.stream);
        let opens = !self.streams.has_begun(block.stream);
        if opens {
            self.streams.begin(block.stream);
        }
        if block.flags & Frame::END_STREAM != 0 {
            self.streams.end(block.stream);
        }
        let read = fields::read(&mut self.decoder, &block.bytes, !opens, self.most);
        let (flags, plain) = match read {
            Err(Fatal::NotHpack) => return calm.lose(Reason::COMPRESSION_ERROR),
            Err(Fatal::Bomb) => return calm.lose(Reason::ENHANCE_YOUR_CALM),
            // Trailers that end nothing: malformed to `h2`, and of one stream. Of
            // one that is closed both ways, or was passed over, they are the
            // connection's mistake (section 5.1.1).
            Ok(_) if ended => (0, Vec::new()),
            Ok(Block::Good(plain)) => (block.flags, plain),
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
