//! The frame cursor: where one direction of a WebSocket stands, read from the
//! frame headers as they pass (RFC 6455 section 5.2).
//!
//! It counts payload down and never looks at it, except for the status code
//! of a Close; it keeps no bytes, changes none, and judges neither masking
//! nor the order of frames: that is for the two peers.
//!
//! Invariant: the answers depend on the bytes alone, never on how they were
//! cut into reads; and after a header that cannot be (see
//! [`FrameCursor::is_lost`]) no boundary is reported ever again.

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 0x08;
/// The highest opcode of a frame that is part of a message and defined:
/// continuation, text, binary.
const BINARY: u8 = 0x02;
/// The longest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_PAYLOAD: u8 = 125;

/// A message has begun and its final frame has not ended.
const MESSAGE_OPEN: u8 = 1;
const CLOSE_BEGUN: u8 = 1 << 1;
const CLOSE_ENDED: u8 = 1 << 2;
const CLOSE_HAS_CODE: u8 = 1 << 3;

/// The place of one direction of a WebSocket among its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameCursor {
    /// In `Length` the length read so far, in `Key` and `Payload` the bytes
    /// of payload to come.
    left: u64,
    messages: u64,
    /// The first two bytes of the Close frame's key, then its status code.
    code: u16,
    part: Part,
    /// Bytes of `Length` or `Key` to come; in a Close's `Payload`, how many of
    /// the code's bytes have passed.
    count: u8,
    /// The first byte of the frame that is open.
    first: u8,
    flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Between two frames.
    First,
    Second,
    Length {
        masked: bool,
    },
    Key,
    Payload,
    Lost,
}

/// A Close frame that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseSeen {
    /// The status code; `None` when the frame had no body.
    pub code: Option<u16>,
}

/// Where [`FrameCursor::run`] stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    FrameBoundary,
    MessageBoundary,
    Close,
}

impl Default for FrameCursor {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameCursor {
    /// A cursor before the first byte after the handshake.
    pub const fn new() -> Self {
        Self {
            left: 0,
            messages: 0,
            code: 0,
            part: Part::First,
            count: 0,
            first: 0,
            flags: 0,
        }
    }

    /// A cursor that is lost from the start, for a protocol that has no frames.
    pub const fn blind() -> Self {
        let mut cursor = Self::new();
        cursor.part = Part::Lost;
        cursor
    }

    /// Follows all of `bytes`.
    pub fn advance(&mut self, bytes: &[u8]) {
        self.run(bytes, Until::End);
    }

    /// Follows `bytes` up to and including the byte after which no frame and
    /// no fragmented message is open, and says how many that were: 0 when it
    /// stands there already, all of them when none is such a byte.
    pub fn advance_to_message_boundary(&mut self, bytes: &[u8]) -> usize {
        self.run(bytes, Until::MessageBoundary)
    }

    /// Follows `bytes` up to and including the last byte of a Close frame, and
    /// says how many that were: 0 when one has passed already.
    pub fn advance_past_close(&mut self, bytes: &[u8]) -> usize {
        self.run(bytes, Until::Close)
    }

    /// Follows `bytes` up to and including the byte that ends the open frame, or
    /// else the one that begins here, and says how many that were: all of them
    /// when none is such a byte.
    pub fn advance_past_frame(&mut self, bytes: &[u8]) -> usize {
        let first = self.run(&bytes[..bytes.len().min(1)], Until::End);
        first + self.run(&bytes[first..], Until::FrameBoundary)
    }

    /// Follows `count` bytes of payload that nobody has looked at: at most
    /// [`FrameCursor::payload_left`] of them, none of a Close frame, or any
    /// number once the cursor is lost.
    pub fn skip(&mut self, count: u64) {
        debug_assert!(self.is_lost() || count <= self.payload_left() && !self.is_first_close());
        if self.part == Part::Payload {
            self.left = self.left.saturating_sub(count);
            if self.left == 0 {
                self.end_frame();
            }
        }
    }

    /// Whether the next byte begins a frame.
    pub fn at_frame_boundary(&self) -> bool {
        self.part == Part::First
    }

    /// Whether the next byte begins a message or a control frame between
    /// messages. A Close ends the message that it interrupts: no part of it
    /// may follow (RFC 6455 section 5.5.1).
    pub fn at_message_boundary(&self) -> bool {
        self.at_frame_boundary() && self.flags & MESSAGE_OPEN == 0
    }

    /// Bytes of the open frame's payload to come; 0 within a header.
    pub fn payload_left(&self) -> u64 {
        match self.part {
            Part::Payload => self.left,
            _ => 0,
        }
    }

