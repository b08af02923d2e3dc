//! Bulk between two plain sockets: payload moves in the kernel, by `splice(2)`
//! through a pipe, while the frame cursor says that much is to come.
//!
//! It never looks at a byte, so it moves payload only; headers are read.
//!
//! Invariant: a tunnel holds a pipe only while bytes are in it that its sink
//! has not taken, and the worker empties one that stays so for long.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use rustix::io::Errno;

use super::pipes::{Kept, Pipe};
use super::sock::Sock;
use crate::net::reset_when_closed;
use crate::tunnel::bulk::{Bulk, Moved};

/// Moved at once, and so the most that a direction keeps in the kernel.
const MOST: usize = 512 * 1024;

/// Splices in a row below `Worth::thin` before the stream is read again.
const THIN_SPLICES: u8 = 2;

thread_local! {
    static WORTH: Cell<Worth> = const { Cell::new(Worth::MEASURED) };
}

/// From how many bytes on it is worth it.
#[derive(Clone, Copy, Debug)]
pub(in crate::tunnel) struct Worth {
    /// To come, to begin with.
    pub(in crate::tunnel) start: u64,
    /// To come, to go on.
    pub(in crate::tunnel) tail: u64,
    /// Moved by one call.
    pub(in crate::tunnel) thin: usize,
    /// Reads in a row that filled the buffer, before it begins.
    pub(in crate::tunnel) full_reads: u8,
    /// The same where no cursor says what is to come.
    pub(in crate::tunnel) full_reads_blind: u8,
}

/// Bytes on their way to a socket that has not taken them yet.
#[derive(Debug)]
pub(super) enum Queued {
    Pipe(Pipe),
    /// Once in a pipe, which others need more.
    Bytes {
        kept: Kept,
        written: usize,
    },
}

/// Splices what is worth it.
#[derive(Debug)]
pub(in crate::tunnel) struct Splicing;

impl Worth {
    const MEASURED: Self = Self {
        start: 64 * 1024,
        tail: 16 * 1024,
        thin: 16 * 1024,
        full_reads: 1,
        full_reads_blind: 4,
    };
}

impl Bulk<Sock, Sock> for Splicing {
    fn poll_move(_: &mut Context<'_>, source: &mut Sock, sink: &mut Sock, most: u64) -> Moved {
        let worth = WORTH.get();
        if !is_worth_it(source, most, worth) {
            return Moved::No;
        }
        match sink.write_queued() {
            Poll::Pending => return Moved::Waits,
            Poll::Ready(Err(error)) => return Moved::SinkBroke(0, error),
            Poll::Ready(Ok(())) => {}
        }
        if !source.readable || !sink.writable {
            return Moved::Waits;
        }
        let Some(mut pipe) = Pipe::borrow() else {
            return Moved::No;
        };
        let most = usize::try_from(most).map_or(MOST, |most| most.min(MOST));
        let moved = match fill(&mut pipe, source, most) {
            Ok(moved) => moved,
            Err(stop) => return stop,
        };
        if moved >= worth.thin {
            source.thin_splices = 0;
        } else {
            source.thin_splices += 1;
            if source.thin_splices >= THIN_SPLICES {
                source.stop_splicing();
            }
        }
        match empty(&mut pipe, sink) {
            Ok(()) => Moved::Bytes(moved),
            Err(Errno::AGAIN) => {
                sink.queue(pipe);
                Moved::Bytes(moved)
            }
            Err(error) => Moved::SinkBroke(moved, error.into()),
        }
    }

    fn progressed(sink: &mut Sock) -> bool {
        sink.take_progress()
    }

    fn stirs(source: &mut Sock) -> bool {
        source.readable = true;
        false
    }

    fn press(sink: &mut Sock, _rest: &[u8]) -> io::Result<Option<usize>> {
        sink.writable = true;
        Ok(None)
    }

    fn forsake(sink: &mut Sock) {
        reset_when_closed(sink.as_fd());
    }
}

fn is_worth_it(source: &mut Sock, most: u64, worth: Worth) -> bool {
    if source.splicing {
        if most < worth.tail {
            source.stop_splicing();
        }
        return source.splicing;
    }
    let signs = match most {
        u64::MAX => worth.full_reads_blind,
        _ => worth.full_reads,
    };
    if most < worth.start || source.full_reads < signs {
        return false;
    }
    source.splicing = true;
    source.thin_splices = 0;
    true
}

/// Moves bytes from `source` into the empty pipe; `Err` if there are none to
/// move.
fn fill(pipe: &mut Pipe, source: &mut Sock, most: usize) -> Result<usize, Moved> {
    loop {
        match pipe.fill_from(source.as_fd(), most) {
            Ok(0) => return Err(Moved::Ended),
            Ok(moved) => return Ok(moved),
            // It also says so at an urgent mark, with bytes behind it, and the
            // kernel may have told of all that there is to tell: a read passes.
            Err(Errno::AGAIN) if source.more_than_bytes => {
                source.stop_splicing();
                return Err(Moved::No);
            }
            Err(Errno::AGAIN) => {
                source.readable = false;
                return Err(Moved::Waits);
            }
            Err(Errno::INTR) => {}
            // Not for this kind of socket, or forbidden.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {
                source.stop_splicing();
                return Err(Moved::No);
            }
            Err(error) => return Err(Moved::SourceBroke(error.into())),
        }
    }
}

/// Moves all bytes of the pipe into `sink`.
fn empty(pipe: &mut Pipe, sink: &Sock) -> Result<(), Errno> {
    while pipe.left() > 0 {
        match pipe.drain_into(sink.as_fd()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Queued {
    /// Gives the socket some of the bytes; 0 when none are left.
    pub(super) fn write_to(&mut self, sink: impl AsFd) -> Result<usize, Errno> {
        match self {
            Self::Pipe(pipe) => pipe.drain_into(sink.as_fd()),
            Self::Bytes { kept, written } if *written == kept.bytes().len() => Ok(0),
            Self::Bytes { kept, written } => {
                use rustix::net::SendFlags;
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                let sent = rustix::net::send(sink, &kept.bytes()[*written..], flags)?;
                *written += sent;
                Ok(sent)
            }
        }
    }

    pub(super) fn holds_pipe(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }

    /// Gives the pipe back and keeps its bytes in memory, if there is room.
    ///
    /// # Errors
    /// The bytes are lost.
    pub(super) fn leave_pipe(&mut self) -> io::Result<()> {
        if let Self::Pipe(pipe) = self
            && let Some(kept) = pipe.keep()?
        {
            *self = Self::Bytes { kept, written: 0 };
        }
        Ok(())
    }
}

/// Has this thread splice for other reasons than it would.
#[cfg(test)]
pub(in crate::tunnel) fn set_worth(worth: Worth) {
    WORTH.set(worth);
}
