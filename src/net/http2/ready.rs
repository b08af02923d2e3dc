//! Which streams of a connection have news, and how the connection's task is
//! woken for them.
//!
//! `h2` wakes one waker for each stream while it holds its own lock, so a waker
//! may only take a note: the connection's task acts on the notes after it has
//! polled the connection.
//!
//! Invariant: a note is either acted on by the task that is running, or the
//! task is woken for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};

use super::Stream;

/// The notes of one connection.
#[derive(Debug, Default)]
pub struct Ready(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    tickets: Vec<Arc<Ticket>>,
    /// `None` while the task runs and has yet to look.
    task: Option<Waker>,
}

/// The waker that `h2` holds for a stream.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Weak: what `h2` holds must not keep the stream, which holds on to `h2`.
    stream: Weak<Stream>,
    ready: Arc<Ready>,
    noted: AtomicBool,
    /// Parts of data that wait to be sent.
    queued: AtomicUsize,
    /// Whether somebody waits until none does.
    awaited: AtomicBool,
}

impl Ready {
    /// To be called by the connection's task before it polls the connection.
    pub fn begin(&self) {
        self.notes().task = None;
    }

    /// To be called by the connection's task afterwards: looks at every stream
    /// that has news.
    pub fn settle(&self, task: &Waker) {
        loop {
            let mut notes = self.notes();
            let Some(ticket) = notes.tickets.pop() else {
                notes.task = Some(task.clone());
                return;
            };
            drop(notes);
            ticket.look();
        }
    }

    fn note(&self, ticket: Arc<Ticket>) {
        let mut notes = self.notes();
        notes.tickets.push(ticket);
        let task = notes.task.take();
        drop(notes);
        if let Some(task) = task {
            task.wake();
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Notes are added and taken whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(super) fn new(stream: Weak<Stream>, ready: Arc<Ready>) -> Arc<Self> {
        Arc::new(Self {
            stream,
            ready,
            noted: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
        })
    }

    pub(super) fn queue(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(self: &Arc<Self>) {
        // Sequentially consistent with `awaits_sending`: one of the two sees
        // what the other has said.
        let left = self.queued.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == 0 && self.awaited.load(Ordering::SeqCst) {
            self.wake_by_ref();
        }
    }

    /// Whether something waits to be sent; if so, the stream will have news when
    /// nothing does any more.
    pub(super) fn awaits_sending(&self) -> bool {
        self.awaited.store(true, Ordering::SeqCst);
        self.queued.load(Ordering::SeqCst) > 0
    }

    fn look(&self) {
        // Before the look, so that what comes during it is noted again.
        self.noted.store(false, Ordering::Release);
        if let Some(stream) = self.stream.upgrade() {
            stream.look();
        }
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.noted.swap(true, Ordering::AcqRel) {
            self.ready.note(Arc::clone(self));
        }
    }
}
