//! Whether the files that a configuration names have changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::pem::PemFile;

/// A hash of the content of each certificate, key and CA file.
pub type Contents = BTreeMap<PathBuf, u64>;

/// Reads the files; blocks. One that cannot be read counts as empty.
pub fn contents<'p>(files: impl IntoIterator<Item = &'p Path>) -> Contents {
    let hash = |file: &Path| {
        // Bounded, and only of regular files.
        let content = PemFile::read(file);
        xxh3_64(content.as_ref().map_or(&[][..], |file| file.bytes()))
    };
    let files = files.into_iter();
    files.map(|file| (file.to_owned(), hash(file))).collect()
}
