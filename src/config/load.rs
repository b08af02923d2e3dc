//! Reads the main file and everything it includes.
//!
//! Deliberately decides nothing about their contents: that is `parse`'s.
//!
//! Invariant: each file is read once, and what was read is what is hashed,
//! parsed and reported.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use super::diagnostic::{Diagnostic, Diagnostics, Place};
use super::findings::Findings;
use super::include::{Matched, existing, is_pattern};
use super::model::Config;
use super::parse::{includes, parse};
use super::source::Source;
use crate::files::{self, FileError};

/// Larger files are no configs; reading must end.
const LARGEST: u64 = 16 << 20;

/// What is in the files, and which they are.
#[derive(Debug)]
pub struct Loaded {
    /// The config, or everything that is wrong.
    pub result: Result<Config, Diagnostics>,
    /// Every file that was read or tried, main file first; absolute.
    pub files: Vec<PathBuf>,
    /// The directories in which files may appear that `include` would match,
    /// and that of the main file; absolute. One that does not exist is
    /// represented by the nearest one above it that does.
    pub directories: Vec<PathBuf>,
    /// The same for the same contents, wherever the main file's directory is.
    pub hash: u64,
}

/// Reads the main file and everything it includes.
pub fn load(path: &Path) -> Loaded {
    let mut loading = Loading::new(path);
    let findings = Findings::default();
    let main = loading.read(
        path.display().to_string(),
        &loading.main.clone(),
        None,
        &findings,
    );
    let Some(main) = main else {
        let found = findings.into_diagnostics(&path.display().to_string().into());
        return loading.finish(Err(found));
    };
    let mut included = Vec::new();
    for (pattern, place) in includes(&main) {
        included.extend(loading.include(&pattern, &place, &findings));
    }
    let result = parse(&main, &included, findings);
    loading.finish(result)
}

struct Loading {
    /// Absolute.
    main: PathBuf,
    /// The main file's directory, absolute and as the operator wrote it.
    directory: PathBuf,
    shown: PathBuf,
    files: Vec<PathBuf>,
    directories: BTreeSet<PathBuf>,
    hash: Xxh3Default,
}

impl Loading {
    fn new(path: &Path) -> Self {
        // Without a working directory there is no better name than this one.
        let main = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = main.parent().unwrap_or_else(|| Path::new("/")).to_owned();
        Self {
            directories: BTreeSet::from([existing(&directory)]),
            shown: path.parent().unwrap_or_else(|| Path::new("")).to_owned(),
            directory,
            main,
            files: Vec::new(),
            hash: Xxh3Default::new(),
        }
    }

    fn finish(self, result: Result<Config, Diagnostics>) -> Loaded {
        Loaded {
            result,
            files: self.files,
            directories: self.directories.into_iter().collect(),
            hash: self.hash.digest(),
        }
    }

    /// The file, or a finding at `included_at` or else about the file.
    fn read(
        &mut self,
        name: String,
        path: &Path,
        included_at: Option<&Place>,
        findings: &Findings,
    ) -> Option<Source> {
        self.files.push(path.to_owned());
        let contents = contents(path);
        self.add_to_hash(path, contents.as_ref().ok());
        let message = match contents.map(String::from_utf8) {
            Ok(Ok(text)) => return Some(Source::named(path, name, text)),
            Ok(Err(error)) => {
                let bytes = error.utf8_error().valid_up_to();
                // What is before the first wrong byte is UTF-8.
                let before = String::from_utf8_lossy(&error.as_bytes()[..bytes]).into_owned();
                let place = Source::named(path, name, before).place(bytes);
                findings.syntax(Diagnostic::new(place, "the file is not UTF-8"));
                return None;
            }
            Err(error) => format!("cannot read the file: {error}"),
        };
        let diagnostic = match included_at {
            Some(place) => {
                let message = format!("include `{name}`: {message}");
                Diagnostic::new(place.clone(), message)
            }
            None => Diagnostic::new(Place::file(name), message),
        };
        findings.syntax(diagnostic);
        None
    }

    /// The files of one entry of `include` that no earlier one had.
    fn include(&mut self, written: &str, place: &Place, findings: &Findings) -> Vec<Source> {
        if !is_pattern(written) {
            let path = self.directory.join(written);
            let directory = path.parent().unwrap_or(&path);
            self.directories.insert(existing(directory));
            if path == self.main {
                let message = "the main file includes itself";
                findings.push(Diagnostic::new(place.clone(), message));
                return Vec::new();
            }
            let source = self.read_new(path, Some(place), findings);
            return source.into_iter().collect();
        }
        let matched = match Matched::new(&self.directory, written) {
            Ok(matched) => matched,
            Err(error) => {
                findings.syntax(
                    Diagnostic::new(place.clone(), "wrong pattern in `include`")
                        .found(format!("{written:?}: {}", error.msg))
                        .allowed("`*`, `?` and `[abc]`"),
                );
                return Vec::new();
            }
        };
        self.directories.extend(matched.directories);
        for error in matched.unreadable {
            let (path, error) = (error.path().display(), error.error());
            let message = format!("include `{written}`: cannot read {path}: {error}");
            findings.syntax(Diagnostic::new(place.clone(), message));
        }
        let mut sources = Vec::new();
        for path in matched.files {
            sources.extend(self.read_new(path, None, findings));
        }
        sources
    }

    fn read_new(
        &mut self,
        path: PathBuf,
        included_at: Option<&Place>,
        findings: &Findings,
    ) -> Option<Source> {
        if self.files.contains(&path) {
            return None;
        }
        let shown = match path.strip_prefix(&self.directory) {
            Ok(below) => self.shown.join(below),
            Err(_) => path.clone(),
        };
        self.read(shown.display().to_string(), &path, included_at, findings)
    }

    /// A file that cannot be read hashes unlike an empty one.
    fn add_to_hash(&mut self, path: &Path, contents: Option<&Vec<u8>>) {
        let below = path.strip_prefix(&self.directory).unwrap_or(path);
        let name = below.as_os_str().as_encoded_bytes();
        self.hash.update(&(name.len() as u64).to_le_bytes());
        self.hash.update(name);
        match contents {
            Some(contents) => {
                self.hash.update(&(contents.len() as u64).to_le_bytes());
                self.hash.update(contents);
            }
            None => self.hash.update(&u64::MAX.to_le_bytes()),
        }
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, FileError> {
    files::read(&files::open(path)?, LARGEST)
}
