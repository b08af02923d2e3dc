//! One thread of the engine: waits for its sockets and its inbox, and steps the
//! tunnels that something has happened to.
//!
//! What is cheap per event is here; what a tunnel does is in `relay`.
//!
//! Invariant: the cost of an event does not depend on how many tunnels there
//! are; who exchanges messages waits for one step of those who move much, however
//! many they are, and none of those has a second step before every other one that
//! is due has had its first.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::due::Due;
use super::slab::Slab;
use super::sock::Sock;
use super::splice::Splicing;
use super::{Adoption, Door, End, Message, OnEnd};
use crate::foreign;
use crate::tunnel::clock::Ticks;
use crate::tunnel::outcome::{Cause, Outcome, Side};
use crate::tunnel::registry::{Registry, Ticket};
use crate::tunnel::relay::{Leg, Quantum, Relay, Step};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// The event of the inbox. Those of sockets are `slot * 2 + side`.
const BELL: u64 = u64::MAX;
const CLIENT: u64 = 0;
const BACKEND: u64 = 1;

/// A pipe whose bytes nobody has taken for this long is given back.
const PIPE_PATIENCE: Ticks = 10;
const LOOK_AGAIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

pub(in crate::tunnel) struct Worker {
    epoll: OwnedFd,
    door: Arc<Door>,
    registry: Arc<Registry>,
    tunnels: Slab<Entry>,
    due: Due,
    /// Slots that may hold a pipe, each once.
    held: Vec<u32>,
    looked: Ticks,
    messages: Vec<Message>,
    ended: Vec<End>,
    ends: mpsc::Sender<Vec<End>>,
}

/// One tunnel.
struct Entry {
    relay: Relay<Sock, Sock, Splicing>,
    on_end: OnEnd,
    /// Of its next step.
    quantum: Quantum,
    is_due: bool,
    is_held: bool,
}

