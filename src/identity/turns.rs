//! Turns for hashing passwords, which is made to be slow: threads beside those
//! that carry traffic, few at a time, and a queue that is bounded in length and
//! time.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Passwords that may wait to be hashed.
const MOST_WAITING: usize = 256;
/// How long one may.
const LONGEST: Duration = Duration::from_secs(5);

/// The turns of the process, whatever the configuration.
#[derive(Debug)]
pub struct Turns {
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        // Half of the cores, so that the other half goes on carrying.
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            running: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Semaphore::new(MOST_WAITING),
        }
    }
}

impl Turns {
    /// What `work` says; `None` if there is no turn for it in time.
    pub(super) async fn take<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let waiting = self.waiting.try_acquire().ok()?;
        let turn = Arc::clone(&self.running).acquire_owned();
        let turn = timeout(LONGEST, turn).await.ok()?.ok()?;
        drop(waiting);
        let work = spawn_blocking(move || {
            // To the end of the work, also if nobody waits for it any more.
            let _turn = turn;
            work()
        });
        work.await.ok()
    }
}
