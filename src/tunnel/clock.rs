//! The coarse clock that tunnels go by, so that none of them owns a timer.
//!
//! Invariant: a deadline made here is never early, and late by two ticks at
//! most (plus what the sweep allows itself, see `registry`).

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How often the clock is set.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A point in time, or a time span: ticks since the clock was made. 32 bits
/// last 13 years.
pub(super) type Ticks = u32;

/// Later than every other time.
pub(super) const NEVER: Ticks = Ticks::MAX;

// On cache lines of its own: every tunnel reads it, and only the sweep writes.
#[repr(align(128))]
pub(super) struct Clock {
    started: Instant,
    ticks: AtomicU32,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            ticks: AtomicU32::new(0),
        }
    }

    /// The time as it was last set.
    pub(super) fn now(&self) -> Ticks {
        self.ticks.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn pass(&self, ticks: Ticks) -> Ticks {
        self.ticks.fetch_add(ticks, Ordering::Relaxed) + ticks
    }

    /// Sets the clock and reads it.
    pub(super) fn set(&self) -> Ticks {
        let ticks = whole_ticks(self.started.elapsed());
        self.ticks.fetch_max(ticks, Ordering::Relaxed).max(ticks)
    }
}

/// A point in time in half the space of an `Instant`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    nanos: u64,
}

/// Long before any tunnel: the clock of a test may stand behind another's.
static BEFORE: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
});

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            // 64 bits last for centuries.
            nanos: BEFORE.elapsed().as_nanos() as u64,
        }
    }

    pub(super) fn elapsed(self) -> Duration {
        BEFORE
            .elapsed()
            .saturating_sub(Duration::from_nanos(self.nanos))
    }
}

/// The time `span` after `now`. One tick is added, because `now` may be over by
/// almost one.
pub(super) fn later(now: Ticks, span: Ticks) -> Ticks {
    now.saturating_add(span).saturating_add(1)
}

/// How far apart looks at tunnels are that have nothing due but after `span` of
/// silence, so that many are seen to at once. Short times get the finer one.
pub(super) fn step(span: Ticks) -> Ticks {
    const SHORT: Ticks = 100;
    if span < SHORT { 1 } else { 10 }
}

/// The first look from `at` on.
pub(super) fn look(at: Ticks, step: Ticks) -> Ticks {
    at.checked_next_multiple_of(step).unwrap_or(NEVER)
}

/// A span in ticks, rounded up.
pub(super) fn span(duration: Duration) -> Ticks {
    let ticks = duration.as_nanos().div_ceil(TICK.as_nanos());
    Ticks::try_from(ticks).unwrap_or(NEVER)
}

fn whole_ticks(duration: Duration) -> Ticks {
    Ticks::try_from(duration.as_nanos() / TICK.as_nanos()).unwrap_or(NEVER - 1)
}
