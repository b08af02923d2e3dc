//! The engine: threads that relay tunnels between plain sockets, each with an
//! epoll of its own, beside the tokio relay and with the same rules.
//!
//! It takes sockets that have left tokio and knows neither TLS nor HTTP. Other
//! threads reach it through a queue; the path of a byte takes no lock.
//!
//! Invariant: whoever was adopted has its `on_end` called exactly once, on a
//! thread that relays nothing.

mod due;
mod inbox;
mod pipes;
mod slab;
mod sock;
mod splice;
mod worker;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use self::inbox::{Bell, Inbox};
use self::worker::Worker;
use super::entry::Tunnel;
use super::outcome::Outcome;
use super::registry::{Registry, Ticket};
use super::relay::Leg;
use super::sync;

/// How long the thread of the ends rests when it has seen to all that wait: where thousands end
/// in a second, waking it for each costs more than what it does.
const REST: Duration = Duration::from_millis(1);

/// What is done when a tunnel has ended: it holds what lives as long, and logs.
pub type OnEnd = Box<dyn FnOnce(Outcome) + Send>;

/// The owner of the engine's threads.
///
/// Dropping it ends what still lives, runs every `on_end` and joins the threads;
/// nothing of that waits for a peer.
#[derive(Debug)]
pub struct Engine {
    registry: Arc<Registry>,
    doors: Arc<Doors>,
    threads: Vec<JoinHandle<()>>,
}

/// The ways into the engine's threads.
#[derive(Debug)]
pub(super) struct Doors(Vec<Arc<Door>>);

/// The way into one of them.
pub(super) struct Door {
    inbox: Inbox<Message, Eventfd>,
    /// Tunnels that went in and did not come out.
    live: AtomicUsize,
}

/// A tunnel on its way into the engine.
pub(super) struct Adoption {
    pub(super) client: Leg<OwnedFd>,
    pub(super) backend: Leg<OwnedFd>,
    pub(super) ticket: Ticket,
    pub(super) on_end: OnEnd,
}

enum Message {
    // Boxed: the queue keeps its capacity.
    Adopt(Box<Adoption>),
    /// There is an order, or a deadline is over.
    Told(Arc<Tunnel>),
    /// Whether the thread still goes round.
    Ask(oneshot::Sender<Instant>),
}

/// A tunnel that has ended.
struct End {
    ticket: Ticket,
    outcome: Outcome,
    on_end: OnEnd,
}

/// An eventfd in the thread's epoll. Edge-triggered, so nobody need read it:
/// each write is an event, and 2^64 of them never come.
#[derive(Debug)]
struct Eventfd(OwnedFd);

impl Engine {
    /// Starts `threads` threads (at least one), which take the tunnels of
    /// `registry` that run between plain sockets.
    ///
    /// # Errors
    /// No thread, epoll or eventfd to be had.
    pub fn start(registry: &Arc<Registry>, threads: usize) -> io::Result<Self> {
        let (ended, ends) = mpsc::channel();
        let mut engine = Self {
            registry: Arc::clone(registry),
            doors: Arc::new(Doors(Vec::new())),
            threads: Vec::new(),
        };
        let undertaker = thread::Builder::new().name("tunnel-ends".to_owned());
        let undertaker = undertaker.spawn(move || bury(&ends, || thread::sleep(REST)))?;
        let mut doors = Vec::new();
        for index in 0..threads.max(1) {
            let worker = Worker::new(registry, ended.clone())?;
            doors.push(Arc::clone(worker.door()));
            engine.doors = Arc::new(Doors(doors.clone()));
            let thread = thread::Builder::new().name(format!("tunnels-{index}"));
            engine.threads.push(thread.spawn(move || worker.run())?);
        }
        // Joined last: it ends when the last worker has.
        engine.threads.push(undertaker);
        registry.set_engine(Some(Arc::clone(&engine.doors)));
        Ok(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.registry.set_engine(None);
        for door in &self.doors.0 {
            door.inbox.close();
        }
        for thread in self.threads.drain(..) {
            // It has panicked, and said so.
            let _ = thread.join();
        }
    }
}

/// Runs what is to be done after tunnels have ended, until no worker is left.
fn bury(ends: &mpsc::Receiver<Vec<End>>, rest: impl Fn()) {
    while let Ok(first) = ends.recv() {
        let waiting = std::iter::once(first).chain(ends.try_iter());
        waiting.flatten().for_each(End::bury);
        // Those that end meanwhile are all taken next, and need not wake anyone.
        rest();
    }
}

impl End {
    fn bury(self) {
        let Self {
            ticket,
            outcome,
            on_end,
        } = self;
        drop(ticket);
        // A panic in one must not cost the others theirs.
        let call = std::panic::AssertUnwindSafe(|| on_end(outcome));
        let _ = std::panic::catch_unwind(call);
    }
}

impl Doors {
    /// Takes a tunnel in, into the thread that has the fewest.
    ///
    /// # Errors
    /// The tunnel, if the engine is stopping.
    pub(super) fn adopt(&self, adoption: Adoption) -> Result<(), Box<Adoption>> {
        let live = |door: &&Arc<Door>| door.live.load(Ordering::Relaxed);
        match self.0.iter().min_by_key(live) {
            Some(door) => door.adopt(adoption),
            None => Err(Box::new(adoption)),
        }
    }

