//! Keeps a certificate for each name that the configuration in force asks for.
//!
//! One task of the control plane. A few orders are under way at once, one for a
//! name; what fails waits longer each time, and what fails for the CA or the
//! storage has all names wait. Of several processes that share a storage the one
//! that took the turn orders; the others look for what it has put there.
//!
//! Invariant: a certificate in service is never taken away while its name is
//! wanted, whatever fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::desk::Desk;
use super::moment::Moment;
use super::wanted::Wanted;
use super::work::Work;
use crate::config::Config;
use crate::metrics::Metrics;

/// The longest sleep: the dates of certificates are wall-clock time, which may
/// jump, and goes on while the machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Nothing is worth a look sooner than this again.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

type Told = Option<Arc<Wanted>>;

/// The task, from the first configuration that wants certificates on. When this
/// is dropped it ends, with the orders that are under way.
pub struct Keeper {
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    generation: u64,
    wanted: watch::Sender<Told>,
    task: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn new(desk: &Arc<Desk>, metrics: &Arc<Metrics>) -> Self {
        Self {
            desk: Arc::clone(desk),
            metrics: Arc::clone(metrics),
            generation: 0,
            wanted: watch::Sender::new(None),
            task: None,
        }
    }

    /// Looks after what this configuration asks for, from now on. One that asks
    /// for the same changes nothing. Called within a runtime.
    pub fn follow(&mut self, config: &Config, generation: u64) {
        if std::mem::replace(&mut self.generation, generation) == generation {
            return;
        }
        let wanted = Wanted::of(config).map(Arc::new);
        let starts = wanted.is_some() && self.task.is_none();
        self.wanted.send_if_modified(|told| {
            let differs = *told != wanted;
            *told = wanted;
            differs
        });
        if starts {
            let work = Work::new(&self.desk, &self.metrics);
            self.task = Some(tokio::spawn(keep(work, self.wanted.subscribe())));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn keep(mut work: Work, mut told: watch::Receiver<Told>) {
    let wanted = told.borrow_and_update().clone();
    work.adopt(wanted, Moment::now());
    loop {
        let now = Moment::now();
        work.begin(now);
        work.publish(now);
        let wait = work.wait(now);
        tokio::select! {
            changed = told.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = told.borrow_and_update().clone();
                work.adopt(wanted, Moment::now());
            }
            () = work.settled() => {}
            () = sleep(wait.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)) => {}
        }
    }
}
