//! Finds the backends of an upstream while it runs, in DNS or in a file.
//!
//! One task for each upstream that has a `discovery`: it asks when the last
//! answer is no longer valid, or is told to look, and gives what it finds to the
//! upstream. A reload that changes nothing about the source asks nothing anew.
//!
//! Invariant: an answer that fails, or has no backend in it, changes nothing.

mod dns;
mod file;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::Upstream;
use crate::config::{self, Backend, Source};
use crate::files::FileError;
use crate::metrics::{Discovered, Metrics};
use dns::Asker;

/// For all that one answer takes.
const PATIENCE: Duration = Duration::from_secs(15);
/// What fails is tried again, at last so seldom.
const SELDOM: Duration = Duration::from_secs(60);
/// Until the resolver's own cache has surely let go of what is over.
const MOMENT: Duration = Duration::from_millis(20);
/// The share of a wait that is taken off at random, so that many longhauls do
/// not ask together. Never of an answer's time to live: then it is still valid.
const JITTER: f64 = 0.2;

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("the file cannot be read: {0}")]
    File(#[from] FileError),
    #[error("the file is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Said(String),
    #[error("no answer in time")]
    Timeout,
    #[error("the answer has no backend in it")]
    Empty,
}

/// What an answer says.
struct Found {
    backends: Vec<Backend>,
    /// `None`: until it is told that the source has changed.
    valid_until: Option<std::time::Instant>,
}

/// An upstream whose backends are being found, until this is dropped.
#[derive(Debug)]
pub struct Discovery {
    upstream: watch::Sender<Arc<Upstream>>,
    look: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Discovery {
    /// Called within a runtime.
    pub fn start(upstream: Arc<Upstream>, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = watch::channel(upstream);
        let look = Arc::new(Notify::new());
        let task = tokio::spawn(run(receiver, Arc::clone(&look), metrics));
        Self {
            upstream: sender,
            look,
            task,
        }
    }

    /// Goes on as this upstream says; nothing happens if it did so already.
    pub fn follow(&self, upstream: &Arc<Upstream>) {
        self.upstream.send_if_modified(|current| {
            let is_new = !Arc::ptr_eq(current, upstream);
            if is_new {
                *current = Arc::clone(upstream);
            }
            is_new
        });
    }

    /// A file may have changed.
    pub fn look(&self) {
        let upstream = Arc::clone(&self.upstream.borrow());
        let discovery = upstream.settings().discovery.as_ref();
        if discovery.is_some_and(|it| matches!(it.source, Source::File(_))) {
            self.look.notify_one();
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    mut upstream: watch::Receiver<Arc<Upstream>>,
    look: Arc<Notify>,
    metrics: Arc<Metrics>,
) {
    loop {
        let current = Arc::clone(&upstream.borrow_and_update());
        let Some(settings) = current.settings().discovery.clone() else {
            return;
        };
        let mut search = Search::new(settings, Arc::clone(&metrics));
        drop(current);
        while search.is_for(&upstream.borrow()) {
            let found = search.ask().await;
            // The one in force now, which may be another than before.
            let current = Arc::clone(&upstream.borrow_and_update());
            if !search.is_for(&current) {
                break;
            }
            let due = search.conclude(&current, found);
            drop(current);
            if !wait(due, &look, &mut upstream, &search).await {
                return;
            }
        }
    }
}

/// Waits until it is time to ask; `false` if nobody wants to know any more.
async fn wait(
    due: Option<Instant>,
    look: &Notify,
    upstream: &mut watch::Receiver<Arc<Upstream>>,
    search: &Search,
) -> bool {
    let due_time = async {
        match due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(due_time);
    loop {
        tokio::select! {
            () = &mut due_time => return true,
            () = look.notified() => return true,
            changed = upstream.changed() => {
                if changed.is_err() {
                    return false;
                }
                if !search.is_for(&upstream.borrow_and_update()) {
                    return true;
                }
            }
        }
    }
}

/// One source, and how asking it went.
struct Search {
    settings: config::Discovery,
    metrics: Arc<Metrics>,
    asker: Option<Asker>,
    /// In a row.
    failures: u32,
}

impl Search {
    fn new(settings: config::Discovery, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            metrics,
            asker: None,
            failures: 0,
        }
    }

    /// Whether this is what the upstream is to be found in.
    fn is_for(&self, upstream: &Upstream) -> bool {
        upstream.settings().discovery.as_ref() == Some(&self.settings)
    }

    /// Asks once.
    async fn ask(&mut self) -> Result<Found, FindError> {
        let found = timeout(PATIENCE, self.ask_source()).await;
        let found = found.unwrap_or(Err(FindError::Timeout))?;
        match found.backends.is_empty() {
            true => Err(FindError::Empty),
            false => Ok(found),
        }
    }

    /// Does what an answer says, and says when to ask again.
    fn conclude(
        &mut self,
        upstream: &Arc<Upstream>,
        found: Result<Found, FindError>,
    ) -> Option<Instant> {
        let result = if found.is_ok() { "ok" } else { "failed" };
        let labels = Discovered {
            upstream: Arc::clone(upstream.name()),
            result,
        };
        self.metrics.discoveries.get(&labels).inc();
        match found {
            Ok(found) => {
                if self.failures > 0 {
                    tracing::info!(upstream = &**upstream.name(), "discovery works again");
                }
                self.failures = 0;
                upstream.find(&unique(found.backends));
                found.valid_until.map(|until| self.next(until.into()))
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(
                        upstream = &**upstream.name(),
                        %error,
                        backends = upstream.backends().list().len(),
                        "discovery has failed: the last answer stands"
                    );
                }
                upstream.find_nothing(&error);
                self.failures = self.failures.saturating_add(1);
                Some(self.again())
            }
        }
    }

    async fn ask_source(&mut self) -> Result<Found, FindError> {
        match &self.settings.source {
            Source::File(path) => Ok(Found {
                backends: file::read(path).await?,
                valid_until: None,
            }),
            Source::Dns(query) => {
                let asker = match self.asker.take() {
                    Some(asker) => asker,
                    None => Asker::new(query, self.settings.max_ttl)?,
                };
                self.asker.insert(asker).ask().await
            }
        }
    }

    /// When an answer is over, within what the config allows.
    fn next(&self, valid_until: Instant) -> Instant {
        let now = Instant::now();
        let left = valid_until.saturating_duration_since(now);
        now + left.clamp(self.settings.min_ttl, self.settings.max_ttl) + MOMENT
    }

    fn again(&self) -> Instant {
        let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let pause = self.settings.min_ttl.saturating_mul(doubled);
        let pause = pause.min(SELDOM.max(self.settings.min_ttl));
        Instant::now() + pause.mul_f64(1.0 - JITTER * rand::random::<f64>())
    }
}

/// One of each name, in the order of the names: neither says anything.
fn unique(backends: Vec<Backend>) -> Vec<Backend> {
    let named = backends.into_iter().map(|one| (one.name.clone(), one));
    let named: BTreeMap<String, Backend> = named.collect();
    named.into_values().collect()
}
