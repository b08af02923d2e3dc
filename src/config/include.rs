//! The patterns of `include`: which files they match, and in which directories
//! a file may appear that they would match.
//!
//! Invariant: a name that begins with a dot matches only a pattern that says
//! so, because editors and Kubernetes leave such names behind.

use std::path::{Component, Path, PathBuf};

use glob::{GlobError, MatchOptions, Pattern, PatternError, glob_with};

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: true,
};

/// What a pattern matches now.
pub(super) struct Matched {
    /// In the order of their names.
    pub(super) files: Vec<PathBuf>,
    /// Those that the pattern looks into. One that does not exist is
    /// represented by the nearest one above it that does.
    pub(super) directories: Vec<PathBuf>,
    /// Directories that could not be listed.
    pub(super) unreadable: Vec<GlobError>,
}

impl Matched {
    /// Lists what `written` matches, relative to `directory`.
    ///
    /// # Errors
    /// What is wrong with the pattern itself.
    pub(super) fn new(directory: &Path, written: &str) -> Result<Self, PatternError> {
        if let Some(pos) = written.find("**") {
            // It would follow links that lead back up, round after round.
            let msg = "`**` is not supported; name the directories";
            return Err(PatternError { pos, msg });
        }
        let above = match Path::new(written).is_absolute() {
            true => String::new(),
            // The directory's own name may hold what is special in patterns.
            false => format!("{}/", Pattern::escape(&directory.to_string_lossy())),
        };
        let mut matched = Self {
            files: Vec::new(),
            directories: vec![existing(&directory.join(literal_start(written)))],
            unreadable: Vec::new(),
        };
        for found in glob_with(&format!("{above}{written}"), OPTIONS)? {
            match found {
                Ok(path) if path.is_dir() => {}
                Ok(path) => matched.files.push(path),
                Err(error) => matched.unreadable.push(error),
            }
        }
        let parents = Path::new(written).ancestors().skip(1);
        for parent in parents.take_while(|parent| is_pattern(&parent.to_string_lossy())) {
            let pattern = format!("{above}{}", parent.to_string_lossy());
            let found = glob_with(&pattern, OPTIONS)?.flatten();
            matched
                .directories
                .extend(found.filter(|path| path.is_dir()));
        }
        Ok(matched)
    }
}

/// Whether an entry of `include` is more than the path of one file.
pub(super) fn is_pattern(written: &str) -> bool {
    written.contains(['*', '?', '['])
}

/// The directory, or the nearest one above it that exists.
pub(super) fn existing(directory: &Path) -> PathBuf {
    let mut ancestors = directory.ancestors();
    let found = ancestors.find(|path| path.is_dir());
    found.unwrap_or(directory).components().collect()
}

/// The directories of a pattern before the first component that is not literal.
fn literal_start(written: &str) -> PathBuf {
    let literal = |component: &Component<'_>| !is_pattern(&component.as_os_str().to_string_lossy());
    Path::new(written)
        .components()
        .take_while(literal)
        .collect()
}
