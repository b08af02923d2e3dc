//! Where the config names the files that others read.
//!
//! Deliberately beside the model and not in it: certificates are compared and
//! carried over by path, and only a finding about one needs its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diagnostic::{Place, WrittenAt};

/// Certificates, keys, CAs, users and keys of tokens, each with the place that names it first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFiles(BTreeMap<PathBuf, WrittenAt>);

impl NamedFiles {
    /// Where `path` is named.
    pub fn place(&self, path: &Path) -> Option<&Place> {
        self.0.get(path).map(|at| &at.0)
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    pub(super) fn add(&mut self, path: &Path, place: Place) {
        self.0.entry(path.to_owned()).or_insert(WrittenAt(place));
    }
}
