//! Text to a TOML table, with every syntax error.
//!
//! Deliberately tells one mistake once: the parser goes on after an error and
//! stumbles over the same one again, for each line in an array that was never
//! closed.
//!
//! Invariant: a file that is empty is an error: it is what an editor leaves
//! for a moment while it writes, and never what an operator means.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::diagnostic::{Diagnostic, Place};
use super::findings::Findings;
use super::section::quoted;
use super::source::Source;

/// A file with more is no config with mistakes, but something else.
const MOST: usize = 100;

/// What could be parsed; `None`, with a finding, if the file is empty.
pub(super) fn table<'a>(source: &'a Source, findings: &Findings) -> Option<Spanned<DeTable<'a>>> {
    let text = source.text();
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        let place = Place::file(source.name().clone());
        findings.syntax(Diagnostic::new(place, "the file is empty"));
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors.into_iter().take(MOST).map(SyntaxError::new);
    let errors: Vec<_> = errors.collect();
    let unclosed: Vec<_> = errors
        .iter()
        .filter_map(|error| Some((error, error.unclosed(table.get_ref(), source)?)))
        .collect();
    for (error, region) in &unclosed {
        let (from, to) = (source.place(region.start), source.place(region.end));
        findings.hide(source.name(), from.line..=to.line);
        findings.syntax(Diagnostic::new(from, error.message.clone()));
    }
    let inside = |error: &&SyntaxError| {
        let within = |region: &Range<usize>| (region.start..=region.end).contains(&error.at.start);
        unclosed.iter().any(|(_, region)| within(region))
    };
    for error in errors.iter().filter(|error| !inside(error)) {
        let place = source.place(error.at.start);
        findings.hide(source.name(), place.line..=place.line);
        findings.syntax(error.diagnostic(place, text));
    }
    Some(table)
}

struct SyntaxError {
    message: String,
    at: Range<usize>,
}

impl SyntaxError {
    fn new(error: Error) -> Self {
        Self {
            message: error.message().to_owned(),
            at: error.span().unwrap_or(0..0),
        }
    }

    fn diagnostic(&self, place: Place, text: &str) -> Diagnostic {
        let found = text.get(self.at.clone()).unwrap_or_default();
        let found = found.lines().next().unwrap_or_default();
        if self.message == "duplicate key" {
            let message = format!("`{found}` is there for the second time");
            return Diagnostic::new(place, message);
        }
        if self.message.starts_with("string values must be quoted") {
            return Diagnostic::new(place, "a string must be in quotes")
                .found(found)
                .nearest(Some(quoted(found)));
        }
        let diagnostic = Diagnostic::new(place, self.message.clone());
        if found.is_empty() {
            return diagnostic;
        }
        diagnostic.found(quoted(found))
    }

    /// From the beginning of what is not closed, if it began on an earlier
    /// line, to where that was noticed.
    fn unclosed(&self, table: &DeTable<'_>, source: &Source) -> Option<Range<usize>> {
        let noticed = self.at.start;
        if !self.message.starts_with("unclosed") && !self.message.contains("multi-line") {
            return None;
        }
        let start = outermost(table, noticed)?;
        let earlier = source.place(start).line < source.place(noticed).line;
        earlier.then_some(start..noticed)
    }
}

/// The start of the outermost value that holds or ends at `offset`.
///
/// Tables and arrays that have a header span only their header, so what is
/// below them is searched in any case.
fn outermost(table: &DeTable<'_>, offset: usize) -> Option<usize> {
    table
        .iter()
        .filter_map(|(_, value)| outermost_of(value, offset))
        .min()
}

fn outermost_of(value: &Spanned<DeValue<'_>>, offset: usize) -> Option<usize> {
    let span = value.span();
    if (span.start..=span.end).contains(&offset) {
        return Some(span.start);
    }
    match value.get_ref() {
        DeValue::Array(array) => array.iter().filter_map(|v| outermost_of(v, offset)).min(),
        DeValue::Table(table) => outermost(table, offset),
        _ => None,
    }
}
