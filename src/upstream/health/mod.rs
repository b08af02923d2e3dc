//! Whether a backend can be used: what its probes and its traffic say.
//!
//! A [`Health`] belongs to its backend and so survives reloads with it. It only
//! keeps the verdict: [`Probing`] and the reports find it, `Backends` heeds it
//! when it chooses, and the server says and does what follows from a change.
//!
//! Invariant: reading a standing takes no lock, and each change wakes whoever
//! waits for [`Changes`].

mod answer;
mod probe;
mod probing;
mod reports;
mod slow_start;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

pub use probe::ProbeError;
pub use probing::Probing;
pub use reports::Ejected;

use crate::config;
use reports::Reports;
use slow_start::SlowStart;

/// Where a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// By its probes, or because nothing is known and the config says so.
    Down,
    /// By reports of its traffic, for a time.
    Ejected,
}

impl Standing {
    /// The word of log and admin API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
        }
    }
}

/// Wakes one waiter for each change of any backend's health.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<Notify>);

impl Changes {
    /// Resolves at a change since the last one that was waited for.
    pub async fn changed(&self) {
        self.0.notified().await;
    }

    pub(in crate::upstream) fn tell(&self) {
        self.0.notify_one();
    }
}

/// The last probe of a backend.
#[derive(Clone, Debug)]
pub struct LastProbe {
    pub at: SystemTime,
    /// `None` if it was good.
    pub error: Option<Arc<str>>,
}

/// What probes and reports of one backend have found.
#[derive(Debug)]
pub(super) struct Health {
    verdict: AtomicU8,
    ledger: Mutex<Ledger>,
    reports: Reports,
    slow_start: SlowStart,
    changes: Changes,
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

#[derive(Debug, Default)]
struct Ledger {
    /// Results in a row that are against the verdict.
    against: u32,
    last_probe: Option<LastProbe>,
}

impl Health {
    pub(super) fn new(changes: Changes) -> Self {
        Self {
            verdict: AtomicU8::new(UNKNOWN),
            ledger: Mutex::default(),
            reports: Reports::new(),
            slow_start: SlowStart::begin(),
            changes,
        }
    }

    /// Where the backend stands by the settings of its upstream.
    pub(super) fn standing(&self, settings: &config::Upstream) -> Standing {
        if settings.health.as_ref().is_some_and(|it| self.is_down(it)) {
            return Standing::Down;
        }
        match settings.ejection.is_some() && self.reports.is_ejected() {
            true => Standing::Ejected,
            false => Standing::Up,
        }
    }

    fn is_down(&self, settings: &config::Health) -> bool {
        let verdict = self.verdict.load(Ordering::Acquire);
        let up = verdict == UP || (verdict, settings.initial) == (UNKNOWN, config::Initial::Up);
        !up
    }

    /// How much of its weight counts for now, in per cent.
    pub(super) fn ramp(&self, settings: &config::Upstream) -> u32 {
        settings.slow_start.map_or(slow_start::WHOLE, |time| {
            self.slow_start.ramp(self.reports.returned(), time)
        })
    }

    /// Something has changed that the server does something about.
    pub(super) fn tell(&self) {
        self.changes.tell();
    }

    /// It is used again, from little on.
    pub(super) fn returns(&self) {
        self.slow_start.begin_again();
    }

    pub(super) fn went_well(&self, rule: &config::Ejection) {
        self.reports.went_well(rule);
    }

    /// Counts against the backend; whether that is enough to eject it.
    pub(super) fn went_badly(&self, rule: &config::Ejection, report: config::Report) -> bool {
        self.reports.went_badly(rule, report)
    }

    pub(super) fn eject(&self, rule: &config::Ejection, report: config::Report) {
        self.reports.eject(rule, report);
        self.changes.tell();
    }

    pub(super) fn ejected(&self) -> Option<Ejected> {
        self.reports.ejected()
    }

    pub(super) fn last_probe(&self) -> Option<LastProbe> {
        self.ledger().last_probe.clone()
    }

    /// Counts the result of a probe; `rise` or `fall` against the verdict in a
    /// row turn it. The very first good one decides alone: nothing speaks
    /// against it.
    pub(super) fn probed(&self, settings: &config::Health, error: Option<&ProbeError>) {
        let mut ledger = self.ledger();
        ledger.last_probe = Some(LastProbe {
            at: SystemTime::now(),
            error: error.map(|error| error.to_string().into()),
        });
        let verdict = self.verdict.load(Ordering::Acquire);
        let (turned, needed) = match (error, verdict) {
            (None, UNKNOWN) => (UP, 1),
            (None, DOWN) => (UP, settings.rise),
            (Some(_), UP | UNKNOWN) => (DOWN, settings.fall),
            _ => {
                ledger.against = 0;
                return;
            }
        };
        ledger.against += 1;
        if ledger.against < needed {
            return;
        }
        ledger.against = 0;
        if turned == UP && self.is_down(settings) {
            self.returns();
        }
        self.verdict.store(turned, Ordering::Release);
        drop(ledger);
        self.changes.tell();
    }

    /// Nobody probes any more.
    pub(super) fn forget_probes(&self) {
        let mut ledger = self.ledger();
        ledger.against = 0;
        ledger.last_probe = None;
        self.verdict.store(UNKNOWN, Ordering::Release);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every step leaves it whole, and none can panic.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
