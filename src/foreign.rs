//! The three calls whose promises no compiler can check.
//!
//! The only file with `unsafe` code in longhaul (`tests/tidy.rs` looks). Miri has
//! nothing to say about it: at stake is who owns a descriptor, and what a library
//! in C does with memory of its own.

use std::cell::Cell;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A thread gives memory back no more often.
const EVERY: Duration = Duration::from_secs(1);

/// The descriptors that the service manager has passed to this process, with their
/// names (`sd_listen_fds(3)`); none when it is asked again, since each has one owner.
///
/// # Errors
/// When what the service manager said is malformed, or one of them is not open.
pub fn inherited() -> io::Result<Vec<(OwnedFd, String)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let own = |(fd, name)| {
        // SAFETY: `from_raw_fd` wants a descriptor that is open and that nobody else
        // owns. `listen_fds_with_names` gives some only if `LISTEN_PID` is this very
        // process, and has made a system call on each that fails unless it is open.
        // The service manager passed them before the program began, so no part of it
        // had made one of these numbers its own (that the manager counts right is its
        // contract). `TAKEN` lets nobody come here twice.
        #[allow(unsafe_code)]
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        (fd, name)
    };
    Ok(sd_notify::listen_fds_with_names()?.map(own).collect())
}

/// Has the allocator look through what this thread has free, and give whole pages
/// of it back to the kernel; nothing if it has done so within a second.
///
/// mimalloc does that by itself only while a thread allocates. One that has closed
/// ten thousand connections and waits would keep most of what they held; with this,
/// `tests/attacks` finds the memory given back behind 10,000 half TLS handshakes.
/// By force, since otherwise pages that were given up a moment ago stay, and so does
/// some of what other threads freed. Threads call it when they have nothing to do.
pub fn give_back() {
    thread_local!(static LAST: Cell<Option<Instant>> = const { Cell::new(None) });
    let now = Instant::now();
    if LAST.get().is_some_and(|last| now - last < EVERY) {
        return;
    }
    LAST.set(Some(now));
    // SAFETY: it takes no pointer and touches none that Rust holds: free memory of
    // mimalloc's alone, of the heap of the thread that calls it. Under another
    // allocator that heap is empty.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// The longest turn on a core that a thread takes when others wait for it, in
/// nanoseconds.
const TURN: u64 = 100_000;

/// Has the scheduler give this thread short turns, and so soon: with the same share of a
/// core as before it is not kept waiting by threads that have much to do. Nothing where
/// the kernel knows no such wish (before Linux 6.12) or the thread is not scheduled by
/// shares; `sched_setattr(2)`, `sched_runtime` of `SCHED_OTHER`.
///
/// What a tunnel's bytes wait for is most often this turn: a thread that accepts, or
/// shakes hands, may hold a core for as long as the kernel's tick, 1 to 10 ms.
pub fn take_short_turns() {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut wish = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: both calls are about the calling thread (0) and a structure that lives
    // longer than they do, of the size that is told: the kernel writes no more than that
    // into it, and only reads it the second time.
    #[allow(unsafe_code)]
    unsafe {
        let wish = &raw mut wish;
        if libc::syscall(libc::SYS_sched_getattr, 0, wish, size, 0) == 0 {
            let by_shares = [libc::SCHED_OTHER, libc::SCHED_BATCH];
            if by_shares.contains(&((*wish).sched_policy as libc::c_int)) {
                (*wish).sched_runtime = TURN;
                // Refused, it runs as any other thread.
                libc::syscall(libc::SYS_sched_setattr, 0, wish, 0);
            }
        }
    }
}
