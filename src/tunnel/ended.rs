//! The last tunnels that have ended, for whoever asks why.
//!
//! The access log has every one; here are only so many, so that a person sees at
//! a glance what happens.
//!
//! Invariant: never more than [`KEPT`], whatever ends.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::facts::Facts;
use super::outcome::Outcome;

const KEPT: usize = 100;

/// Newest last.
#[derive(Debug, Default)]
pub struct LastEnded(Mutex<VecDeque<Ended>>);

/// A tunnel that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    pub facts: Facts,
    pub outcome: Outcome,
    pub at: SystemTime,
}

impl LastEnded {
    /// Not the tunnel itself, which may hold more.
    pub fn push(&self, facts: Facts, outcome: Outcome) {
        let at = SystemTime::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(Ended { facts, outcome, at });
    }

    /// Up to `most` of them, the newest first.
    pub fn list(&self, most: usize) -> Vec<Ended> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().rev().take(most).cloned().collect()
    }
}
