//! Sockets that the service manager has bound for us (`systemd.socket(5)`).
//!
//! The only file with `unsafe` code in longhaul (`tests/tidy.rs` looks). Miri has
//! nothing to say about it: what is at stake is who owns a descriptor, not
//! memory.

use std::os::fd::{FromRawFd, OwnedFd};

use super::bind::Listening;

/// An inherited socket and its `FileDescriptorName`.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) name: String,
    pub(super) socket: Listening,
}

/// The sockets that were passed to this process; those that cannot be used are
/// warned about.
pub(super) fn sockets() -> Vec<Inherited> {
    // Ok with none, or an error if what the service manager said is malformed.
    let passed = match sd_notify::listen_fds_with_names() {
        Ok(passed) => passed,
        Err(error) => {
            tracing::warn!(%error, "inherited sockets cannot be read");
            return Vec::new();
        }
    };
    passed
        .filter_map(|(fd, name)| {
            // SAFETY: `from_raw_fd` wants a descriptor that is open and that
            // nobody else owns. `listen_fds_with_names` gives some only if
            // `LISTEN_PID` is this very process, and has made a system call on
            // each that fails unless it is open. The service manager passed
            // them before the program began, so no part of it had made one of
            // these numbers its own (that the manager counts right is its
            // contract, `sd_listen_fds(3)`). This is called once, so that none
            // gets two owners.
            #[allow(unsafe_code)]
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            Listening::inherit(fd)
                .inspect_err(|error| tracing::warn!(name, %error, "inherited socket not usable"))
                .ok()
                .map(|socket| Inherited { name, socket })
        })
        .collect()
}
