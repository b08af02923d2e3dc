//! The closes that operators have asked for: begun, paced, and followed until
//! their tunnels are gone.
//!
//! Which tunnels, how fast and with what code others decide.
//!
//! Invariants: no more than [`MOST_AT_ONCE`] go on at once, because each holds the
//! tunnels that it is to close; an entry that is only remembered holds none.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval};

use crate::tunnel::{CloseOrder, Registry, State, Tunnel};

/// Closes that go on at once; the next is refused.
const MOST_AT_ONCE: usize = 16;
/// Closes that are remembered; what is older is forgotten, not stopped.
const MOST: usize = 100;
/// How often it is looked how many are left.
const LOOK: Duration = Duration::from_millis(250);

/// The last of them.
#[derive(Debug)]
pub(super) struct Closings {
    turns: Arc<Semaphore>,
    next: AtomicU64,
    last: Mutex<VecDeque<Arc<Closing>>>,
}

#[derive(Debug)]
struct Closing {
    id: u64,
    tunnels: usize,
    span: Duration,
    begun: Instant,
    left: AtomicUsize,
}

/// Too many closes go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_AT_ONCE} closes go on, which is all that may at once; /closings lists them")]
pub(super) struct Busy;

impl Closings {
    pub(super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            next: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }

    /// Closes these in their order within `span`, in a task of its own; says
    /// under what number, and by when.
    ///
    /// # Errors
    /// If too many others go on.
    pub(super) fn begin(
        &self,
        registry: &Arc<Registry>,
        tunnels: Vec<Arc<Tunnel>>,
        order: CloseOrder,
        span: Duration,
    ) -> Result<Value, Busy> {
        let turn = Arc::clone(&self.turns)
            .try_acquire_owned()
            .map_err(|_| Busy)?;
        let closing = Arc::new(Closing {
            id: self.next.fetch_add(1, Ordering::Relaxed) + 1,
            tunnels: tunnels.len(),
            span,
            begun: Instant::now(),
            left: AtomicUsize::new(tunnels.len()),
        });
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(Arc::clone(&closing));
        if last.len() > MOST {
            last.pop_front();
        }
        drop(last);
        let told = closing.json();
        tracing::info!(
            closing = closing.id,
            cause = order.cause.label(),
            tunnels = closing.tunnels,
            seconds = span.as_secs_f64(),
            "closing tunnels"
        );
        tokio::spawn(run(Arc::clone(registry), tunnels, order, closing, turn));
        Ok(told)
    }

    pub(super) fn list(&self) -> Vec<Value> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().map(|closing| closing.json()).collect()
    }
}

impl Closing {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "tunnels": self.tunnels,
            "left": self.left.load(Ordering::Relaxed),
            "seconds": self.span.as_secs_f64(),
            "age_seconds": self.begun.elapsed().as_secs_f64(),
        })
    }
}

async fn run(
    registry: Arc<Registry>,
    mut tunnels: Vec<Arc<Tunnel>>,
    order: CloseOrder,
    closing: Arc<Closing>,
    _turn: OwnedSemaphorePermit,
) {
    let paced = tunnels.clone();
    let mut closes = Box::pin(registry.close_in_order(paced, order, closing.span));
    let mut told = false;
    let mut looks = interval(LOOK);
    while !tunnels.is_empty() {
        tokio::select! {
            () = &mut closes, if !told => told = true,
            _ = looks.tick() => {
                tunnels.retain(|tunnel| tunnel.state() != State::Ended);
                closing.left.store(tunnels.len(), Ordering::Relaxed);
            }
        }
    }
}
