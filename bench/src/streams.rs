//! The WebSockets of one client connection of HTTP/2 (RFC 8441), every byte of every answer checked.
//!
//! It deliberately has no socket, opens streams and ends none: the loads on it hold their tunnels. Its windows are a
//! browser's, so that it is not us who make the proxy wait; the proxy's own windows are kept by `outgoing`.
//! Invariant: no CONNECT before the other side's SETTINGS allowed it (RFC 8441 section 3).

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::answers::Answers;
use crate::client::Outcome;
use crate::frame::Pattern;
use crate::hpack;
use crate::http2::{self, Frame, flag, kind, setting};
use crate::outgoing::{Outgoing, id};

/// Bytes that may come in on one stream and on the whole connection before we say that we took them: Chromium's.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

/// What came of some bytes: a stream's place and its outcome.
pub type Events = Vec<(usize, Outcome)>;

struct Stream {
    answers: Answers,
    sent: u64,
    open: bool,
    /// What came and was not given back to the window.
    taken: u32,
}

/// See the module.
pub struct Streams {
    pub outgoing: Outgoing,
    streams: Vec<Stream>,
    /// The header block of each request.
    block: Arc<[u8]>,
    /// The other side's first SETTINGS have come.
    settled: bool,
    /// The beginning of a frame that is not whole.
    partial: Vec<u8>,
    taken: u32,
}

impl Streams {
    /// A connection that says nothing yet but its preface.
    pub fn new(block: Arc<[u8]>) -> Self {
        let mut outgoing = Outgoing::new();
        let ours = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        ];
        outgoing.out.extend_from_slice(http2::PREFACE);
        http2::push_settings(&ours, &mut outgoing.out);
        http2::push_window_update(0, CONNECTION_WINDOW - http2::WINDOW, &mut outgoing.out);
        Self {
            outgoing,
            streams: Vec::new(),
            block,
            settled: false,
            partial: Vec::new(),
            taken: 0,
        }
    }

    /// Asks for one more tunnel; `pattern` says which part of the pattern its messages are.
    pub fn open(&mut self, pattern: u32) {
        self.outgoing.open();
        self.streams.push(Stream {
            answers: Answers::new(pattern),
            sent: 0,
            open: false,
            taken: 0,
        });
        if self.settled {
            self.ask(self.streams.len() - 1);
        }
    }

    fn ask(&mut self, at: usize) {
        self.outgoing
            .push(kind::HEADERS, flag::END_HEADERS, id(at), &self.block);
    }

    /// Sends the next message of stream number `at`.
    pub fn send_message(&mut self, at: usize, pattern: &Pattern, scratch: &mut Vec<u8>) {
        let stream = &mut self.streams[at];
        scratch.clear();
        pattern.push_message(stream.answers.stream, stream.sent, scratch);
        stream.sent += 1;
        self.outgoing.send(at, scratch);
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// When the other side breaks the protocol, ends something, or an answer is not what was expected.
    pub fn take(&mut self, bytes: &[u8], pattern: &Pattern, events: &mut Events) -> Result<()> {
        let mut joined = std::mem::take(&mut self.partial);
        let mut rest = bytes;
        if !joined.is_empty() {
            joined.extend_from_slice(bytes);
            rest = &joined;
        }
        while let Some(frame) = Frame::take(&mut rest)? {
            self.frame(&frame, pattern, events)?;
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>, pattern: &Pattern, events: &mut Events) -> Result<()> {
        let stream = frame.stream;
        match frame.kind {
            kind::DATA => self.data(frame, pattern, events),
            kind::HEADERS => self.headers(frame, events),
            kind::SETTINGS if !frame.has(flag::ACK) => self.settings(frame),
            kind::WINDOW_UPDATE => self.outgoing.grow(stream, frame.word(0)? & 0x7fff_ffff),
            kind::PING if !frame.has(flag::ACK) => {
                self.outgoing.push(kind::PING, flag::ACK, 0, frame.payload);
                Ok(())
            }
            kind::RST_STREAM => bail!("stream {stream} was reset with code {}", frame.word(0)?),
            kind::GOAWAY => bail!("GOAWAY with code {}", frame.word(4)?),
            kind::PUSH_PROMISE => bail!("a push, which was forbidden"),
            // CONTINUATION among them: of a header block, only its beginning is read.
            _ => Ok(()),
        }
    }

    fn data(&mut self, frame: &Frame<'_>, pattern: &Pattern, events: &mut Events) -> Result<()> {
        let at = self.outgoing.find(frame.stream)?;
        let stream = &mut self.streams[at];
        ensure!(stream.open, "data before an answer");
        let answers = stream.answers.take(frame.content()?, pattern)?;
        if answers > 0 {
            events.push((at, Outcome::Answers(answers)));
        }
        // Padding counts too.
        let size = frame.payload.len() as u32;
        let out = &mut self.outgoing.out;
        give_back(&mut stream.taken, size, STREAM_WINDOW, frame.stream, out);
        give_back(&mut self.taken, size, CONNECTION_WINDOW, 0, out);
        if frame.has(flag::END_STREAM) {
            events.push((at, Outcome::Ended));
        }
        Ok(())
    }

    fn headers(&mut self, frame: &Frame<'_>, events: &mut Events) -> Result<()> {
        let at = self.outgoing.find(frame.stream)?;
        let stream = &mut self.streams[at];
        if stream.open {
            // Trailers.
            events.push((at, Outcome::Ended));
            return Ok(());
        }
        let status = hpack::status(frame.content()?).context("an answer without a status")?;
        let tunnel = status == 200 && !frame.has(flag::END_STREAM);
        ensure!(tunnel, "no tunnel but status {status}");
        stream.open = true;
        events.push((at, Outcome::Opened));
        Ok(())
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<()> {
        let mut allowed = self.settled;
        for (name, value) in frame.settings() {
            match name {
                setting::INITIAL_WINDOW_SIZE => self.outgoing.initial_window(value),
                setting::ENABLE_CONNECT_PROTOCOL => allowed |= value == 1,
                setting::MAX_CONCURRENT_STREAMS => ensure!(
                    self.streams.len() <= value as usize,
                    "allows {value} streams only"
                ),
                _ => {}
            }
        }
        self.outgoing.push(kind::SETTINGS, flag::ACK, 0, &[]);
        ensure!(allowed, "allows no extended CONNECT (RFC 8441)");
        if !self.settled {
            self.settled = true;
            (0..self.streams.len()).for_each(|at| self.ask(at));
        }
        Ok(())
    }
}

// Says that bytes were taken when half of the window is used: neither for each frame nor too late.
fn give_back(taken: &mut u32, size: u32, window: u32, stream: u32, out: &mut Vec<u8>) {
    *taken += size;
    if *taken >= window / 2 {
        http2::push_window_update(stream, *taken, out);
        *taken = 0;
    }
}

#[cfg(test)]
mod tests;
