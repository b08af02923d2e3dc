//! Whether it is known which backends an upstream has, and how asking went.
//!
//! Invariant: what has once been known stays known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;

use super::FindError;

#[derive(Debug)]
pub(super) struct Answers {
    /// Whether there was an answer, good or bad.
    known: watch::Sender<bool>,
    last: Mutex<Option<LastAnswer>>,
}

/// The last answer of a discovery.
#[derive(Clone, Debug)]
pub struct LastAnswer {
    pub at: SystemTime,
    /// `None` if it was good.
    pub error: Option<Arc<str>>,
}

impl Answers {
    pub(super) fn new(known: bool) -> Self {
        Self {
            known: watch::Sender::new(known),
            last: Mutex::default(),
        }
    }

    /// Waits for the first, but not for ever.
    pub(super) async fn first(&self, patience: Duration) {
        if *self.known.borrow() {
            return;
        }
        let mut known = self.known.subscribe();
        // Who has waited long enough makes do with what there is.
        let _ = timeout(patience, known.wait_for(|known| *known)).await;
    }

    pub(super) fn note(&self, error: Option<&FindError>) {
        let answer = LastAnswer {
            at: SystemTime::now(),
            error: error.map(|error| error.to_string().into()),
        };
        // It is set whole, so it is whole after any panic.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.known.send_replace(true);
    }

    pub(super) fn last(&self) -> Option<LastAnswer> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
