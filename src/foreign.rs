//! The two calls whose promises no compiler can check.
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
