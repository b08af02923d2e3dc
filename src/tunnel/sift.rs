//! One direction of a tunnel with a pulse: pings of longhaul's own go in between
//! frames, and the answers to them are taken out.
//!
//! When a ping is due is for `pulse` to say; how bytes move is `pump`'s.
//!
//! Invariant: but for these frames the bytes are forwarded once, in order and
//! unchanged; and an answer is no byte that has passed, in no count and for
//! no clock of the tunnel.

use std::io;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};

use super::bulk::Bulk;
use super::direction::{Flow, Given};
use super::pump::Pump;
use crate::ws::frame::FrameCursor;
use crate::ws::pong::{PongWatch, Seen};

impl<S: AsyncRead + Unpin, K: AsyncWrite + Unpin> Pump<'_, S, K> {
    /// Looks for a sign of life of the source. What its kernel has told may be old: a
    /// process that stood still finds the time over before it has heard what came.
    pub(super) fn ask<X: Bulk<S, K>>(&mut self) {
        if X::stirs(self.source) && self.direction.wants_read() {
            self.heard(self.way);
        }
    }

    /// Looks for one of the sink: a kernel tells of room only when much of its buffer
    /// is free, which a slow reader may not come to.
    pub(super) fn press<X: Bulk<S, K>>(&mut self) -> io::Result<()> {
        if !self.asks {
            return Ok(());
        }
        self.asks = false;
        if self.direction.is_held_up()
            && let Some(written) = X::press(self.sink, self.direction.rest())?
        {
            self.asks = true;
            let taken = self.direction.wrote_rest(written);
            self.progressed(taken.max(self.direction.unflushed));
        }
        Ok(())
    }

    /// Passes on bytes just read, however many pieces they make by one write.
    pub(super) fn sift(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> io::Result<()> {
        self.heard(self.way);
        let waited = self.direction.has_rest();
        self.gathers = true;
        while !bytes.is_empty() {
            let taken = self.sift_some(cx, bytes)?;
            bytes = &bytes[taken..];
            self.ping(cx)?;
        }
        self.gathers = false;
        match waited {
            true => Ok(()),
            false => self.write_gathered(cx),
        }
    }

    /// Takes some of them.
    fn sift_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
        if self.direction.flow == Flow::Stopped {
            self.release(cx)?;
            self.pass(cx, bytes)?;
            return Ok(bytes.len());
        }
        let way = self.way;
        let cursor = &self.direction.cursor;
        let watch = self.pulse.as_deref_mut().and_then(|it| it.watch(way));
        let watches = watch.is_some();
        if cursor.at_frame_boundary()
            && let Some(watch) = watch
            && watch.concerns(bytes[0])
        {
            let (taken, seen) = watch.look(bytes);
            if seen == Seen::Other {
                self.release(cx)?;
            }
            return Ok(taken);
        }
        let wants = self.pulse.as_ref().is_some_and(|it| it.wants_ping(way));
        let pings = wants && self.direction.may_take_ping();
        let taken = cut(cursor, bytes, pings, watches);
        // Alone, it need not be kept for what follows.
        self.gathers = taken < bytes.len() || self.direction.has_rest();
        self.pass(cx, &bytes[..taken])?;
        Ok(taken)
    }

    /// Passes on what is held of a frame that may have become an answer.
    pub(super) fn release(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let way = self.way;
        let watch = self.pulse.as_deref_mut().and_then(|it| it.watch(way));
        let Some(held) = watch.map(|watch| watch.release()) else {
            return Ok(());
        };
        if held.is_empty() {
            return Ok(());
        }
        self.pass(cx, &held)
    }

    /// Sends the ping that is due, if it may go in here.
    pub(super) fn ping(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(pulse) = self.pulse.as_deref_mut() else {
            return Ok(());
        };
        if !pulse.wants_ping(self.way) || !self.direction.takes_ping() {
            return Ok(());
        }
        // Whether it takes what waits will tell as much, and pings behind that would
        // be more with every interval.
        if self.direction.has_rest() && !self.gathers {
            return Ok(());
        }
        let frame = pulse.ping(self.way, self.now);
        self.send(cx, &frame, Given::Ping)
    }
}

/// How many of `bytes` go on at once: up to the first frame boundary where a
/// ping may go in, or an answer begin.
fn cut(cursor: &FrameCursor, bytes: &[u8], pings: bool, watches: bool) -> usize {
    if !pings && !watches {
        return bytes.len();
    }
    let mut cursor = cursor.clone();
    let mut at = 0;
    loop {
        at += cursor.advance_past_frame(&bytes[at..]);
        let Some(&next) = bytes.get(at) else {
            return at;
        };
        if pings || PongWatch::begins(next) {
            return at;
        }
    }
}
