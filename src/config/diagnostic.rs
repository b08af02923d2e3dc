//! What is wrong with a config, and where.
//!
//! Deliberately does not decide what is wrong: it is the form that findings
//! take, here and in `state`, which adds those about certificates.
//!
//! Invariant: a [`Place`] compares by what it says, a [`WrittenAt`] is equal
//! to every other, so that a section that only moved is not a changed section.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A place in a config file, as an editor counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file's name as the operator knows it: as given on the command
    /// line, or that name's directory and the path from there.
    pub file: Arc<str>,
    /// From 1; 0 is the file as a whole.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Place {
    /// The file as a whole.
    pub fn file(file: impl Into<Arc<str>>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// Where a part of the model was written; takes no part in comparisons.
#[derive(Clone, Debug, Default)]
pub struct WrittenAt(pub Place);

impl Deref for WrittenAt {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl PartialEq for WrittenAt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for WrittenAt {}

impl PartialOrd for WrittenAt {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WrittenAt {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for WrittenAt {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// One mistake.
///
/// Printed as a paragraph: the place and the message, then, indented, what
/// was found, what is allowed, the nearest allowed thing, and another place
/// that has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub place: Place,
    /// Lower case, no full stop, naming the object.
    pub message: String,
    pub found: Option<String>,
    pub allowed: Option<String>,
    /// The nearest allowed key or value.
    pub nearest: Option<String>,
    /// Another place and what it is, such as `first defined`.
    pub see: Option<(String, Place)>,
}

impl Diagnostic {
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
            found: None,
            allowed: None,
            nearest: None,
            see: None,
        }
    }

    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    #[must_use]
    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    #[must_use]
    pub fn nearest(mut self, nearest: Option<String>) -> Self {
        self.nearest = nearest;
        self
    }

    #[must_use]
    pub fn see(mut self, what: impl Into<String>, place: Place) -> Self {
        self.see = Some((what.into(), place));
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(found) = &self.found {
            write!(f, "\n  found: {found}")?;
        }
        if let Some(allowed) = &self.allowed {
            write!(f, "\n  allowed: {allowed}")?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "\n  did you mean `{nearest}`?")?;
        }
        if let Some((what, place)) = &self.see {
            write!(f, "\n  {what} at {place}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong: the main file first, then by file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds what another step has found.
    pub fn append(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// `value` if nothing was found, else everything that was.
    ///
    /// # Errors
    /// These diagnostics, when there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize) -> Place {
        Place {
            file: "a.toml".into(),
            line,
            column: 3,
        }
    }

    #[test]
    fn prints_one_paragraph_for_each() {
        let found = Diagnostics(vec![
            Diagnostic::new(Place::file("a.toml"), "cannot read"),
            Diagnostic::new(place(12), "unknown key `adress` in [listeners.public]")
                .found("`adress`")
                .allowed("address, certificates")
                .nearest(Some("address".into()))
                .see("first defined", place(2)),
        ]);
        assert_eq!(
            found.to_string(),
            "a.toml: cannot read\n\
             a.toml:12:3: unknown key `adress` in [listeners.public]\n  \
             found: `adress`\n  allowed: address, certificates\n  \
             did you mean `address`?\n  first defined at a.toml:2:3"
        );
    }

    #[test]
    fn places_differ_but_written_at_does_not() {
        assert_ne!(place(1), place(2));
        assert_eq!(WrittenAt(place(1)), WrittenAt(place(2)));
    }
}
