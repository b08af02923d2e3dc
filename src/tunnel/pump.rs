//! One direction's turn: read, have `direction` decide, write, keep what the
//! sink does not take.
//!
//! It knows nothing of the other direction and draws no conclusions from an
//! end; `relay` does.
//!
//! Invariant: a turn that says `Waits` has asked each stream it waits for, so
//! that the stream will say when it is ready.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bulk::{Bulk, Moved};
use super::clock::Ticks;
use super::direction::{Direction, Given, Sink, Way};
use super::entry::Tunnel;
use super::outcome::Cause;
use super::pulse::Pulse;
use super::quota::Quota;
use crate::metrics::delay;

/// Reads of one direction before the other gets its turn.
const READS_PER_TURN: usize = 8;

/// What a message takes of a step beside its own bytes, as so many bytes more: thousands
/// of small ones are as long in hand as one that is large.
const BYTES_PER_MESSAGE: usize = 64;

/// What became of a direction's turn.
pub(super) enum Turn {
    Waits,
    /// It has had its share and could go on.
    MayGoOn,
    SourceEnded(Cause),
    SourceBroke(Cause),
    SinkBroke(Cause),
}

/// One direction with its streams, for one turn.
pub(super) struct Pump<'a, S, K> {
    pub(super) way: Way,
    pub(super) direction: &'a mut Direction,
    pub(super) tunnel: &'a Tunnel,
    pub(super) pulse: Option<&'a mut Pulse>,
    pub(super) quota: Option<&'a mut Quota>,
    pub(super) now: Ticks,
    pub(super) source: &'a mut S,
    pub(super) sink: &'a mut K,
    /// Bytes that it may read yet in this step.
    pub(super) left: &'a mut usize,
    /// What is passed on waits for more, to be written with it.
    pub(super) gathers: bool,
    /// The kernels are to be asked themselves whether the streams are ready.
    pub(super) asks: bool,
}