    /// Data messages that have passed whole.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether the first byte of a Close frame has passed.
    pub fn close_begun(&self) -> bool {
        self.flags & CLOSE_BEGUN != 0
    }

    /// The first Close frame, once all of it has passed.
    pub fn close(&self) -> Option<CloseSeen> {
        (self.flags & CLOSE_ENDED != 0).then(|| CloseSeen {
            code: (self.flags & CLOSE_HAS_CODE != 0).then_some(self.code),
        })
    }

    /// Whether a header was impossible: a length with its top bit set, a
    /// control frame that is fragmented or longer than 125 bytes. From there
    /// on nothing is counted.
    pub fn is_lost(&self) -> bool {
        self.part == Part::Lost
    }

    fn run(&mut self, bytes: &[u8], until: Until) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.stands_at(until) {
            at += match self.part {
                Part::First => self.first_byte(bytes[at]),
                Part::Second => self.second_byte(bytes[at]),
                Part::Length { masked } => self.length_byte(bytes[at], masked),
                Part::Key => self.key_byte(bytes[at]),
                Part::Payload => self.payload(&bytes[at..]),
                Part::Lost => bytes.len() - at,
            };
        }
        at
    }

    fn stands_at(&self, until: Until) -> bool {
        match until {
            Until::End => false,
            Until::FrameBoundary => self.at_frame_boundary(),
            Until::MessageBoundary => self.at_message_boundary(),
            Until::Close => self.flags & CLOSE_ENDED != 0,
        }
    }

    fn first_byte(&mut self, byte: u8) -> usize {
        self.first = byte;
        self.part = Part::Second;
        if self.is_control() {
            if byte & FIN == 0 {
                self.part = Part::Lost;
                return 1;
            }
        } else {
            // Open from its first byte, so that no boundary lies within it.
            self.flags |= MESSAGE_OPEN;
        }
        if self.is_first_close() {
            self.flags |= CLOSE_BEGUN;
            self.code = 0;
        }
        1
    }

    fn second_byte(&mut self, byte: u8) -> usize {
        let masked = byte & MASKED != 0;
        let length = byte & !MASKED;
        if self.is_control() && length > CONTROL_PAYLOAD {
            self.part = Part::Lost;
            return 1;
        }
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => {
                self.left = u64::from(length);
                self.after_length(masked);
                return 1;
            }
        };
        self.left = 0;
        self.count = extended;
        self.part = Part::Length { masked };
        1
    }

    fn length_byte(&mut self, byte: u8, masked: bool) -> usize {
        if self.count == 8 && byte & 0x80 != 0 {
            self.part = Part::Lost;
            return 1;
        }
        self.left = self.left << 8 | u64::from(byte);
        self.count -= 1;
        if self.count == 0 {
            self.after_length(masked);
        }
        1
    }

    fn after_length(&mut self, masked: bool) {
        if masked {
            self.count = 4;
            self.part = Part::Key;
        } else {
            self.begin_payload();
        }
    }

    fn key_byte(&mut self, byte: u8) -> usize {
        if self.is_first_close() {
            match self.count {
                4 => self.code = u16::from(byte) << 8,
                3 => self.code |= u16::from(byte),
                _ => {}
            }
        }
        self.count -= 1;
        if self.count == 0 {
            self.begin_payload();
        }
        1
    }

    fn begin_payload(&mut self) {
        self.count = 0;
        self.part = Part::Payload;
        if self.left == 0 {
            self.end_frame();
        }
    }

    fn payload(&mut self, bytes: &[u8]) -> usize {
        let passed = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if self.is_first_close() {
            for byte in &bytes[..passed] {
                match self.count {
                    0 => self.code ^= u16::from(*byte) << 8,
                    1 => self.code ^= u16::from(*byte),
                    _ => break,
                }
                self.count += 1;
            }
        }
        self.left -= passed as u64;
        if self.left == 0 {
            self.end_frame();
        }
        passed
    }

    fn end_frame(&mut self) {
        self.part = Part::First;
        if self.is_first_close() {
            self.flags |= CLOSE_ENDED;
            self.flags &= !MESSAGE_OPEN;
            if self.count == 2 {
                self.flags |= CLOSE_HAS_CODE;
            }
        } else if !self.is_control() && self.first & FIN != 0 {
            self.flags &= !MESSAGE_OPEN;
            if self.first & OPCODE <= BINARY {
                self.messages += 1;
            }
        }
    }

    fn is_control(&self) -> bool {
        self.first & CONTROL != 0
    }

    /// Whether the open frame is a Close, and none has passed before it.
    fn is_first_close(&self) -> bool {
        self.first & OPCODE == CLOSE && self.flags & CLOSE_ENDED == 0
    }
}

#[cfg(test)]
mod tests;
