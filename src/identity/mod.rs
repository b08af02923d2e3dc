//! Who a request is from, by what it carries itself: a password (`users`) or a
//! signed token (`token`).
//!
//! It reads the files that know them when a snapshot is made, and dials nobody:
//! keys that come from a URL are in a `keyring`, which `fetch` fills.
//! Finding a token in a request, and what becomes of the request, is `proxy`'s.
//!
//! Invariant: no secret of a client, nor a key, is in a log line, an error or a
//! `Debug` of this room.

mod keyring;
mod keys;
mod token;
mod turns;
mod users;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use keyring::Keyring;
pub use keys::Keys;
pub use token::{Claims, KeySet, Tokens, Unfit};
pub use turns::Turns;
pub use users::{Users, Verdict};

use crate::files::{self, FileError};

/// Of a users file, or of one of keys.
const MOST_BYTES: u64 = 1024 * 1024;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{0} cannot be read: {1}")]
    Read(PathBuf, FileError),
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    #[error("{file}:{line}: {what}")]
    User {
        file: PathBuf,
        line: usize,
        what: &'static str,
    },
    #[error("{0} has no users")]
    NoUsers(PathBuf),
    #[error("{0} is no JWK set: {1}")]
    NotKeys(String, serde_json::Error),
    #[error("key {1} of {0}: {2}")]
    Key(String, usize, &'static str),
    #[error("{0} has no key that `algorithms` can use")]
    NoKeys(String),
    #[error("{0} has no key that can be used")]
    NoPublicKeys(String),
    #[error("{0} has more than {1} keys")]
    TooManyKeys(String, usize),
}

fn read(path: &Path) -> Result<String, IdentityError> {
    let bytes = files::open(path).and_then(|file| files::read(&file, MOST_BYTES));
    let bytes = bytes.map_err(|error| IdentityError::Read(path.to_owned(), error))?;
    String::from_utf8(bytes).map_err(|_| IdentityError::NotText(path.to_owned()))
}
