//! Every interleaving of the hand-off between tokio and the engine's threads:
//! `inbox` and `signals` are compiled here a second time, against loom's
//! primitives instead of std's.

// The second copies are on purpose, and used in part.
#![allow(dead_code, clippy::duplicate_mod)]

mod sync {
    //! loom's side of `tunnel::sync`.

    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;

    /// loom has none: the guarantees of std's, and no more. Setting publishes
    /// by a release, looking takes by an acquire, and looking at an unset one
    /// orders nothing.
    #[derive(Debug)]
    pub(super) struct OnceLock<T> {
        is_set: AtomicBool,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(super) fn new() -> Self {
            Self {
                is_set: AtomicBool::new(false),
                value: std::sync::OnceLock::new(),
            }
        }

        pub(super) fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }

        pub(super) fn get(&self) -> Option<&T> {
            if self.is_set.load(Ordering::Acquire) {
                self.value.get()
            } else {
                None
            }
        }
    }
}

#[path = "../engine/inbox.rs"]
mod inbox;
#[path = "../signals.rs"]
mod signals;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use inbox::{Bell, Inbox};
use signals::Signals;

const ORDER: u8 = 1;
const EXPIRED: u8 = 2;

/// What an edge-triggered eventfd does: a ring is one event, rings before the
/// next wait may be one together.
struct Edge {
    rung: Mutex<bool>,
    wakes: Condvar,
}

impl Edge {
    fn new() -> Self {
        Self {
            rung: Mutex::new(false),
            wakes: Condvar::new(),
        }
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.wakes.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Bell for Edge {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.wakes.notify_one();
    }
}

#[derive(Debug)]
enum Message {
    Adopt(Arc<Signals<()>>),
    Told,
}

fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn no_message_is_left_behind_a_ring() {
    model(|| {
        let inbox = Arc::new(Inbox::new(Edge::new()));
        let senders: Vec<_> = (0..2u8)
            .map(|message| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || inbox.push(message).unwrap())
            })
            .collect();
        let mut taken = Vec::new();
        // It would wait for ever, which loom reports, if one came unrung.
        while taken.len() < 2 {
            inbox.bell().wait();
            assert!(!inbox.take(&mut taken));
        }
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn a_message_is_taken_or_given_back_when_the_inbox_closes() {
    model(|| {
        let inbox = Arc::new(Inbox::new(Edge::new()));
        let sender = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.push(7u8).is_ok())
        };
        let closer = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.close())
        };
        let mut taken = Vec::new();
        loop {
            inbox.bell().wait();
            if inbox.take(&mut taken) {
                break;
            }
        }
        assert_eq!(sender.join().unwrap(), taken == [7]);
        closer.join().unwrap();
    });
}

/// An order is given while the tunnel moves from its task to the thread, and a
/// deadline expires: the thread must come to know both.
#[test]
fn no_signal_is_lost_on_the_way_to_the_engine() {
    model(|| {
        let inbox = Arc::new(Inbox::new(Edge::new()));
        let signals = Arc::new(Signals::new(0, 0));
        let signallers: Vec<_> = [ORDER, EXPIRED]
            .map(|signal| {
                let (inbox, signals) = (Arc::clone(&inbox), Arc::clone(&signals));
                thread::spawn(move || {
                    // `Tunnel::signal`.
                    if signals.give(signal).is_some() {
                        inbox.push(Message::Told).unwrap();
                    }
                })
            })
            .into();
        // `Door::adopt`.
        signals.send_to(());
        inbox.push(Message::Adopt(Arc::clone(&signals))).unwrap();
        // The worker.
        let (mut messages, mut adopted, mut known) = (Vec::new(), None, 0);
        while known != ORDER | EXPIRED {
            inbox.bell().wait();
            inbox.take(&mut messages);
            for message in messages.drain(..) {
                match message {
                    Message::Adopt(signals) => {
                        known |= signals.take_first();
                        adopted = Some(signals);
                    }
                    // Before the adoption it is dropped: `take_first` sees to it.
                    Message::Told => {
                        known |= adopted.as_ref().map_or(0, |signals| signals.take());
                    }
                }
            }
        }
        for signaller in signallers {
            signaller.join().unwrap();
        }
    });
}
