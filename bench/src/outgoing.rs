//! What goes out on a connection of HTTP/2, under its windows (RFC 9113 section 5.2).
//!
//! It deliberately has no socket: frames gather in `out` until somebody takes them. Invariant: no DATA beyond the
//! window of its stream or of the connection; what does not fit waits, in order, until a window grows.

use std::collections::VecDeque;

use anyhow::{Context, Result};

use crate::http2::{self, MAX_FRAME, kind};

struct Stream {
    window: i64,
    waiting: VecDeque<u8>,
}

/// See the module.
pub struct Outgoing {
    /// Frames that are to be sent.
    pub out: Vec<u8>,
    streams: Vec<Stream>,
    window: i64,
    /// Of a stream that begins.
    initial: i64,
}

impl Outgoing {
    /// The windows as they are before the other side's SETTINGS.
    pub fn new() -> Self {
        Self {
            out: Vec::new(),
            streams: Vec::new(),
            window: i64::from(http2::WINDOW),
            initial: i64::from(http2::WINDOW),
        }
    }

    /// One more stream.
    pub fn open(&mut self) {
        self.streams.push(Stream {
            window: self.initial,
            waiting: VecDeque::new(),
        });
    }

    /// Appends a frame that no window counts.
    pub fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        http2::push(kind, flags, stream, payload, &mut self.out);
    }

    /// Sends bytes on stream number `at`.
    pub fn send(&mut self, at: usize, bytes: &[u8]) {
        let done = if self.streams[at].waiting.is_empty() {
            self.push_data(at, bytes)
        } else {
            0
        };
        self.streams[at].waiting.extend(&bytes[done..]);
    }

    // As much as the windows let through.
    fn push_data(&mut self, at: usize, bytes: &[u8]) -> usize {
        let stream = &mut self.streams[at];
        let mut done = 0;
        while done < bytes.len() {
            let may = self.window.min(stream.window).clamp(0, MAX_FRAME as i64) as usize;
            let take = may.min(bytes.len() - done);
            if take == 0 {
                break;
            }
            let piece = &bytes[done..done + take];
            http2::push(kind::DATA, 0, id(at), piece, &mut self.out);
            self.window -= take as i64;
            stream.window -= take as i64;
            done += take;
        }
        done
    }

    fn resume(&mut self, at: usize) {
        let mut waiting = std::mem::take(&mut self.streams[at].waiting);
        let done = self.push_data(at, waiting.make_contiguous());
        waiting.drain(..done);
        self.streams[at].waiting = waiting;
    }

    fn resume_all(&mut self) {
        for at in 0..self.streams.len() {
            if self.window > 0 && !self.streams[at].waiting.is_empty() {
                self.resume(at);
            }
        }
    }

    /// The window of a stream, or of the connection, has grown.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn grow(&mut self, stream: u32, by: u32) -> Result<()> {
        if stream == 0 {
            self.window += i64::from(by);
            self.resume_all();
            return Ok(());
        }
        let at = self.find(stream)?;
        self.streams[at].window += i64::from(by);
        self.resume(at);
        Ok(())
    }

    /// The other side's INITIAL_WINDOW_SIZE, which changes the streams that are there as well (RFC 9113 section 6.9.2).
    pub fn initial_window(&mut self, to: u32) {
        for stream in &mut self.streams {
            stream.window += i64::from(to) - self.initial;
        }
        self.initial = i64::from(to);
        self.resume_all();
    }

    /// The place of a stream.
    ///
    /// # Errors
    /// When we did not begin it.
    pub fn find(&self, stream: u32) -> Result<usize> {
        let at = (stream as usize).wrapping_sub(1) / 2;
        (stream % 2 == 1 && at < self.streams.len())
            .then_some(at)
            .with_context(|| format!("a frame of stream {stream}, which was not begun"))
    }
}

/// The number on the wire of stream number `at`: those of a client are odd (RFC 9113 section 5.1.1).
pub fn id(at: usize) -> u32 {
    1 + 2 * at as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::Frame;

    // The payloads that have gathered, by stream.
    fn sent(out: &mut Outgoing) -> Vec<(u32, usize)> {
        let bytes = std::mem::take(&mut out.out);
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while let Some(frame) = Frame::take(&mut rest).unwrap() {
            found.push((frame.stream, frame.payload.len()));
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn frames_are_no_longer_than_allowed() {
        let mut out = Outgoing::new();
        out.open();
        out.send(0, &[0; 40_000]);
        assert_eq!(sent(&mut out), [(1, 16_384), (1, 16_384), (1, 7_232)]);
    }

    #[test]
    fn a_stream_waits_for_its_own_window() {
        let mut out = Outgoing::new();
        out.initial_window(10);
        out.open();
        out.open();
        out.send(0, &[0; 12]);
        out.send(0, &[0; 3]);
        out.send(1, &[0; 4]);
        assert_eq!(sent(&mut out), [(1, 10), (3, 4)]);
        out.grow(1, 1).unwrap();
        assert_eq!(sent(&mut out), [(1, 1)]);
        out.grow(1, 100).unwrap();
        assert_eq!(sent(&mut out), [(1, 4)]);
    }

    #[test]
    fn all_wait_for_the_window_of_the_connection() {
        let mut out = Outgoing::new();
        out.initial_window(1 << 20);
        out.open();
        out.open();
        out.send(0, &[0; 65_535]);
        out.send(0, &[0; 5]);
        out.send(1, &[0; 5]);
        assert_eq!(sent(&mut out).len(), 4);
        out.grow(0, 7).unwrap();
        assert_eq!(sent(&mut out), [(1, 5), (3, 2)]);
    }

    #[test]
    fn a_smaller_initial_window_may_leave_less_than_nothing() {
        let mut out = Outgoing::new();
        out.open();
        out.send(0, &[0; 100]);
        out.initial_window(40);
        out.send(0, &[0; 1]);
        out.grow(1, 60).unwrap();
        assert_eq!(sent(&mut out), [(1, 100)]);
        out.grow(1, 1).unwrap();
        assert_eq!(sent(&mut out), [(1, 1)]);
    }

    #[test]
    fn a_stream_that_was_not_begun_is_an_error() {
        let mut out = Outgoing::new();
        out.open();
        assert!(out.find(1).is_ok());
        for stream in [0, 2, 3] {
            assert!(out.find(stream).is_err());
        }
    }
}
