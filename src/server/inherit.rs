//! Sockets that the service manager has bound for us (`systemd.socket(5)`).

use super::bind::Listening;
use crate::foreign;

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
    let passed = match foreign::inherited() {
        Ok(passed) => passed,
        Err(error) => {
            tracing::warn!(%error, "inherited sockets cannot be read");
            return Vec::new();
        }
    };
    passed
        .into_iter()
        .filter_map(|(fd, name)| {
            Listening::inherit(fd)
                .inspect_err(|error| tracing::warn!(name, %error, "inherited socket not usable"))
                .ok()
                .map(|socket| Inherited { name, socket })
        })
        .collect()
}
