//! The pipes of one thread, for payload on its way through `splice(2)`.
//!
//! Two descriptors and pages for each: so they are few, lent out for as long
//! as bytes are in them, and where none is to be had the bytes are copied.
//!
//! Two more things are bounded: how many pipes are kept for the next use, and
//! how many bytes in memory stand in for a pipe.
//!
//! Invariant: a pipe in the pool is empty; one that is given back with bytes in
//! it is closed.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Most pipes of one thread.
const MOST: usize = 64;

/// Most empty pipes that a thread keeps: one is in use at a time, but for those
/// whose bytes wait, and descriptors are for tunnels.
const SPARE: usize = 4;

/// Most bytes of one thread that are kept in memory to give a pipe back: else
/// readers that stall would have half a MiB each, however many they are.
const MOST_KEPT: usize = 16 * 1024 * 1024;

/// What a pipe is to hold. Without privilege the kernel may refuse
/// (`pipe-user-pages-soft`); its own size serves as well.
const SIZE: usize = 256 * 1024;

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { spare: Vec::new(), lent: 0, most: MOST, kept: 0 }) };
}

struct Pool {
    spare: Vec<Ends>,
    lent: usize,
    most: usize,
    /// Bytes of all [`Kept`].
    kept: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// Bytes that were in a pipe, which others need more.
#[derive(Debug)]
pub(super) struct Kept(Vec<u8>);

/// A pipe on loan, until dropped.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    left: usize,
}

impl Pipe {
    /// An empty pipe, if there is one to be had.
    pub(super) fn borrow() -> Option<Self> {
        POOL.with_borrow_mut(|pool| {
            if pool.lent >= pool.most {
                return None;
            }
            let ends = pool.spare.pop().or_else(Ends::open)?;
            pool.lent += 1;
            Some(Self {
                ends: Some(ends),
                left: 0,
            })
        })
    }

    /// Bytes in it.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Moves at most `most` bytes from a socket into the empty pipe. It takes
    /// more than its nominal size where the kernel passes large pages on.
    pub(super) fn fill_from(
        &mut self,
        source: BorrowedFd<'_>,
        most: usize,
    ) -> Result<usize, Errno> {
        let moved = splice(source, None, &self.ends()?.write, None, most, FLAGS)?;
        self.left += moved;
        Ok(moved)
    }

    /// Moves bytes on into a socket; 0 when none are left.
    pub(super) fn drain_into(&mut self, sink: BorrowedFd<'_>) -> Result<usize, Errno> {
        if self.left == 0 {
            return Ok(0);
        }
        let moved = splice(&self.ends()?.read, None, sink, None, self.left, FLAGS)?;
        if moved == 0 {
            // A pipe whose writing end is held never ends.
            return Err(Errno::PIPE);
        }
        self.left -= moved;
        Ok(moved)
    }

    /// Empties it into memory, unless that holds too much already.
    pub(super) fn keep(&mut self) -> Result<Option<Kept>, Errno> {
        let Some(mut kept) = Kept::room_for(self.left) else {
            return Ok(None);
        };
        let bytes = &mut kept.0;
        let mut read = 0;
        while read < bytes.len() {
            match rustix::io::read(&self.ends()?.read, &mut bytes[read..]) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(some) => {
                    read += some;
                    self.left -= some;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(kept))
    }

    fn ends(&self) -> Result<&Ends, Errno> {
        self.ends.as_ref().ok_or(Errno::BADF)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // At the thread's end the pool may be gone before its loans.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.lent -= 1;
            if self.left == 0 && pool.spare.len() < SPARE {
                pool.spare.extend(self.ends.take());
            }
        });
    }
}

impl Kept {
    fn room_for(count: usize) -> Option<Self> {
        POOL.with_borrow_mut(|pool| {
            let kept = pool.kept + count;
            (kept <= MOST_KEPT).then(|| {
                pool.kept = kept;
                Self(vec![0; count])
            })
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = POOL.try_with(|pool| pool.borrow_mut().kept -= self.0.len());
    }
}

impl Ends {
    fn open() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let _ = fcntl_setpipe_size(write.as_fd(), SIZE);
        Some(Self { read, write })
    }
}

/// Whether any pipe of this thread is lent out.
#[cfg(test)]
pub(in crate::tunnel) fn lent() -> usize {
    POOL.with_borrow(|pool| pool.lent)
}

/// Descriptors of this thread's empty pipes, and bytes that it has kept.
#[cfg(test)]
pub(in crate::tunnel) fn held() -> (usize, usize) {
    POOL.with_borrow(|pool| (2 * pool.spare.len(), pool.kept))
}

/// Has this thread own no more than `most` pipes.
#[cfg(test)]
pub(in crate::tunnel) fn at_most(most: usize) {
    POOL.with_borrow_mut(|pool| {
        pool.most = most;
        pool.spare.truncate(most);
    });
}
