//! A pipe between two sockets, for `splice(2)`.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What it is to hold, and most of what one call moves.
const SIZE: usize = 1 << 20;
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// # Errors
    /// As pipe(2).
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The kernel's own size serves as well.
        fcntl_setpipe_size(write.as_fd(), SIZE).ok();
        Ok(Self {
            read,
            write,
            held: 0,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves bytes from a socket into the empty pipe; 0 at the end of its stream.
    ///
    /// # Errors
    /// As splice(2); `WouldBlock` if the socket has none.
    pub fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        let moved = splice(from, None, &self.write, None, SIZE, FLAGS)?;
        self.held = moved;
        Ok(moved)
    }

    /// Moves as many bytes into a socket as it takes.
    ///
    /// # Errors
    /// As splice(2), but for a socket that takes no more.
    pub fn drain(&mut self, to: &TcpStream) -> io::Result<()> {
        while self.held > 0 {
            match splice(&self.read, None, to, None, self.held, FLAGS) {
                Ok(0) => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok(moved) => self.held -= moved,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
