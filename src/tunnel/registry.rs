//! The live tunnels of the process: to count, find and close them, and to keep
//! their clocks.
//!
//! It belongs to the process and not to a snapshot, so it outlives every
//! reload. It spawns nothing: its owner runs [`Registry::sweep_forever`].
//! The byte path takes none of its locks.
//!
//! Invariant: a tunnel is in here exactly as long as its [`Ticket`] lives.

mod page;
mod shard;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{self, Duration};

use arc_swap::ArcSwapOption;
use rand::seq::SliceRandom;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::aside::Aside;
use super::clock::{Clock, TICK, Ticks};
use super::ended::LastEnded;
use super::engine::Doors;
use super::entry::{CloseOrder, Facts, Tunnel};
use super::options::{Limits, Options};
use super::pulse::Pulse;
use super::quota::Quota;
use shard::Shard;

pub use page::Page;

/// More than the threads that open and end tunnels at the same time.
const SHARDS: usize = 64;

/// All live tunnels.
pub struct Registry {
    clock: Clock,
    shards: [Shard; SHARDS],
    live: AtomicUsize,
    /// Where the next tunnel goes.
    turn: AtomicUsize,
    none_left: Notify,
    ended: LastEnded,
    /// Where tunnels between plain sockets go.
    engine: ArcSwapOption<Doors>,
    /// Where those go that have TLS on a side.
    relays: OnceLock<Handle>,
}

/// A tunnel's place in the registry, which its relay holds. Dropping it takes
/// the tunnel out.
pub struct Ticket {
    registry: Arc<Registry>,
    tunnel: Arc<Tunnel>,
    /// `slot * SHARDS + shard`
    place: u32,
    /// The relay's alone.
    pub(super) aside: Option<Box<Aside>>,
}

