//! Whether the files that a configuration names have changed.

use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::pem::PemFile;

/// A hash of the contents of certificate, key and CA files, in this order;
/// blocks. One that cannot be read counts as empty.
pub fn contents_hash<'p>(files: impl IntoIterator<Item = &'p Path>) -> u64 {
    let mut hash = Xxh3::new();
    for file in files {
        // Bounded, and only of regular files.
        let content = PemFile::read(file);
        let content = content.as_ref().map_or(&[][..], |file| file.bytes());
        hash.update(&(content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    hash.digest()
}
