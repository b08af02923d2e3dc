//! Idle keep-alive connections to one backend, newest first, so that those no
//! longer needed grow old and go.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Connection;

#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The newest connection that is open and not too old.
    pub(super) fn take(&self, timeout: Duration) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(candidate) = idle.pop() {
            if candidate.since.elapsed() >= timeout {
                // The rest is older still.
                idle.clear();
                return None;
            }
            if candidate.connection.is_ready() {
                return Some(candidate.connection);
            }
        }
        None
    }

    pub(super) fn put(&self, connection: Connection, most: usize) {
        let mut idle = self.idle();
        if idle.len() < most {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    pub(super) fn purge(&self, timeout: Duration) {
        self.idle()
            .retain(|idle| idle.since.elapsed() < timeout && !idle.connection.is_closed());
    }

    pub(super) fn clear(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // A list of connections is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
