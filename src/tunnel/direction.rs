//! One way through a tunnel, from its source to its sink, without the streams:
//! what of the bytes read is forwarded, what is kept, and what has ended.
//!
//! It does not poll, wait or know of the other direction.
//!
//! Invariant: bytes leave by `rest` or at once, in the order they came, and
//! while there is a rest the source is read only to discard.

use std::ops::Range;
use std::time::Instant;

use crate::metrics::delay;
use crate::ws::frame::FrameCursor;

use super::options::Framing;
use super::outcome::Side;

/// Which of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Client to backend.
    In = 0,
    /// Backend to client.
    Out = 1,
}

/// What happens to bytes that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Pass,
    /// Up to the next message boundary, then `Stopped`.
    UntilBoundary,
    /// Up to the end of the source's Close frame, then `Stopped`.
    UntilClose,
    /// Nothing is forwarded any more.
    Stopped,
}

/// Whether a Close frame has gone to the sink, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseSent {
    No,
    Theirs,
    Ours,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    Open,
    /// To be shut once the rest is written.
    Shutting,
    Shut,
}

/// What has been given to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Given {
    Nothing,
    /// Of longhaul's own: it is no byte that has passed.
    Ping,
    Bytes,
}

#[derive(Debug)]
pub(super) struct Direction {
    pub(super) cursor: FrameCursor,
    rest: Option<Box<Rest>>,
    pub(super) flow: Flow,
    pub(super) sink: Sink,
    pub(super) close_sent: CloseSent,
    /// The source has ended its stream or broken.
    pub(super) source_ended: bool,
    /// Since the last flush.
    pub(super) unflushed: Given,
}

/// Bytes that the sink has not taken yet.
#[derive(Debug)]
struct Rest {
    bytes: Vec<u8>,
    written: usize,
    /// When the message was read that begins here, if it is being measured.
    since: Option<Instant>,
    /// Where the one ping is that may be among them.
    ping: Range<usize>,
}

