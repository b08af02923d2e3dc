//! The limit of open files: raised as far as it goes, because each tunnel takes
//! two.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for connections: listeners, logs, the admin
/// socket, idle backend connections.
const RESERVED: u64 = 128;

/// Raises the soft limit of open files to the hard one and returns what it is
/// then.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Not being allowed to raise it is no reason not to run.
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The connections that fit into so many descriptors: two each, client and
/// backend.
pub(super) fn connections_for(open_files: u64) -> usize {
    let left = open_files.saturating_sub(RESERVED.min(open_files / 4));
    usize::try_from(left / 2).unwrap_or(usize::MAX).max(1)
}
