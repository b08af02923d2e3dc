//! Files that a person has named: read whole, without waiting, and bounded.
//!
//! What is named may be anything. A pipe without a writer would be waited for, a
//! device may never end, and whoever reads would hold up every later reload.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use xxhash_rust::xxh3::xxh3_64;

/// More than any file beside the configuration that somebody means.
const MOST_HASHED: u64 = 4 << 20;

/// A hash of the content of each file.
pub type Hashes = BTreeMap<PathBuf, u64>;

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("larger than {0} bytes")]
    TooLarge(u64),
}

/// Opens a regular file for reading.
///
/// # Errors
/// [`FileError::NotRegular`] for anything else; what the system says.
pub fn open(path: &Path) -> Result<File, FileError> {
    // Of regular files nobody waits for the opening; of the others nobody shall.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(FileError::NotRegular),
    }
}

/// The rest of the file, if that is no more than so many bytes; blocks.
///
/// # Errors
/// [`FileError::TooLarge`]; what the system says.
pub fn read(file: &File, most: u64) -> Result<Vec<u8>, FileError> {
    let mut contents = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut contents)?;
    match read as u64 > most {
        true => Err(FileError::TooLarge(most)),
        false => Ok(contents),
    }
}

/// What the files have in them, to see later whether one has changed; blocks. One
/// that cannot be read counts as empty.
pub fn hashes<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Hashes {
    let hash = |path: &Path| {
        let contents = open(path).and_then(|file| read(&file, MOST_HASHED));
        xxh3_64(&contents.unwrap_or_default())
    };
    let paths = paths.into_iter();
    paths.map(|path| (path.to_owned(), hash(path))).collect()
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn whole(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
        read(&open(path)?, most)
    }

    #[test]
    fn a_file_is_read_up_to_the_bound_and_not_beyond() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(whole(&path, 5).unwrap(), b"12345");
        assert!(matches!(whole(&path, 4), Err(FileError::TooLarge(4))));
    }

    #[test]
    fn a_pipe_without_a_writer_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(matches!(whole(&path, 9), Err(FileError::NotRegular)));
        assert!(matches!(
            whole(directory.path(), 9),
            Err(FileError::NotRegular)
        ));
    }

    #[test]
    fn what_is_not_there_is_an_error_of_the_system() {
        let error = whole(Path::new("/nowhere/at/all"), 9).unwrap_err();
        assert!(matches!(error, FileError::Io(error) if error.kind() == io::ErrorKind::NotFound));
    }
}
