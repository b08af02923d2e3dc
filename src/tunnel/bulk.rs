//! What a pair of streams can do beyond reading and writing: move payload in bulk,
//! tell of progress, ask their kernels, and pass on a break.
//!
//! When to do so is for others to know.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Moves payload that nobody need look at from one stream to another without
/// the scratch buffer, where the two streams allow it.
pub trait Bulk<S, K> {
    /// Moves some of at most `most` bytes.
    fn poll_move(cx: &mut Context<'_>, source: &mut S, sink: &mut K, most: u64) -> Moved;

    /// Whether the sink has taken any of the moved bytes since it was last
    /// asked.
    fn progressed(sink: &mut K) -> bool;

    /// Flushes the sink; says too whether it took any of what it held.
    fn flush(cx: &mut Context<'_>, sink: &mut K) -> (Poll<io::Result<()>>, bool)
    where
        K: AsyncWrite + Unpin,
    {
        let flushed = Pin::new(sink).poll_flush(cx);
        let took = matches!(flushed, Poll::Ready(Ok(())));
        (flushed, took)
    }

    /// Asks the kernel itself whether the source has something to say, past what
    /// it has told of that; where a read does so from now on, that read tells.
    fn stirs(_: &mut S) -> bool {
        false
    }

    /// Gives the sink some of what waits for it, as far as its kernel takes it
    /// when asked itself; of `rest` how many bytes, `None` if it took nothing.
    /// Where a write asks from now on, that write tells.
    fn press(_: &mut K, _rest: &[u8]) -> io::Result<Option<usize>> {
        Ok(None)
    }

    /// The source has broken: the end of the sink is to say so, if it can.
    fn sever(_: &mut K) {}

    /// Nothing more will be sent to the sink, nor waited for: dropping it is to
    /// leave nothing behind in the kernel.
    fn forsake(_: &mut K) {}
}

/// What came of a [`Bulk::poll_move`].
pub enum Moved {
    /// Not worth it, or not possible: read them.
    No,
    /// The source has nothing now, or the sink has not taken what it has.
    Waits,
    Bytes(usize),
    Ended,
    SourceBroke(io::Error),
    /// After the sink was given so many bytes.
    SinkBroke(usize, io::Error),
}

/// Everything goes through the scratch buffer.
#[derive(Debug)]
pub struct Copying;

impl<S, K> Bulk<S, K> for Copying {
    fn poll_move(_: &mut Context<'_>, _: &mut S, _: &mut K, _: u64) -> Moved {
        Moved::No
    }

    fn progressed(_: &mut K) -> bool {
        false
    }
}