impl Direction {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            cursor: match framing {
                Framing::WebSocket => FrameCursor::new(),
                Framing::Opaque => FrameCursor::blind(),
            },
            rest: None,
            flow: Flow::Pass,
            sink: Sink::Open,
            close_sent: CloseSent::No,
            source_ended: false,
            unflushed: Given::Nothing,
        }
    }

    /// Follows bytes just read and says how many of them, from the first, are
    /// to be forwarded, and the messages that had passed whole by then.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> (usize, u64) {
        let forwarded = match self.flow {
            Flow::Pass => {
                self.cursor.advance(bytes);
                bytes.len()
            }
            Flow::UntilBoundary => self.cursor.advance_to_message_boundary(bytes),
            Flow::UntilClose => self.cursor.advance_past_close(bytes),
            Flow::Stopped => 0,
        };
        let messages = self.cursor.messages();
        if forwarded > 0 && self.close_sent == CloseSent::No && self.cursor.close().is_some() {
            self.close_sent = CloseSent::Theirs;
        }
        self.stop_if_due();
        self.cursor.advance(&bytes[forwarded..]);
        (forwarded, messages)
    }

    /// Messages that have come whole so far.
    pub(super) fn messages(&self) -> u64 {
        self.cursor.messages()
    }

    /// How many bytes are sure to be forwarded whatever they are, so that nobody
    /// need look at them: the open frame's payload, or everything where there
    /// are no frames.
    pub(super) fn to_come(&self) -> u64 {
        match self.flow {
            Flow::Pass if self.cursor.is_lost() => u64::MAX,
            // The status code is looked at.
            _ if self.cursor.close_begun() => 0,
            Flow::Stopped => 0,
            Flow::Pass | Flow::UntilBoundary | Flow::UntilClose => self.cursor.payload_left(),
        }
    }

    /// Takes note of `count` of those bytes, which are on their way; the
    /// messages that had passed whole by then.
    pub(super) fn accept_unseen(&mut self, count: usize) -> u64 {
        self.cursor.skip(count as u64);
        self.stop_if_due();
        self.cursor.messages()
    }

    /// Stops here, or at the next place where that cuts nothing.
    pub(super) fn stop_at(&mut self, flow: Flow) {
        if self.flow != Flow::Stopped {
            self.flow = flow;
            self.stop_if_due();
        }
    }

    fn stop_if_due(&mut self) {
        let due = match self.flow {
            Flow::Pass => false,
            Flow::UntilBoundary => {
                self.close_sent == CloseSent::Theirs || self.cursor.at_message_boundary()
            }
            Flow::UntilClose => self.close_sent == CloseSent::Theirs,
            Flow::Stopped => return,
        };
        if due {
            self.flow = Flow::Stopped;
        }
    }

    /// Keeps bytes until the sink takes them, behind those kept already.
    pub(super) fn keep(&mut self, unsent: &[u8]) {
        if unsent.is_empty() {
            return;
        }
        let rest = self.rest.get_or_insert_with(|| {
            Box::new(Rest {
                bytes: Vec::with_capacity(unsent.len()),
                written: 0,
                since: None,
                ping: 0..0,
            })
        });
        rest.bytes.extend_from_slice(unsent);
    }

    /// Whether the next byte begins a message, or whatever is read at once where
    /// there are none.
    pub(super) fn begins_message(&self) -> bool {
        self.flow == Flow::Pass && (self.cursor.at_message_boundary() || self.cursor.is_lost())
    }

    /// A message that is being measured, read at `since`, has been passed on but
    /// for what is kept.
    pub(super) fn measure(&mut self, since: Instant) {
        match &mut self.rest {
            Some(rest) => rest.since = Some(since),
            None => delay::passed(since.elapsed()),
        }
    }

    /// Keeps a ping, or what was not taken of it.
    pub(super) fn keep_ping(&mut self, unsent: &[u8]) {
        self.keep(unsent);
        if let Some(rest) = &mut self.rest {
            let end = rest.bytes.len();
            rest.ping = end - unsent.len()..end;
        }
    }

    /// Bytes that wait for the sink.
    pub(super) fn rest(&self) -> &[u8] {
        self.rest
            .as_ref()
            .map_or(&[], |rest| &rest.bytes[rest.written..])
    }

    pub(super) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// The sink took `written` bytes of the rest; what they were.
    pub(super) fn wrote_rest(&mut self, written: usize) -> Given {
        let Some(rest) = self.rest.as_mut().filter(|_| written > 0) else {
            return Given::Nothing;
        };
        let from = rest.written;
        rest.written += written;
        let is_ping = rest.ping.contains(&from) && rest.written <= rest.ping.end;
        if rest.written >= rest.bytes.len() {
            if let Some(since) = rest.since {
                delay::passed(since.elapsed());
            }
            self.rest = None;
        }
        match is_ping {
            true => Given::Ping,
            false => Given::Bytes,
        }
    }

    /// Whether the source is to be read now.
    pub(super) fn wants_read(&self) -> bool {
        !self.source_ended && (self.flow == Flow::Stopped || self.rest.is_none())
    }

    /// The sink has broken: nothing can be forwarded any more.
    pub(super) fn lose_sink(&mut self) {
        self.rest = None;
        self.unflushed = Given::Nothing;
        self.flow = Flow::Stopped;
        self.sink = Sink::Shut;
    }

    /// Whether bytes wait for the sink, here or in its stream.
    pub(super) fn is_held_up(&self) -> bool {
        self.has_rest() || self.unflushed > Given::Nothing
    }

    /// Whether a ping of longhaul's own may go in here (RFC 6455 sections 5.4,
    /// 5.5.1).
    pub(super) fn takes_ping(&self) -> bool {
        self.may_take_ping() && self.cursor.at_frame_boundary()
    }

    /// Whether one may at a frame boundary.
    pub(super) fn may_take_ping(&self) -> bool {
        self.flow == Flow::Pass && self.sink == Sink::Open && self.close_sent == CloseSent::No
    }

    /// Whether it still forwards but will never see a boundary again.
    pub(super) fn is_adrift(&self) -> bool {
        self.cursor.is_lost() && self.flow != Flow::Stopped && !self.source_ended
    }

    pub(super) fn is_done(&self) -> bool {
        self.source_ended && self.sink == Sink::Shut
    }
}

impl Way {
    pub(super) const BOTH: [Self; 2] = [Self::In, Self::Out];

    pub(super) fn reverse(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }

    pub(super) fn source(self) -> Side {
        match self {
            Self::In => Side::Client,
            Self::Out => Side::Backend,
        }
    }

    pub(super) fn sink(self) -> Side {
        self.reverse().source()
    }
}
