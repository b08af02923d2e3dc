//! The relay in tokio: one future that moves the bytes of a tunnel between any
//! two streams.
//!
//! It reads into the thread's scratch buffer and writes at once to the other
//! side. What to forward and when to end is decided in `direction` and
//! `course`; this file only polls.
//!
//! Invariant: it returns `Pending` only when each direction has registered a
//! waker for what it waits for, and owns no buffer then unless a sink is full.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::course::Course;
use super::direction::{Direction, Sink, Way};
use super::entry::State;
use super::outcome::{Cause, Outcome};
use super::registry::Ticket;
use super::scratch::Scratch;

/// Reads of one direction before the other gets its turn, and turns of both
/// before other tasks get theirs: fairness on a busy thread.
const READS_PER_TURN: usize = 8;
const TURNS_PER_POLL: usize = 4;

/// One side of a tunnel.
pub struct Leg<S> {
    pub stream: S,
    /// Bytes that were read from the stream together with the response or
    /// request head; they are forwarded first.
    pub read_ahead: Bytes,
}

/// A running tunnel; resolves with how it ended.
///
/// It holds the streams and the ticket. Permits and leases stay with the task
/// that awaits it, and so live as long as the tunnel.
#[must_use = "futures do nothing unless polled"]
pub struct Relay<C, B> {
    client: C,
    backend: B,
    course: Course,
    ticket: Ticket,
    /// Until the first poll; indexed by `Way`.
    read_ahead: Option<Box<[Bytes; 2]>>,
}

/// Joins both sides, from the next byte on.
pub fn relay<C, B>(client: Leg<C>, backend: Leg<B>, ticket: Ticket) -> Relay<C, B> {
    let read_ahead = [client.read_ahead, backend.read_ahead];
    let some = read_ahead.iter().any(|bytes| !bytes.is_empty());
    Relay {
        client: client.stream,
        backend: backend.stream,
        course: Course::new(&ticket.tunnel().limits),
        ticket,
        read_ahead: some.then(|| Box::new(read_ahead)),
    }
}

/// What became of a direction's turn.
enum Turn {
    /// Its wakers are registered.
    Waits,
    /// It has had its share and could go on.
    MayGoOn,
    SourceEnded(Cause),
    SourceBroke(Cause),
    SinkBroke(Cause),
}

