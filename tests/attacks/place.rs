//! Who runs where, and before whom.

use std::process::Command;
use std::thread;

use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// This thread, and all that it starts, keep to one core: nobody waits for a core to
/// wake, and an attack goes as fast as longhaul and the tunnels of others leave it time.
pub fn one_core_for_all() {
    let mut core = CpuSet::new();
    core.set(1);
    // Where there is one core alone they share it anyway.
    let _ = sched_setaffinity(None, &core);
}

/// With `LONGHAUL_FLOOD` in the environment longhaul is on a core of its own instead:
/// then attackers have all that is left of the other, and flood it.
pub fn of_longhaul() -> &'static str {
    match std::env::var_os("LONGHAUL_FLOOD") {
        Some(_) => "taskset --cpu-list --pid 0 $$ >/dev/null",
        None => "true",
    }
}

/// Whether the machine does nothing else: `LONGHAUL_QUIET` says so.
pub fn is_quiet() -> bool {
    std::env::var_os("LONGHAUL_QUIET").is_some()
}

/// This thread goes before every other on its core: its clock is what is read. Who may
/// not have that (it takes `CAP_SYS_NICE`) measures a little of the others as well.
pub fn first() {
    let goes_first = schedule(&["--fifo", "--pid", "1"]);
    assert!(goes_first || !is_quiet(), "not allowed to go first");
    if !goes_first {
        println!("not allowed to go first: latencies are of the test, too");
    }
}

/// This thread runs while no other wants to, if it gives way often enough.
pub fn last() {
    assert!(
        schedule(&["--idle", "--pid", "0"]),
        "not allowed to go last"
    );
}

/// To be called between the steps of an attack. The scheduler lets even a thread of
/// the idle class go on until the next tick, four milliseconds at worst, when another has
/// had more than its share lately; on a machine of its own it would hold up nobody.
pub fn give_way() {
    thread::yield_now();
}

fn schedule(policy: &[&str]) -> bool {
    let thread = gettid().as_raw_nonzero().to_string();
    let changed = Command::new("chrt").args(policy).arg(thread).output();
    changed.expect("chrt, of util-linux").status.success()
}