impl<S: AsyncRead + Unpin, K: AsyncWrite + Unpin> Pump<'_, S, K> {
    pub(super) fn run<X: Bulk<S, K>>(
        &mut self,
        cx: &mut Context<'_>,
        ahead: &[u8],
        scratch: &mut [u8],
    ) -> Turn {
        if let Err(error) = self.flush_waiting::<X>(cx) {
            return Turn::SinkBroke(Cause::of_error(&error));
        }
        if !ahead.is_empty()
            && let Err(error) = self.forward(cx, ahead)
        {
            return Turn::SinkBroke(Cause::of_error(&error));
        }
        if self.asks {
            self.ask::<X>();
        }
        let mut turn = self.rounds::<X>(cx, scratch);
        if matches!(turn, Turn::SourceEnded(_) | Turn::SourceBroke(_))
            && let Err(error) = self.release(cx).and_then(|()| self.release_head(cx))
        {
            turn = Turn::SinkBroke(Cause::of_error(&error));
        }
        let flushed = self.flush(cx);
        if X::progressed(self.sink) {
            self.progressed(Given::Bytes);
        }
        match flushed {
            Poll::Ready(Err(error)) => Turn::SinkBroke(Cause::of_error(&error)),
            _ => turn,
        }
    }

    fn rounds<X: Bulk<S, K>>(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Turn {
        for _ in 0..READS_PER_TURN {
            if let Err(error) = self.press::<X>() {
                return Turn::SinkBroke(Cause::of_error(&error));
            }
            let pinged = self.ping(cx);
            if let Poll::Ready(Err(error)) = self.write_rest(cx).map(|it| pinged.and(it)) {
                return Turn::SinkBroke(Cause::of_error(&error));
            }
            self.shut_sink(cx);
            if !self.direction.wants_read() {
                return Turn::Waits;
            }
            if *self.left == 0 {
                return Turn::MayGoOn;
            }
            let to_come = self.direction.to_come();
            if to_come > 0 {
                match X::poll_move(cx, self.source, self.sink, to_come) {
                    Moved::No => {}
                    Moved::Waits => return Turn::Waits,
                    Moved::Bytes(count) => {
                        *self.left = self.left.saturating_sub(count);
                        self.moved(count);
                        continue;
                    }
                    Moved::Ended => return Turn::SourceEnded(Cause::Eof),
                    Moved::SourceBroke(error) => return ended_by(&error),
                    Moved::SinkBroke(count, error) => {
                        self.moved(count);
                        return Turn::SinkBroke(Cause::of_error(&error));
                    }
                }
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *self.source).poll_read(cx, &mut buffer) {
                Poll::Pending => return Turn::Waits,
                Poll::Ready(Err(error)) => return ended_by(&error),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Turn::SourceEnded(Cause::Eof);
                }
                Poll::Ready(Ok(())) => {
                    *self.left = self.left.saturating_sub(buffer.filled().len());
                    let measured = self.direction.begins_message() && delay::is_due();
                    let since = measured.then(Instant::now);
                    if let Err(error) = self.forward(cx, buffer.filled()) {
                        return Turn::SinkBroke(Cause::of_error(&error));
                    }
                    if let Some(since) = since {
                        self.direction.measure(since);
                    }
                }
            }
        }
        Turn::MayGoOn
    }

    /// Takes note of bytes that have gone past the scratch buffer. The sink may
    /// hold them still, as it may hold written ones: a flush sees to both.
    fn moved(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let messages = self.direction.accept_unseen(count);
        self.direction.unflushed = Given::Bytes;
        self.heard(self.way);
        self.touch();
        self.tunnel.passed(self.way, count, messages);
        if let Some(quota) = self.quota.as_deref_mut() {
            quota.skip(self.way, count, self.now);
        }
    }

    /// Passes on bytes just read.
    fn forward(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        match self.quota {
            None => self.onward(cx, bytes),
            Some(_) => self.screen(cx, bytes),
        }
    }

    /// Passes on bytes that may be sent.
    pub(super) fn onward(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        match self.pulse {
            None => self.pass(cx, bytes),
            Some(_) => self.sift(cx, bytes),
        }
    }

    /// Passes on bytes, as far as they are to be.
    pub(super) fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let before = self.direction.messages();
        let (forwarded, messages) = self.direction.accept(bytes);
        // Also of those that are dropped: they were followed all the same.
        let followed = (self.direction.messages() - before) as usize;
        *self.left = self.left.saturating_sub(followed * BYTES_PER_MESSAGE);
        self.touch();
        if forwarded == 0 {
            return Ok(());
        }
        self.tunnel.passed(self.way, forwarded, messages);
        self.send(cx, &bytes[..forwarded], Given::Bytes)
    }

    /// Writes bytes, and keeps those that the sink does not take.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        what: Given,
    ) -> io::Result<()> {
        let mut unsent = bytes;
        while !unsent.is_empty() && !self.gathers && !self.direction.has_rest() {
            match write_some(cx, self.sink, unsent) {
                Poll::Ready(written) => unsent = &unsent[written?..],
                Poll::Pending => break,
            }
            self.wrote(what);
        }
        match what {
            Given::Ping => self.direction.keep_ping(unsent),
            _ => self.direction.keep(unsent),
        }
        Ok(())
    }

    /// Writes what was kept of one read for as long as it was sifted: that is no
    /// progress of the sink.
    pub(super) fn write_gathered(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.direction.has_rest() {
            match self.write_some_rest(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Ready once there is no rest.
    fn write_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.direction.has_rest() {
            let taken = ready!(self.write_some_rest(cx))?;
            self.progressed(taken);
        }
        Poll::Ready(Ok(()))
    }

    fn write_some_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Given>> {
        let written = ready!(write_some(cx, self.sink, self.direction.rest()))?;
        let what = self.direction.wrote_rest(written);
        self.wrote(what);
        Poll::Ready(Ok(what))
    }

    fn wrote(&mut self, what: Given) {
        self.direction.unflushed = self.direction.unflushed.max(what);
    }

    /// TLS keeps what its socket does not take, and nothing else tells when it does.
    fn flush_waiting<X: Bulk<S, K>>(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let waited = self.direction.unflushed;
        if waited == Given::Nothing {
            return Ok(());
        }
        let (flushed, took) = X::flush(cx, self.sink);
        if took {
            self.progressed(waited);
        }
        if let Poll::Ready(flushed) = flushed {
            flushed?;
            self.direction.unflushed = Given::Nothing;
        }
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.direction.unflushed > Given::Nothing {
            ready!(Pin::new(&mut *self.sink).poll_flush(cx))?;
            self.direction.unflushed = Given::Nothing;
        }
        Poll::Ready(Ok(()))
    }

    fn shut_sink(&mut self, cx: &mut Context<'_>) {
        if self.direction.sink != Sink::Shutting || self.direction.has_rest() {
            return;
        }
        // A sink that cannot be shut is gone, and its reader will say so.
        if Pin::new(&mut *self.sink).poll_shutdown(cx).is_ready() {
            self.direction.sink = Sink::Shut;
            self.direction.unflushed = Given::Nothing;
        }
    }

    /// The sink took what had waited for it: a slow reader is not an idle one. But
    /// who takes a ping may be.
    pub(super) fn progressed(&mut self, what: Given) {
        if what == Given::Bytes {
            self.touch();
        }
        self.heard(self.way.reverse());
    }

    /// The source of `way` has given a sign of life.
    pub(super) fn heard(&mut self, way: Way) {
        if let Some(pulse) = &mut self.pulse {
            pulse.heard(way, self.now);
        }
    }

    fn touch(&self) {
        self.tunnel.touch(self.way, self.now);
    }
}

fn write_some<K: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    sink: &mut K,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(sink).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

fn ended_by(error: &io::Error) -> Turn {
    match Cause::of_error(error) {
        Cause::TlsEof => Turn::SourceEnded(Cause::TlsEof),
        cause => Turn::SourceBroke(cause),
    }
}
