//! Who runs where, and before whom.

use std::process::Command;

use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// What longhaul is started behind.
pub const LONGHAULS_CORE: &str = "taskset --cpu-list --pid 0 $$ >/dev/null";

/// This thread, and those that it starts, on another core than longhaul.
pub fn keep_off_longhauls_core() {
    let mut core = CpuSet::new();
    core.set(1);
    // Where there is one core alone they share it.
    let _ = sched_setaffinity(None, &core);
}

/// This thread goes before every other on its core: its clock is what is read.
pub fn first() {
    schedule(&["--fifo", "--pid", "1"]);
}

/// This thread runs while no other wants to.
pub fn last() {
    schedule(&["--idle", "--pid", "0"]);
}

fn schedule(policy: &[&str]) {
    let thread = gettid().as_raw_nonzero().to_string();
    let changed = Command::new("chrt").args(policy).arg(thread).status();
    assert!(changed.expect("chrt").success(), "chrt {policy:?}");
}