/// What looks at the bytes of few tunnels.
pub(super) type Watchers<'a> = (Option<&'a mut Pulse>, Option<&'a mut Quota>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("live", &self.len())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry whose clock stands at zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::new(),
            shards: std::array::from_fn(|_| Shard::new()),
            live: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            none_left: Notify::new(),
            ended: LastEnded::default(),
            engine: ArcSwapOption::empty(),
            relays: OnceLock::new(),
        })
    }

    /// Enters a tunnel that is about to be relayed.
    pub fn open(self: &Arc<Self>, facts: Facts, options: &Options) -> Ticket {
        let now = self.clock.set();
        let tunnel = Arc::new(Tunnel::new(facts, Limits::new(options, now), now));
        let shard = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let slot = self.shards[shard].insert(Arc::clone(&tunnel));
        self.live.fetch_add(1, Ordering::AcqRel);
        Ticket {
            registry: Arc::clone(self),
            tunnel,
            place: slot * SHARDS as u32 + shard as u32,
            aside: Aside::new(Pulse::new(options, now), Quota::new(options, now)),
        }
    }

    /// How many tunnels live.
    pub fn len(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last that were told to have ended.
    pub fn ended(&self) -> &LastEnded {
        &self.ended
    }

    /// Shows every tunnel, under a lock: `look` must be quick and must not call
    /// the registry.
    pub fn each(&self, look: &mut dyn FnMut(&Arc<Tunnel>)) {
        for shard in &self.shards {
            shard.lock().tunnels.iter().flatten().for_each(&mut *look);
        }
    }

    /// The tunnels that `filter` accepts. It is called under a lock, so it must
    /// be quick and must not call the registry.
    pub fn select(&self, filter: &dyn Fn(&Tunnel) -> bool) -> Vec<Arc<Tunnel>> {
        let mut selected = Vec::new();
        self.each(&mut |tunnel| {
            if filter(tunnel) {
                selected.push(Arc::clone(tunnel));
            }
        });
        selected
    }

    /// Orders `tunnels` to close, in a random order, evenly over `window` with
    /// some jitter, so that their clients do not all come back at once. Resolves
    /// when all orders are given; dropping it gives no more.
    pub async fn close_paced(
        &self,
        mut tunnels: Vec<Arc<Tunnel>>,
        order: CloseOrder,
        window: Duration,
    ) {
        tunnels.shuffle(&mut rand::rng());
        self.close_in_order(tunnels, order, window).await;
    }

    /// The same, in the order given.
    pub async fn close_in_order(
        &self,
        tunnels: Vec<Arc<Tunnel>>,
        order: CloseOrder,
        window: Duration,
    ) {
        let order = Arc::new(order);
        let start = Instant::now();
        let all = tunnels.len() as f64;
        for (place, tunnel) in tunnels.into_iter().enumerate() {
            // Each within its own slot: never two slots' worth in one.
            let share = (place as f64 + rand::random::<f64>()) / all;
            let at = start + window.mul_f64(share);
            if at > Instant::now() {
                sleep_until(at).await;
            }
            tunnel.close(Arc::clone(&order));
        }
    }

    /// Resolves when no tunnel is left, at once if there is none.
    pub async fn closed(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    /// Sets the clock and tells tunnels whose time is over, for ever. Without
    /// it no timeout of any tunnel works, so the owner runs exactly one from
    /// before the first tunnel until after the last.
    pub async fn sweep_forever(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep();
        }
    }

    /// How long ago a byte last passed from the client and from the backend,
    /// to a tenth of a second; the time since open where none did.
    pub fn idle(&self, tunnel: &Tunnel) -> (Duration, Duration) {
        let now = self.clock.now();
        let [inward, outward] = tunnel.last_active().map(|at| TICK * now.saturating_sub(at));
        (inward, outward)
    }

    /// Tunnels between sockets of which one has TLS are relayed in this runtime from
    /// now on, and not where they are opened; the first call counts.
    pub fn relay_in(&self, runtime: Handle) {
        let _ = self.relays.set(runtime);
    }

    pub(super) fn set_engine(&self, engine: Option<Arc<Doors>>) {
        self.engine.store(engine);
    }

    /// Has every thread of the engine answer, so that one that is stuck is found.
    pub fn ask_engine(&self) -> Vec<oneshot::Receiver<time::Instant>> {
        (0..).map_while(|thread| self.ask_worker(thread)).collect()
    }

    /// Has one thread of the engine say when it came to answer; `None` if it has
    /// not so many.
    pub fn ask_worker(&self, thread: usize) -> Option<oneshot::Receiver<time::Instant>> {
        self.engine.load_full()?.ask(thread)
    }

    pub(super) fn now(&self) -> Ticks {
        self.clock.now()
    }

    fn sweep(&self) {
        let now = self.clock.set();
        for shard in &self.shards {
            shard.sweep(now);
        }
    }

    /// Moves the clock on by hand, and sweeps.
    #[cfg(test)]
    pub(super) fn pass(&self, ticks: Ticks) {
        let now = self.clock.pass(ticks);
        self.shards.iter().for_each(|shard| shard.sweep(now));
    }

    fn remove(&self, place: u32) {
        let (shard, slot) = (place as usize % SHARDS, place / SHARDS as u32);
        self.shards[shard].remove(slot);
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none_left.notify_waiters();
        }
    }
}

impl Ticket {
    /// The entry that others see.
    pub fn tunnel(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }

    pub(super) fn now(&self) -> Ticks {
        self.registry.clock.now()
    }

    /// The entry, what goes by the bytes of it, and the time.
    pub(super) fn parts(&mut self) -> (&Arc<Tunnel>, Watchers<'_>, Ticks) {
        let now = self.now();
        let aside = self.aside.as_mut();
        let watchers = aside.map_or((None, None), |aside| aside.parts());
        (&self.tunnel, watchers, now)
    }

    /// The engine, while one runs.
    pub(super) fn engine(&self) -> Option<Arc<Doors>> {
        self.registry.engine.load_full()
    }

    /// The runtime of relays, if there is one.
    pub(super) fn relays(&self) -> Option<&Handle> {
        self.registry.relays.get()
    }

    /// Has the sweep wake the relay at `deadline`.
    pub(super) fn arm(&self, deadline: Ticks) {
        self.tunnel.set_deadline(deadline);
        // After the deadline itself: a sweep that overwrites this has not yet
        // looked at the tunnel.
        self.registry.shards[self.place as usize % SHARDS].due_by(deadline);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.remove(self.place);
    }
}