    /// Has a thread say when it came to answer; `None` if there are not so many.
    /// One that has ended drops the question.
    pub(super) fn ask(&self, thread: usize) -> Option<oneshot::Receiver<Instant>> {
        let door = self.0.get(thread)?;
        let (answer, answered) = oneshot::channel();
        let _ = door.inbox.push(Message::Ask(answer));
        Some(answered)
    }

    /// These doors and no others.
    #[cfg(test)]
    pub(super) fn of(doors: Vec<Arc<Door>>) -> Arc<Self> {
        Arc::new(Self(doors))
    }
}

impl Door {
    fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            inbox: Inbox::new(Eventfd(bell)),
            live: AtomicUsize::new(0),
        })
    }

    pub(super) fn adopt(self: &Arc<Self>, adoption: Adoption) -> Result<(), Box<Adoption>> {
        adoption.ticket.tunnel().move_in(Arc::clone(self));
        self.live.fetch_add(1, Ordering::Relaxed);
        match self.inbox.push(Message::Adopt(Box::new(adoption))) {
            Err(Message::Adopt(adoption)) => {
                self.live.fetch_sub(1, Ordering::Relaxed);
                Err(adoption)
            }
            _ => Ok(()),
        }
    }

    /// Has the thread look at a tunnel's signals.
    pub(super) fn tell(&self, tunnel: &Arc<Tunnel>) {
        // Closed: then it is being ended already.
        let _ = self.inbox.push(Message::Told(Arc::clone(tunnel)));
    }

    fn bell(&self) -> impl AsFd {
        self.inbox.bell().0.as_fd()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

impl Bell for Eventfd {
    fn ring(&self) {
        // It fails only where the counter is full, and then it has rung.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! What the tests reach into.
    use std::cell::Cell;
    use std::sync::mpsc;

    use super::{End, OnEnd};
    use crate::tunnel::outcome::{Cause, Side};
    use crate::tunnel::registry::Ticket;

    pub(in crate::tunnel) use super::pipes::{at_most, held, lent};
    pub(in crate::tunnel) use super::splice::{Worth, set_worth};
    pub(in crate::tunnel) use super::worker::{ENTRY, Ends, Worker};

    /// Ends tunnels one by one and has them all buried; how often that rested.
    pub(in crate::tunnel) fn rests(ended: impl Iterator<Item = (Ticket, OnEnd)>) -> usize {
        let (sender, ends) = mpsc::channel();
        for (ticket, on_end) in ended {
            let outcome = ticket.tunnel().outcome(Side::Client, Cause::Eof);
            let end = End {
                ticket,
                outcome,
                on_end,
            };
            assert!(sender.send(vec![end]).is_ok());
        }
        drop(sender);
        let rests = Cell::new(0);
        super::bury(&ends, || rests.set(rests.get() + 1));
        rests.get()
    }
}