impl<C, B> Future for Relay<C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        let expired = this.ticket.tunnel().listen(cx.waker());
        let deadline = this.course.deadline();
        this.obey(expired);
        let mut scratch = Scratch::take();
        for _ in 0..TURNS_PER_POLL {
            let mut again = false;
            for way in Way::BOTH {
                let turn = this.turn(cx, way, scratch.bytes());
                again |= this.conclude(cx, way, turn, scratch.bytes());
            }
            again |= this.settle();
            if this.course.is_done() {
                return Poll::Ready(this.outcome());
            }
            if !again {
                this.arm(deadline);
                return Poll::Pending;
            }
        }
        this.arm(deadline);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<C, B> Relay<C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    fn obey(&mut self, expired: bool) {
        let (tunnel, now) = (self.ticket.tunnel(), self.ticket.now());
        if let Some(order) = tunnel.order() {
            self.course.ordered(order, &tunnel.limits, now);
        }
        if expired {
            self.course.expired(&tunnel.limits, now);
        }
        self.settle();
    }

    fn settle(&mut self) -> bool {
        let (tunnel, now) = (self.ticket.tunnel(), self.ticket.now());
        let order = tunnel.order().map(|order| &**order);
        self.course.settle(order, &tunnel.limits, now)
    }

    /// Lets the sweep know of a deadline that is new since `before`.
    fn arm(&self, before: u32) {
        let state = self.course.state();
        if state != State::Open {
            self.ticket.tunnel().set_state(state);
        }
        let deadline = self.course.deadline();
        if deadline != before {
            self.ticket.arm(deadline);
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>, way: Way, scratch: &mut [u8]) -> Turn {
        let ahead = match &mut self.read_ahead {
            None => Bytes::new(),
            Some(both) => {
                let bytes = std::mem::take(&mut both[way as usize]);
                if both.iter().all(Bytes::is_empty) {
                    self.read_ahead = None;
                }
                bytes
            }
        };
        let direction = self.course.direction(way);
        let ticket = &self.ticket;
        match way {
            Way::In => Pump {
                way,
                direction,
                ticket,
                source: &mut self.client,
                sink: &mut self.backend,
            }
            .run(cx, &ahead, scratch),
            Way::Out => Pump {
                way,
                direction,
                ticket,
                source: &mut self.backend,
                sink: &mut self.client,
            }
            .run(cx, &ahead, scratch),
        }
    }

    /// Takes note of a turn's end; says whether another turn is due.
    fn conclude(&mut self, cx: &mut Context<'_>, way: Way, turn: Turn, scratch: &mut [u8]) -> bool {
        let (side, cause) = match turn {
            Turn::Waits => return false,
            Turn::MayGoOn => return true,
            Turn::SourceEnded(cause) => {
                self.course.source_ended(way, cause);
                return true;
            }
            Turn::SourceBroke(cause) => (way.source(), cause),
            Turn::SinkBroke(cause) => {
                // What the peer sent before it broke may still be readable: its
                // last words, often a Close frame.
                self.salvage(cx, way.reverse(), scratch);
                (way.sink(), cause)
            }
        };
        let now = self.ticket.now();
        self.course
            .broken(side, cause, &self.ticket.tunnel().limits, now);
        true
    }

    fn salvage(&mut self, cx: &mut Context<'_>, way: Way, scratch: &mut [u8]) {
        for _ in 0..TURNS_PER_POLL {
            if !matches!(self.turn(cx, way, scratch), Turn::MayGoOn) {
                return;
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let tunnel = self.ticket.tunnel();
        let (ended_by, cause) = self.course.began();
        Outcome {
            ended_by,
            cause,
            duration: tunnel.age(),
            bytes_in: tunnel.bytes_in(),
            bytes_out: tunnel.bytes_out(),
            messages_in: tunnel.messages_in(),
            messages_out: tunnel.messages_out(),
            client_close_code: self.course.close_code(Way::In),
            backend_close_code: self.course.close_code(Way::Out),
        }
    }
}

/// One direction with its streams, for one turn.
struct Pump<'a, S, K> {
    way: Way,
    direction: &'a mut Direction,
    ticket: &'a Ticket,
    source: &'a mut S,
    sink: &'a mut K,
}

impl<S: AsyncRead + Unpin, K: AsyncWrite + Unpin> Pump<'_, S, K> {
    fn run(&mut self, cx: &mut Context<'_>, ahead: &[u8], scratch: &mut [u8]) -> Turn {
        if !ahead.is_empty()
            && let Err(error) = self.forward(cx, ahead)
        {
            return Turn::SinkBroke(Cause::of_error(&error));
        }
        let mut turn = Turn::MayGoOn;
        for _ in 0..READS_PER_TURN {
            if let Poll::Ready(Err(error)) = self.write_rest(cx) {
                return Turn::SinkBroke(Cause::of_error(&error));
            }
            self.shut_sink(cx);
            if !self.direction.wants_read() {
                turn = Turn::Waits;
                break;
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *self.source).poll_read(cx, &mut buffer) {
                Poll::Pending => turn = Turn::Waits,
                Poll::Ready(Err(error)) => turn = ended_by(&error),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    turn = Turn::SourceEnded(Cause::Eof);
                }
                Poll::Ready(Ok(())) => {
                    if let Err(error) = self.forward(cx, buffer.filled()) {
                        return Turn::SinkBroke(Cause::of_error(&error));
                    }
                    continue;
                }
            }
            break;
        }
        match self.flush(cx) {
            Poll::Ready(Err(error)) => Turn::SinkBroke(Cause::of_error(&error)),
            _ => turn,
        }
    }

    /// Passes on bytes just read, and keeps those that the sink does not take.
    fn forward(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let (forwarded, messages) = self.direction.accept(bytes);
        let tunnel = self.ticket.tunnel();
        tunnel.touch(self.way, self.ticket.now());
        if forwarded == 0 {
            return Ok(());
        }
        tunnel.passed(self.way, forwarded, messages);
        let mut unsent = &bytes[..forwarded];
        while !unsent.is_empty() && !self.direction.has_rest() {
            match self.write(cx, unsent) {
                Poll::Ready(written) => unsent = &unsent[written?..],
                Poll::Pending => break,
            }
        }
        self.direction.keep(unsent);
        Ok(())
    }

    /// Ready once there is no rest.
    fn write_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.direction.has_rest() {
            let written = {
                let Self {
                    direction, sink, ..
                } = self;
                ready!(write_some(cx, *sink, direction.rest()))?
            };
            self.direction.unflushed = true;
            self.direction.wrote_rest(written);
            // A slow reader is not an idle one.
            self.ticket.tunnel().touch(self.way, self.ticket.now());
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(write_some(cx, self.sink, bytes))?;
        self.direction.unflushed = true;
        Poll::Ready(Ok(written))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.direction.unflushed {
            ready!(Pin::new(&mut *self.sink).poll_flush(cx))?;
            self.direction.unflushed = false;
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
            self.direction.unflushed = false;
        }
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
