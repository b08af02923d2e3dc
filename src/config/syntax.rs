//! Text to a TOML table, with every syntax error.
//!
//! Invariant: a file that is empty is an error: it is what an editor leaves
//! for a moment while it writes, and never what an operator means.

use toml::Spanned;
use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Place};
use super::findings::Findings;
use super::source::Source;

/// What could be parsed; `None`, with a finding, if the file is empty.
pub(super) fn table<'a>(source: &'a Source, findings: &Findings) -> Option<Spanned<DeTable<'a>>> {
    let text = source.text();
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        let place = Place::file(source.name().clone());
        findings.syntax(Diagnostic::new(place, "the file is empty"));
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        let place = source.place(offset);
        findings.syntax(Diagnostic::new(place, error.message().to_owned()));
    }
    Some(table)
}
