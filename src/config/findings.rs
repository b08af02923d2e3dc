//! Collects the findings of one parse.
//!
//! Invariant: where a file could not be parsed, nothing is reported that may
//! only follow from that: no finding on a line with a syntax error, and
//! nothing about things that are absent.

use std::cell::RefCell;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics, Place};

#[derive(Default)]
pub(super) struct Findings {
    syntax: RefCell<Vec<Diagnostic>>,
    others: RefCell<Vec<Diagnostic>>,
    /// Held back until it is known that every file could be parsed.
    absences: RefCell<Vec<Diagnostic>>,
}

impl Findings {
    /// Text that is not TOML.
    pub(super) fn syntax(&self, diagnostic: Diagnostic) {
        self.syntax.borrow_mut().push(diagnostic);
    }

    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.others.borrow_mut().push(diagnostic);
    }

    /// Something is not there that should be.
    pub(super) fn absent(&self, diagnostic: Diagnostic) {
        self.absences.borrow_mut().push(diagnostic);
    }

    /// Everything, sorted by the order of `files`, then by line.
    pub(super) fn into_diagnostics(self, files: &[Arc<str>]) -> Diagnostics {
        let mut all = self.syntax.into_inner();
        let broken: Vec<Place> = all.iter().map(|d| d.place.clone()).collect();
        let follows = |d: &Diagnostic| {
            broken
                .iter()
                .any(|at| at.file == d.place.file && at.line == d.place.line)
        };
        let others = self.others.into_inner();
        all.extend(others.into_iter().filter(|d| !follows(d)));
        if broken.is_empty() {
            all.extend(self.absences.into_inner());
        }
        let rank = |place: &Place| files.iter().position(|file| *file == place.file);
        all.sort_by_key(|d| (rank(&d.place), d.place.line, d.place.column));
        Diagnostics(all)
    }
}
