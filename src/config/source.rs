//! The text of one config file, and where in it a byte is.
//!
//! Deliberately does not read files: that is `load`'s.
//!
//! Invariant: every byte offset, even one behind the end, has a place.

use std::path::PathBuf;
use std::sync::Arc;

use super::diagnostic::Place;

/// One config file, read.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    name: Arc<str>,
    text: String,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
}

impl Source {
    /// A file that diagnostics call by its path.
    ///
    /// Relative paths in `text` are taken from the directory of `path`.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let path = path.into();
        let name = path.display().to_string();
        Self::named(path, name, text)
    }

    /// A file that diagnostics call `name`.
    pub fn named(
        path: impl Into<PathBuf>,
        name: impl Into<Arc<str>>,
        text: impl Into<String>,
    ) -> Self {
        let text = text.into();
        let starts = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self {
            path: path.into(),
            name: name.into(),
            lines: std::iter::once(0).chain(starts).collect(),
            text,
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What diagnostics call this file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Line and column of a byte.
    pub(super) fn place(&self, offset: usize) -> Place {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= offset);
        // `lines` begins with 0, so at least one start is not behind `offset`.
        let start = self.lines[line - 1];
        let before = &self.text[start..offset];
        let byte_order_mark = usize::from(start == 0 && before.starts_with('\u{feff}'));
        Place {
            file: self.name.clone(),
            line,
            column: before.chars().count() - byte_order_mark + 1,
        }
    }

    /// A path as written in this file.
    pub(super) fn resolve(&self, written: &str) -> PathBuf {
        match self.path.parent() {
            Some(directory) => directory.join(written),
            None => PathBuf::from(written),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn at(source: &Source, offset: usize) -> (usize, usize) {
        let place = source.place(offset);
        (place.line, place.column)
    }

    #[test]
    fn counts_lines_and_characters_from_one() {
        let source = Source::new("a.toml", "ab\nä=\"ö\"\r\n\nz");
        assert_eq!(at(&source, 0), (1, 1));
        assert_eq!(at(&source, 2), (1, 3));
        assert_eq!(at(&source, 3), (2, 1));
        assert_eq!(at(&source, 5), (2, 2));
        assert_eq!(at(&source, 4), (2, 1), "inside a character");
        assert_eq!(at(&source, 12), (3, 1));
        assert_eq!(at(&source, 13), (4, 1));
        assert_eq!(at(&source, 99), (4, 2));
    }

    #[test]
    fn a_byte_order_mark_is_no_column() {
        let source = Source::new("a.toml", "\u{feff}a = 1");
        assert_eq!(at(&source, 3), (1, 1));
        assert_eq!(at(&source, 0), (1, 1));
        assert_eq!(at(&Source::new("a.toml", ""), 0), (1, 1));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let source = Source::new("/etc/longhaul/routes.d/a.toml", "");
        assert_eq!(
            source.resolve("ca.pem"),
            Path::new("/etc/longhaul/routes.d/ca.pem")
        );
        assert_eq!(source.resolve("/ca.pem"), Path::new("/ca.pem"));
    }
}
