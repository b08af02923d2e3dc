//! The two calls whose promises no compiler can check.
//!
//! The only file with `unsafe` code in longhaul (`tests/tidy.rs` looks). Miri has
//! nothing to say about it: at stake is who owns a descriptor, and what a library
//! in C does with memory of its own.

use std::cell::Cell;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// A thread gives memory back no more often.
const EVERY: Duration = Duration::from_secs(1);

/// Takes over a descriptor that `sd_notify::listen_fds_with_names` has named, once.
pub fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: `from_raw_fd` wants a descriptor that is open and that nobody else
    // owns. `listen_fds_with_names` gives some only if `LISTEN_PID` is this very
    // process, and has made a system call on each that fails unless it is open.
    // The service manager passed them before the program began, so no part of it
    // had made one of these numbers its own (that the manager counts right is its
    // contract, `sd_listen_fds(3)`). `server/inherit.rs`, the one caller, takes
    // each once, so that none gets two owners.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

/// Has the allocator look through what this thread has free, and give whole pages
/// of it back to the kernel; nothing if it has done so within a second.
///
/// mimalloc does that by itself only while a thread allocates. One that has closed
/// ten thousand connections and waits would keep what they held: 130 MB behind
/// 10,000 half TLS handshakes instead of 20 (`tests/attacks`). Threads call this
/// when they have nothing to do.
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
        libmimalloc_sys::mi_collect(false);
    }
}
