//! Lines that nobody will read: those that found no place in a full queue, and
//! those that could not be written.
//!
//! It counts them, and leaves to others to tell of them.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of the log, access lines among them if they have no place of their own.
    pub log: LostLines,
    /// Of the place that access lines have.
    pub access: LostLines,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostLines {
    pub queue_full: u64,
    pub write_failed: u64,
}

/// A shared count of lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place that is given a line with each write, and counts those it cannot take.
/// Whoever writes does not hear of them.
pub(super) struct Counted<W> {
    pub(super) place: W,
    pub(super) failed: Count,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.place.write_all(line).is_err() {
            self.failed.add(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // What it has kept back was counted as written, and there is no telling
        // how many lines that is: none, of the places there are.
        let _ = self.place.flush();
        Ok(())
    }
}
