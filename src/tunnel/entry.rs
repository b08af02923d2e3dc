//! One live tunnel as others see it: what it is, what has passed, and the one
//! word by which it is told to end.
//!
//! It holds no stream and no bytes. Its relay writes the counters; everyone
//! else only reads them, without a lock.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::clock::{self, NEVER, Ticks};
use super::direction::Way;
use super::options::{Framing, Limits};
use crate::config::Drain;

use super::outcome::Cause;

const ORDERED: u8 = 1;
const EXPIRED: u8 = 1 << 1;

/// The close code for a tunnel in which both sides were silent for too long.
/// 1012, the default of every other end, would say that longhaul restarts.
const GOING_AWAY: u16 = 1001;

/// How far apart an idle tunnel is looked at; its timeout is late by up to
/// twice this. Short timeouts get the finer one.
const IDLE_STEP: Ticks = 10;
const SHORT_IDLE: Ticks = 100;

/// Names that many tunnels share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    pub listener: Arc<str>,
    pub route: Arc<str>,
    pub upstream: Arc<str>,
    pub backend: Arc<str>,
}

/// What is known of a tunnel when it opens.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Unique in this process, and the same as in the access log.
    pub id: u64,
    /// Build it once for each backend where you can: it is shared.
    pub labels: Arc<Labels>,
    /// `None` for a client on a Unix socket.
    pub client: Option<SocketAddr>,
    /// The source of the sticky key, such as `cookie:sid`.
    pub sticky: Option<Arc<str>>,
}

/// An order to end a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseOrder {
    pub cause: Cause,
    /// `None` closes without a frame, at a message boundary all the same.
    pub code: Option<u16>,
    /// At most 123 bytes are sent.
    pub reason: Cow<'static, str>,
}

impl CloseOrder {
    /// An end for a reason of longhaul's own, as the config says.
    pub fn new(cause: Cause, drain: &Drain) -> Self {
        Self {
            cause,
            code: drain.close_code,
            reason: Cow::Borrowed(""),
        }
    }
}

/// Where a tunnel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// One side has sent a Close frame or ended its stream.
    HalfClosed,
    /// longhaul is ending it.
    Closing,
}

/// A live tunnel.
#[derive(Debug)]
pub struct Tunnel {
    facts: Facts,
    opened: Instant,
    pub(super) limits: Limits,
    meters: [Meter; 2],
    /// When the relay wants to be woken.
    deadline: AtomicU32,
    signals: AtomicU8,
    state: AtomicU8,
    order: OnceLock<Arc<CloseOrder>>,
    waker: AtomicWaker,
}

/// What has passed one way. Written by the relay alone, hence without
/// read-modify-write.
#[derive(Debug)]
struct Meter {
    bytes: AtomicU64,
    messages: AtomicU64,
    active: AtomicU32,
}

impl Tunnel {
    pub(super) fn new(facts: Facts, limits: Limits, now: Ticks) -> Self {
        Self {
            facts,
            opened: Instant::now(),
            limits,
            meters: [Meter::new(now), Meter::new(now)],
            deadline: AtomicU32::new(NEVER),
            signals: AtomicU8::new(0),
            state: AtomicU8::new(State::Open as u8),
            order: OnceLock::new(),
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
        self.limits.framing
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

    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Open,
            1 => State::HalfClosed,
            _ => State::Closing,
        }
    }

    /// Tells the tunnel to end. The first order stands; says whether it was
    /// this one.
    pub fn close(&self, order: Arc<CloseOrder>) -> bool {
        let first = self.order.set(order).is_ok();
        if first {
            self.signal(ORDERED);
        }
        first
    }

    /// When a byte last passed from the client and from the backend.
    pub(super) fn last_active(&self) -> [Ticks; 2] {
        [Way::In, Way::Out].map(|way| self.meter(way).active.load(Ordering::Relaxed))
    }

    pub(super) fn passed(&self, way: Way, bytes: usize, messages: u64) {
        let meter = self.meter(way);
        let before = meter.bytes.load(Ordering::Relaxed);
        meter.bytes.store(before + bytes as u64, Ordering::Relaxed);
        meter.messages.store(messages, Ordering::Relaxed);
    }

    pub(super) fn touch(&self, way: Way, now: Ticks) {
        self.meter(way).active.store(now, Ordering::Relaxed);
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn order(&self) -> Option<&Arc<CloseOrder>> {
        self.order.get()
    }

    /// Has `waker` woken by the next signal, and takes those given so far:
    /// whether the deadline was seen to be over. Orders stay in `order`.
    pub(super) fn listen(&self, waker: &std::task::Waker) -> bool {
        self.waker.register(waker);
        if self.signals.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.signals.swap(0, Ordering::AcqRel) & EXPIRED != 0
    }

    pub(super) fn deadline(&self) -> Ticks {
        self.deadline.load(Ordering::Acquire)
    }

    pub(super) fn set_deadline(&self, at: Ticks) {
        self.deadline.store(at, Ordering::Release);
    }

    /// Tells the relay what is over at `now`, and says when to look again.
    pub(super) fn check(&self, now: Ticks) -> Ticks {
        let deadline = self.deadline();
        if deadline <= now {
            self.signal(EXPIRED);
            return clock::later(now, 0);
        }
        if self.order().is_none() {
            let limits = &self.limits;
            if limits.dies_at <= now {
                self.close_for(Cause::MaxLifetime, limits.code, "maximum lifetime reached");
            } else if self.idle_until() <= now {
                let code = limits.code.map(|_| GOING_AWAY);
                self.close_for(Cause::IdleTimeout, code, "idle for too long");
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

    fn close_for(&self, cause: Cause, code: Option<u16>, reason: &'static str) {
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
        let step = if idle < SHORT_IDLE { 1 } else { IDLE_STEP };
        let [inward, outward] = self.last_active();
        let at = clock::later(inward.max(outward), idle).saturating_add(step);
        at.checked_next_multiple_of(step).unwrap_or(NEVER)
    }

    fn signal(&self, signal: u8) {
        self.signals.fetch_or(signal, Ordering::AcqRel);
        self.waker.wake();
    }

    fn meter(&self, way: Way) -> &Meter {
        &self.meters[way as usize]
    }
}

impl Meter {
    fn new(now: Ticks) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            active: AtomicU32::new(now),
        }
    }
}
