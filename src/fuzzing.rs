//! Ways in for `fuzz/` to what reads strangers' bytes in rooms that are private.
//! The rest of it is in rooms that are public. longhaul itself calls none of this.

use std::path::Path;

use http::{HeaderMap, Uri};

use crate::config::{Config, Diagnostics, parse_text};
use crate::net::{Ambiguous, HeadGuard};
use crate::tls::{PemFile, PemProblem};

/// What a config file of this text says, if it includes no others.
///
/// # Errors
/// Everything that is wrong with it.
pub fn config(text: &str) -> Result<Config, Diagnostics> {
    parse_text(text)
}

/// The value of a cookie that a sticky key comes from.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    crate::proxy::cookie(headers, name)
}

/// The value of the query that a sticky key comes from.
pub fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    crate::proxy::query(uri, name)
}

/// Looks at a connection's bytes as they are read, up to the end of its first head.
///
/// # Errors
/// If two parsers could read that head differently.
pub fn head<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Ambiguous> {
    let mut guard = HeadGuard::default();
    reads.into_iter().try_for_each(|read| guard.check(read))
}

/// How many certificates a PEM file of these bytes holds: at least one.
///
/// # Errors
/// If it is no such file.
pub fn certificates(bytes: &[u8]) -> Result<usize, PemProblem> {
    let found = file(bytes).certificates();
    found.map(|all| all.len()).map_err(|error| error.problem)
}

/// The bytes of the one private key that a PEM file of these bytes holds.
///
/// # Errors
/// If it is no such file.
pub fn private_key(bytes: &[u8]) -> Result<Vec<u8>, PemProblem> {
    let found = file(bytes).private_key();
    found
        .map(|key| key.secret_der().to_vec())
        .map_err(|error| error.problem)
}

fn file(bytes: &[u8]) -> PemFile {
    PemFile::of(Path::new("fuzz.pem"), bytes.to_vec())
}
