//! Collects the findings of one parse.
//!
//! Invariant: where a file could not be parsed, nothing is reported that may
//! only follow from that: no other finding on those lines, one syntax error a
//! line, and nothing about things that are absent.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics, Place};

#[derive(Default)]
pub(super) struct Findings {
    syntax: RefCell<Vec<Diagnostic>>,
    others: RefCell<Vec<Diagnostic>>,
    /// Held back until it is known that every file could be read and parsed.
    absences: RefCell<Vec<Diagnostic>>,
    hidden: RefCell<Vec<(Arc<str>, RangeInclusive<usize>)>>,
}

impl Findings {
    /// A file that cannot be read, or text that is not TOML.
    pub(super) fn syntax(&self, diagnostic: Diagnostic) {
        let mut syntax = self.syntax.borrow_mut();
        let Diagnostic { place, .. } = &diagnostic;
        let same_line = |d: &&Diagnostic| d.place.file == place.file && d.place.line == place.line;
        if place.line == 0 || !syntax.iter().any(|d| same_line(&d)) {
            syntax.push(diagnostic);
        }
    }

    /// Lines of which nothing but syntax errors is reported.
    pub(super) fn hide(&self, file: &Arc<str>, lines: RangeInclusive<usize>) {
        self.hidden.borrow_mut().push((file.clone(), lines));
    }

    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.others.borrow_mut().push(diagnostic);
    }

    /// Something is not there that should be.
    pub(super) fn absent(&self, diagnostic: Diagnostic) {
        self.absences.borrow_mut().push(diagnostic);
    }

    /// Everything, the main file first, then by file and line.
    pub(super) fn into_diagnostics(self, main: &Arc<str>) -> Diagnostics {
        let mut all = self.syntax.into_inner();
        let complete = all.is_empty();
        let hidden = self.hidden.into_inner();
        let is_hidden = |at: &Place| {
            let mut hidden = hidden.iter();
            hidden.any(|(file, lines)| *file == at.file && lines.contains(&at.line))
        };
        let others = self.others.into_inner();
        all.extend(others.into_iter().filter(|d| !is_hidden(&d.place)));
        if complete {
            all.extend(self.absences.into_inner());
        }
        let order = |d: &Diagnostic| (d.place.file != *main, d.place.clone());
        all.sort_by_cached_key(order);
        Diagnostics(all)
    }
}
