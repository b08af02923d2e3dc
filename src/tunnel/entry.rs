//! One live tunnel as others see it: what it is, what has passed, and the one
//! word by which it is told to end.
//!
//! It holds no stream and no bytes. Its relay writes the counters; everyone
//! else only reads them, without a lock. There may be a million of them, so its
//! fields are as small as they can be (see `tests/sizes`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use once_cell::race::OnceBox;

use super::clock::{self, Moment, NEVER, Ticks};
use super::direction::Way;
use super::engine::Door;
use super::facts::reason;
use super::options::{Framing, Limits};
use super::outcome::{Cause, Outcome, Side};
use super::signals::Signals;
use crate::config::Ending;

pub use super::facts::{CloseOrder, Facts, State};

const ORDERED: u8 = 1;
const EXPIRED: u8 = 1 << 1;

/// A live tunnel.
#[derive(Debug)]
pub struct Tunnel {
    facts: Facts,
    opened: Moment,
    pub(super) limits: Limits,
    meters: [Meter; 2],
    /// When a byte last passed each way.
    active: [AtomicU32; 2],
    /// When the relay wants to be woken.
    deadline: AtomicU32,
    signals: Signals<Arc<Door>>,
    order: OnceBox<Arc<CloseOrder>>,
    /// The task's, if no engine has it.
    waker: AtomicWaker,
}

/// What has passed one way. Written by the relay alone, hence without
/// read-modify-write.
#[derive(Debug, Default)]
struct Meter {
    bytes: AtomicU64,
    messages: AtomicU64,
}

