//! Whether a connection goes on: what a client may do in ten seconds (RFC 9113
//! section 10.5), as two counts, and a verdict that stays.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use h2::Reason;
use tokio::time::Instant;

const SPAN: Duration = Duration::from_secs(10);

/// The counts of one connection.
#[derive(Debug)]
pub struct Calm {
    control_frames: Mutex<Count>,
    early_resets: Mutex<Count>,
    lost: OnceLock<Reason>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct Count {
    most: u32,
    since: Instant,
    count: u32,
}

impl Calm {
    pub fn new(most_control_frames: u32, most_early_resets: u32) -> Self {
        Self {
            control_frames: Mutex::new(Count::new(most_control_frames)),
            early_resets: Mutex::new(Count::new(most_early_resets)),
            lost: OnceLock::new(),
            task: AtomicWaker::new(),
        }
    }

    /// A frame that asks for work and brings nothing.
    pub(super) fn control_frame(&self) {
        self.count(&self.control_frames);
    }

    /// A request that its client has reset before it was answered.
    pub fn early_reset(&self) {
        self.count(&self.early_resets);
    }

    fn count(&self, what: &Mutex<Count>) {
        let mut count = what.lock().unwrap_or_else(PoisonError::into_inner);
        if count.goes_beyond() {
            self.lose(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// The connection is to end.
    pub(super) fn lose(&self, reason: Reason) {
        // The first one counts.
        let _ = self.lost.set(reason);
        self.task.wake();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Ready once the connection is to end. One waiter: the connection's task.
    pub fn poll_lost(&self, cx: &Context<'_>) -> Poll<Reason> {
        self.task.register(cx.waker());
        match self.lost.get() {
            Some(reason) => Poll::Ready(*reason),
            None => Poll::Pending,
        }
    }
}

impl Count {
    fn new(most: u32) -> Self {
        Self {
            most,
            since: Instant::now(),
            count: 0,
        }
    }

    fn goes_beyond(&mut self) -> bool {
        if self.since.elapsed() >= SPAN {
            (self.since, self.count) = (Instant::now(), 0);
        }
        self.count = self.count.saturating_add(1);
        self.count > self.most
    }
}