impl Worker {
    pub(super) fn new(registry: &Arc<Registry>, ends: mpsc::Sender<Vec<End>>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let door = Arc::new(Door::new()?);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, door.bell(), epoll::EventData::new_u64(BELL), flags)?;
        Ok(Self {
            epoll,
            door,
            registry: Arc::clone(registry),
            tunnels: Slab::new(),
            due: Due::default(),
            held: Vec::new(),
            looked: 0,
            messages: Vec::new(),
            ended: Vec::new(),
            ends,
        })
    }

    pub(in crate::tunnel) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Relays until the inbox is closed.
    pub(super) fn run(mut self) {
        foreign::take_short_turns();
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let timeout = match (self.due.is_empty(), self.held.is_empty()) {
                (false, _) => Some(&AT_ONCE),
                (true, false) => Some(&LOOK_AGAIN),
                (true, true) => None,
            };
            if !self.turn(&mut events, timeout) {
                return;
            }
        }
    }

    /// Waits for events and steps what is due; `false` when the inbox is closed.
    fn turn(&mut self, events: &mut Vec<epoll::Event>, timeout: Option<&Timespec>) -> bool {
        events.clear();
        let buffer = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, buffer, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                // Every argument is this thread's own: it cannot go on.
                tracing::error!(%error, "epoll_wait failed: the thread's tunnels end");
                return false;
            }
        }
        let mut rung = false;
        for &epoll::Event { flags, data } in &*events {
            match data.u64() {
                BELL => rung = true,
                socket => self.note(socket, flags),
            }
        }
        if rung && !self.read_messages() {
            return false;
        }
        self.step_due();
        self.reclaim_pipes();
        self.hand_over_ends();
        true
    }

    fn note(&mut self, socket: u64, flags: epoll::EventFlags) {
        let slot = (socket / 2) as u32;
        // An event that was fetched before its socket was closed is taken for
        // one of the next tunnel here, to which it does no harm.
        let Some(entry) = self.tunnels.get_mut(slot) else {
            return;
        };
        match socket % 2 {
            CLIENT => entry.relay.client().note(flags),
            BACKEND.. => entry.relay.backend().note(flags),
        }
        self.due.push(slot, entry.quantum, &mut entry.is_due);
    }

    /// `false` when the inbox is closed.
    fn read_messages(&mut self) -> bool {
        let closed = self.door.inbox.take(&mut self.messages);
        let mut messages = std::mem::take(&mut self.messages);
        for message in messages.drain(..) {
            match message {
                Message::Adopt(adoption) => self.adopt(*adoption),
                Message::Ask(answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(Instant::now());
                    // Once a second, since that is how often the watch over late
                    // threads asks.
                    foreign::give_back();
                }
                Message::Told(tunnel) => {
                    let slot = tunnel.slot();
                    if let Some(entry) = self.tunnels.get_mut(slot)
                        && Arc::ptr_eq(entry.relay.ticket().tunnel(), &tunnel)
                    {
                        self.due.push(slot, entry.quantum, &mut entry.is_due);
                    }
                }
            }
        }
        self.messages = messages;
        !closed
    }

    fn adopt(&mut self, adoption: Adoption) {
        let Adoption {
            client,
            backend,
            ticket,
            on_end,
        } = adoption;
        let tunnel = Arc::clone(ticket.tunnel());
        let slot = self.tunnels.insert(Entry {
            relay: Relay::new(sock(client), sock(backend), ticket),
            on_end,
            quantum: Quantum::Messages,
            is_due: false,
            is_held: false,
        });
        tunnel.set_slot(slot);
        let Some(entry) = self.tunnels.get_mut(slot) else {
            return;
        };
        if let Err(error) = watch(&self.epoll, slot, entry) {
            tracing::warn!(%error, "a tunnel ends at once: its sockets cannot be watched");
            return self.give_up(slot);
        }
        // The first step: what was read ahead goes out, and signals given on
        // the way here are taken.
        let expired = tunnel.heed_first();
        self.step(slot, expired);
    }

    fn step_due(&mut self) {
        let (messages, bulk) = self.due.turn();
        for &slot in &messages {
            self.step_one(slot);
        }
        self.due.done(messages);
        // Of those who move much, as many as have little to move this time, and one
        // that has not.
        for _ in 0..bulk {
            let quantum = self.due.next_bulk().and_then(|slot| self.step_one(slot));
            if quantum == Some(Quantum::Bulk) {
                break;
            }
        }
    }

    /// What fits the tunnel's next step, if it lives.
    fn step_one(&mut self, slot: u32) -> Option<Quantum> {
        let entry = self.tunnels.get_mut(slot)?;
        entry.is_due = false;
        let expired = entry.relay.ticket().tunnel().heed();
        self.step(slot, expired);
        self.tunnels.get_mut(slot).map(|entry| entry.quantum)
    }

    fn step(&mut self, slot: u32, expired: bool) {
        let Some(entry) = self.tunnels.get_mut(slot) else {
            return;
        };
        let mut context = Context::from_waker(Waker::noop());
        let (relay, quantum) = (&mut entry.relay, entry.quantum);
        // As in tokio, a panic ends one tunnel and not its thread.
        match catch_unwind(AssertUnwindSafe(|| {
            relay.step(&mut context, expired, quantum)
        })) {
            Ok(Step::Waits(quantum)) => entry.quantum = quantum,
            Ok(Step::Again) => {
                entry.quantum = Quantum::Bulk;
                self.due.push(slot, entry.quantum, &mut entry.is_due);
            }
            Ok(Step::Done(outcome)) => return self.finish(slot, outcome),
            Err(_) => return self.give_up(slot),
        }
        if !entry.is_held && entry.holds_pipe() {
            entry.is_held = true;
            self.held.push(slot);
        }
    }

    fn finish(&mut self, slot: u32, outcome: Outcome) {
        let Some(entry) = self.tunnels.remove(slot) else {
            return;
        };
        self.end(entry.relay.into_ticket(), outcome, entry.on_end);
    }

    fn give_up(&mut self, slot: u32) {
        if let Some(entry) = self.tunnels.remove(slot) {
            let (ticket, outcome) = entry.relay.abandon(Side::Longhaul, Cause::Reset);
            self.end(ticket, outcome, entry.on_end);
        }
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome, on_end: OnEnd) {
        self.door.live.fetch_sub(1, Ordering::Relaxed);
        self.ended.push(End {
            ticket,
            outcome,
            on_end,
        });
    }

    fn hand_over_ends(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        if let Err(unsent) = self.ends.send(std::mem::take(&mut self.ended)) {
            unsent.0.into_iter().for_each(End::bury);
        }
    }

    /// Empties pipes that nobody has drained for a while: others need them.
    fn reclaim_pipes(&mut self) {
        let now = self.registry.now();
        if self.held.is_empty() || now.saturating_sub(self.looked) < PIPE_PATIENCE {
            return;
        }
        self.looked = now;
        let tunnels = &mut self.tunnels;
        self.held.retain(|slot| {
            let Some(entry) = tunnels.get_mut(*slot) else {
                return false;
            };
            entry.relay.client().reclaim_pipe();
            entry.relay.backend().reclaim_pipe();
            entry.is_held = entry.holds_pipe();
            entry.is_held
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.door.inbox.close();
        // A thread that has stopped is never the one with the fewest.
        self.door.live.fetch_add(usize::MAX / 2, Ordering::Relaxed);
        self.read_messages();
        let entries: Vec<Entry> = self.tunnels.drain().collect();
        for entry in entries {
            let (ticket, outcome) = entry.relay.abandon(Side::Longhaul, Cause::Drain);
            self.end(ticket, outcome, entry.on_end);
        }
        self.hand_over_ends();
    }
}

impl Entry {
    fn holds_pipe(&mut self) -> bool {
        self.relay.client().holds_pipe() || self.relay.backend().holds_pipe()
    }
}

fn sock(leg: Leg<OwnedFd>) -> Leg<Sock> {
    Leg {
        stream: Sock::new(leg.stream),
        read_ahead: leg.read_ahead,
    }
}

fn watch(epoll: &OwnedFd, slot: u32, entry: &mut Entry) -> io::Result<()> {
    let data = |side| epoll::EventData::new_u64(u64::from(slot) * 2 + side);
    let interest = Sock::INTEREST;
    epoll::add(epoll, &*entry.relay.client(), data(CLIENT), interest)?;
    epoll::add(epoll, &*entry.relay.backend(), data(BACKEND), interest)?;
    Ok(())
}

#[cfg(test)]
impl Worker {
    /// One that the test turns by hand, and where its ends go.
    pub(in crate::tunnel) fn by_hand(registry: &Arc<Registry>) -> (Self, Ends) {
        let (ended, ends) = mpsc::channel();
        (Self::new(registry, ended).unwrap(), Ends(ends))
    }

    /// Steps what is due without waiting.
    pub(in crate::tunnel) fn turn_once(&mut self) {
        assert!(self.turn(&mut Vec::with_capacity(EVENTS), Some(&AT_ONCE)));
    }
}

/// Bytes of a tunnel's place in the slab.
#[cfg(test)]
pub(in crate::tunnel) const ENTRY: usize = size_of::<Option<Entry>>();

/// Runs the ends of a worker that is turned by hand.
#[cfg(test)]
pub(in crate::tunnel) struct Ends(mpsc::Receiver<Vec<End>>);

#[cfg(test)]
impl Ends {
    pub(in crate::tunnel) fn run(&self) {
        self.0.try_iter().flatten().for_each(End::bury);
    }
}
