//! Places of their own for access lines: standard output, a file, journald.
//!
//! Each has a thread that writes, behind a bounded queue: a place that is slow
//! loses lines and stalls no connection.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::{Destination, QUEUED_LINES};

/// Who may read an access log: clients' addresses are in it.
const FILE_MODE: u32 = 0o640;

/// An open place. Dropping it writes out what is queued.
pub(super) struct Sink {
    pub(super) writer: NonBlocking,
    file: Option<LogFile>,
    _writing: WorkerGuard,
}

impl Sink {
    /// `None` if access lines go to the log.
    pub(super) fn open(to: &Destination) -> io::Result<Option<Self>> {
        Ok(Some(match to {
            Destination::Log => return Ok(None),
            Destination::Stdout => Self::on(stdout(), None),
            Destination::Journald(socket) => Self::on(Journald::new(socket)?, None),
            Destination::File(path) => {
                let file = LogFile::open(path)?;
                Self::on(file.clone(), Some(file))
            }
        }))
    }

    fn on(place: impl Write + Send + 'static, file: Option<LogFile>) -> Self {
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
    pub(super) fn reopen(&self) -> io::Result<Option<&Path>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        file.reopen()?;
        Ok(Some(&file.path))
    }
}

/// A file that may be moved away and begun again.
#[derive(Clone)]
struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(Mutex::new(append_to(path)?)),
        })
    }

    /// The file before stays if there is no new one to be had.
    fn reopen(&self) -> io::Result<()> {
        let new = append_to(&self.path)?;
        let old = self.with(|file| std::mem::replace(file, new));
        // What it has buffered goes to where it was written.
        drop(old);
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BufWriter<File>) -> T) -> T {
        // Whatever its holder died of, it writes on.
        act(&mut self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn append_to(path: &Path) -> io::Result<BufWriter<File>> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE);
    Ok(BufWriter::new(options.open(path)?))
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Write::flush)
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
