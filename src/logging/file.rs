//! The file that access lines are written to, which may be moved away and begun
//! again.
//!
//! Invariant: nobody but the thread that writes waits for the file. A new one is
//! left for it, and what is no file, or a device that waits for nobody, is never
//! opened.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use super::lost::Count;

/// Who may read an access log: clients' addresses are in it.
const FILE_MODE: u32 = 0o640;
/// Bytes of lines that are written together while more are coming.
const TOGETHER: usize = 8 * 1024;

/// Why there is no place for access lines.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("neither a regular file nor a character device")]
    NotAFile,
}

/// What the thread writes to.
pub(super) struct LogFile {
    file: File,
    /// Begun by others, to go on in.
    next: Next,
    lines: Vec<u8>,
    count: u64,
    failed: Count,
}

/// What others have of it.
#[derive(Clone)]
pub(super) struct Reopen {
    pub(super) path: PathBuf,
    next: Next,
}

type Next = Arc<Mutex<Option<File>>>;

impl LogFile {
    pub(super) fn open(path: &Path, failed: Count) -> Result<(Self, Reopen), OpenError> {
        let next = Next::default();
        let file = Self {
            file: append_to(path)?,
            next: Arc::clone(&next),
            lines: Vec::new(),
            count: 0,
            failed,
        };
        let path = path.to_owned();
        Ok((file, Reopen { path, next }))
    }

    /// Writes what waits; it is gone then, whether that went well or not, so that a
    /// full disk holds no more than it must.
    fn write_out(&mut self) {
        if self.file.write_all(&self.lines).is_err() {
            self.failed.add(self.count);
        }
        self.lines.clear();
        self.count = 0;
    }
}

impl Reopen {
    /// The file before stays if there is no new one to be had.
    pub(super) fn reopen(&self) -> Result<(), OpenError> {
        let new = append_to(&self.path)?;
        self.next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(new);
        Ok(())
    }
}

impl Write for LogFile {
    /// Takes a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let next = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(next) = next {
            // What waits belongs to where the lines before it are.
            self.write_out();
            self.file = next;
        }
        self.lines.extend_from_slice(line);
        self.count += 1;
        if self.lines.len() >= TOGETHER {
            self.write_out();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out();
        Ok(())
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.write_out();
    }
}

fn append_to(path: &Path) -> Result<File, OpenError> {
    // A pipe would be waited for, and a terminal taken.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE);
    options.custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(|error| {
        // A pipe that nobody reads, or a socket.
        match error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
            true => OpenError::NotAFile,
            false => OpenError::Io(error),
        }
    })?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_char_device() {
        return Err(OpenError::NotAFile);
    }
    // The thread that writes may wait.
    fcntl_setfl(&file, OFlags::APPEND).map_err(io::Error::from)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let open = |path: &Path| LogFile::open(path, Count::default());
        assert!(matches!(open(&pipe), Err(OpenError::NotAFile)));
        // Nor if somebody reads it.
        let mut options = OpenOptions::new();
        let options = options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let _reader = options.open(&pipe).unwrap();
        assert!(matches!(open(&pipe), Err(OpenError::NotAFile)));
        assert!(matches!(open(directory.path()), Err(OpenError::Io(_))));
        assert!(open(Path::new("/dev/null")).is_ok());
    }

    #[test]
    fn lines_go_on_in_a_new_file_and_what_fails_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("a"), directory.path().join("b"));
        let failed = Count::default();
        let (mut file, reopen) = LogFile::open(&path, failed.clone()).unwrap();
        file.write_all(b"1\n").unwrap();
        fs::rename(&path, &old).unwrap();
        reopen.reopen().unwrap();
        file.write_all(b"2\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(old).unwrap(), "1\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "2\n");
        assert_eq!(failed.get(), 0);
        let (mut file, _) = LogFile::open(Path::new("/dev/full"), failed.clone()).unwrap();
        for _ in 0..3 {
            file.write_all(b"3\n").unwrap();
        }
        file.flush().unwrap();
        assert_eq!(failed.get(), 3);
        file.write_all(b"4\n").unwrap();
        drop(file);
        assert_eq!(failed.get(), 4);
    }
}