impl Tunnel {
    pub(super) fn new(facts: Facts, limits: Limits, now: Ticks) -> Self {
        Self {
            facts,
            opened: Moment::now(),
            limits,
            meters: Default::default(),
            active: [AtomicU32::new(now), AtomicU32::new(now)],
            deadline: AtomicU32::new(NEVER),
            signals: Signals::new(State::Open as u8, u32::MAX),
            order: OnceBox::new(),
            waker: AtomicWaker::new(),
        }
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn id(&self) -> u64 {
        self.facts.id
    }

    pub fn framing(&self) -> Framing {
        self.limits.framing()
    }

    /// How long it has been open.
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Bytes from the client that were passed on.
    pub fn bytes_in(&self) -> u64 {
        self.meter(Way::In).bytes.load(Ordering::Relaxed)
    }

    /// Bytes from the backend that were passed on.
    pub fn bytes_out(&self) -> u64 {
        self.meter(Way::Out).bytes.load(Ordering::Relaxed)
    }

    /// Data messages from the client that were passed on.
    pub fn messages_in(&self) -> u64 {
        self.meter(Way::In).messages.load(Ordering::Relaxed)
    }

    /// Data messages from the backend that were passed on.
    pub fn messages_out(&self) -> u64 {
        self.meter(Way::Out).messages.load(Ordering::Relaxed)
    }

    /// Where it stands, with an order that its relay has not seen yet.
    pub fn standing(&self) -> State {
        match self.state() {
            State::Open | State::HalfClosed if self.order().is_some() => State::Closing,
            state => state,
        }
    }

    pub fn state(&self) -> State {
        match self.signals.state.load(Ordering::Relaxed) {
            0 => State::Open,
            1 => State::HalfClosed,
            2 => State::Closing,
            _ => State::Ended,
        }
    }

    /// Claims the last word on the tunnel, which one gets: whoever closes its
    /// streams, or a process that will not wait for that.
    pub fn claim_last_word(&self) -> bool {
        self.signals
            .state
            .swap(State::Ended as u8, Ordering::AcqRel)
            != State::Ended as u8
    }

    /// Tells the tunnel to end. The first order stands; says whether it was
    /// this one.
    pub fn close(self: &Arc<Self>, order: Arc<CloseOrder>) -> bool {
        let first = self.order.set(Box::new(order)).is_ok();
        if first {
            self.signal(ORDERED);
        }
        first
    }

    /// What is to say of its end so far, but for the Close frames that were seen.
    pub fn outcome(&self, ended_by: Side, cause: Cause) -> Outcome {
        Outcome {
            ended_by,
            cause,
            duration: self.age(),
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out(),
            messages_in: self.messages_in(),
            messages_out: self.messages_out(),
            client_close_code: None,
            backend_close_code: None,
            client_unreadable: false,
        }
    }

    /// When a byte last passed from the client and from the backend.
    pub(super) fn last_active(&self) -> [Ticks; 2] {
        Way::BOTH.map(|way| self.active[way as usize].load(Ordering::Relaxed))
    }

    pub(super) fn passed(&self, way: Way, bytes: usize, messages: u64) {
        let meter = self.meter(way);
        let before = meter.bytes.load(Ordering::Relaxed);
        meter.bytes.store(before + bytes as u64, Ordering::Relaxed);
        meter.messages.store(messages, Ordering::Relaxed);
    }

    pub(super) fn touch(&self, way: Way, now: Ticks) {
        self.active[way as usize].store(now, Ordering::Relaxed);
    }

    /// Where the relay stands; the last word stays the last.
    pub(super) fn set_state(&self, state: State) {
        let _ = self
            .signals
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now != State::Ended as u8).then_some(state as u8)
            });
    }

    /// Which ways have bytes that wait for their sink, after a step.
    pub(super) fn set_backlog(&self, ways: [bool; 2]) {
        let [inward, outward] = ways.map(u8::from);
        self.signals
            .backlog
            .store(inward | outward << 1, Ordering::Relaxed);
    }

    /// Whether bytes have waited for a sink that took none for this long.
    pub(super) fn is_stalled(&self, now: Ticks, span: Ticks) -> bool {
        let backlog = self.signals.backlog.load(Ordering::Relaxed);
        let last = self.last_active();
        let stalls = |way: Way| {
            let waits = backlog & 1 << way as u8 != 0;
            waits && now.saturating_sub(last[way as usize]) >= span
        };
        Way::BOTH.into_iter().any(stalls)
    }

    pub(super) fn order(&self) -> Option<&Arc<CloseOrder>> {
        self.order.get()
    }

    /// Has `waker` woken by the next signal, and takes those given so far:
    /// whether the deadline was seen to be over. Orders stay in `order`.
    pub(super) fn listen(&self, waker: &std::task::Waker) -> bool {
        self.waker.register(waker);
        self.signals.take() & EXPIRED != 0
    }

    /// From now on signals go through `door`. The tunnel is to be carried
    /// through it after this.
    pub(super) fn move_in(&self, door: Arc<Door>) {
        self.signals.send_to(door);
    }

    /// Takes the signals for the engine, as `listen` does for a task.
    pub(super) fn heed(&self) -> bool {
        self.signals.take() & EXPIRED != 0
    }

    /// The same, for the first time.
    pub(super) fn heed_first(&self) -> bool {
        self.signals.take_first() & EXPIRED != 0
    }

    pub(super) fn slot(&self) -> u32 {
        self.signals.slot.load(Ordering::Relaxed)
    }

    pub(super) fn set_slot(&self, slot: u32) {
        self.signals.slot.store(slot, Ordering::Relaxed);
    }

    pub(super) fn deadline(&self) -> Ticks {
        self.deadline.load(Ordering::Acquire)
    }

    pub(super) fn set_deadline(&self, at: Ticks) {
        self.deadline.store(at, Ordering::Release);
    }

    /// Tells the relay what is over at `now`, and says when to look again.
    pub(super) fn check(self: &Arc<Self>, now: Ticks) -> Ticks {
        let deadline = self.deadline();
        if deadline <= now {
            self.signal(EXPIRED);
            return clock::later(now, 0);
        }
        if self.order().is_none() {
            let limits = &self.limits;
            let end = limits.end_code();
            if limits.dies_at <= now && limits.expires() {
                self.close_for(Cause::Expired, end, "authorization has ended");
            } else if limits.dies_at <= now {
                self.close_for(Cause::MaxLifetime, end, reason(Ending::MaxLifetime));
            } else if self.idle_until() <= now {
                let code = limits.idle_code();
                self.close_for(Cause::IdleTimeout, code, reason(Ending::IdleTimeout));
            }
        }
        self.next_check()
    }

    /// The earliest time at which `check` can find something, unless the relay
    /// sets an earlier deadline.
    pub(super) fn next_check(&self) -> Ticks {
        let deadline = self.deadline();
        if self.order().is_some() {
            return deadline;
        }
        deadline.min(self.limits.dies_at).min(self.idle_until())
    }

    fn close_for(self: &Arc<Self>, cause: Cause, code: Option<u16>, reason: &'static str) {
        self.close(Arc::new(CloseOrder {
            cause,
            code,
            reason: reason.into(),
        }));
    }

    /// When it will have been idle for too long, with a step to spare, so that
    /// a ping every minute outlives a timeout of a minute.
    fn idle_until(&self) -> Ticks {
        let idle = self.limits.idle;
        if idle == NEVER {
            return NEVER;
        }
        // So late by up to twice this.
        let step = clock::step(idle);
        let [inward, outward] = self.last_active();
        let at = clock::later(inward.max(outward), idle).saturating_add(step);
        clock::look(at, step)
    }

    fn signal(self: &Arc<Self>, signal: u8) {
        match self.signals.give(signal) {
            None => self.waker.wake(),
            Some(door) => door.tell(self),
        }
    }

    fn meter(&self, way: Way) -> &Meter {
        &self.meters[way as usize]
    }
}
