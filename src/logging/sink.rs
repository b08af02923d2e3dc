//! Places of their own for access lines: standard output, a file, journald.
//!
//! Each has a thread that writes, behind a bounded queue: a place that is slow
//! loses lines and stalls no connection.

use std::io::{self, Write, stdout};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::file::{LogFile, OpenError, Reopen};
use super::lost::{Count, Counted};
use super::{Destination, QUEUED_LINES};

/// An open place. Dropping it writes out what is queued.
pub(super) struct Sink {
    pub(super) writer: NonBlocking,
    file: Option<Reopen>,
    _writing: WorkerGuard,
}

impl Sink {
    /// `None` if access lines go to the log.
    /// What cannot be written to it later is counted in `failed`.
    pub(super) fn open(to: &Destination, failed: &Count) -> Result<Option<Self>, OpenError> {
        let failed = failed.clone();
        Ok(Some(match to {
            Destination::Log => return Ok(None),
            Destination::Stdout => {
                let place = stdout();
                Self::on(Counted { place, failed }, None)
            }
            Destination::Journald(socket) => {
                let place = Journald::new(socket)?;
                Self::on(Counted { place, failed }, None)
            }
            Destination::File(path) => {
                let (file, reopen) = LogFile::open(path, failed)?;
                Self::on(file, Some(reopen))
            }
        }))
    }

    fn on(place: impl Write + Send + 'static, file: Option<Reopen>) -> Self {
        let (writer, writing) = NonBlockingBuilder::default()
            .buffered_lines_limit(QUEUED_LINES)
            .thread_name("access-log")
            .finish(place);
        Self {
            writer,
            file,
            _writing: writing,
        }
    }

    /// Goes on in a new file of the same name, if this is one; its name.
    pub(super) fn reopen(&self) -> Result<Option<&Path>, OpenError> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        file.reopen()?;
        Ok(Some(&file.path))
    }

    /// Lines that found the queue full.
    pub(super) fn dropped(&self) -> u64 {
        self.writer.error_counter().dropped_lines() as u64
    }
}

/// journald's socket, which takes an entry in each datagram.
struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journald {
    fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // That it is there; each entry is sent to the path, so that a journald
        // which starts again gets the next one.
        socket.connect(path)?;
        Ok(Self {
            socket: UnixDatagram::unbound()?,
            path: path.to_owned(),
        })
    }
}

impl Write for Journald {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.socket.send_to(entry, &self.path)?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
