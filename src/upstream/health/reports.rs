//! What a backend's traffic says of it, and the ejection that follows.
//!
//! It counts and decides by the rule it is given; whether so many of an
//! upstream's backends may be ejected at once is `Upstream`'s to say.
//!
//! Invariant: whether a backend is ejected is read without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Ejection, Report};

/// The share of an ejection that is taken off at random, so that not every
/// longhaul sends its clients back at the same moment.
const JITTER: f64 = 0.1;

/// One backend's reports.
#[derive(Debug)]
pub(super) struct Reports {
    born: Instant,
    /// The end of the last ejection, in milliseconds since `born`; 0 is none.
    ejected_until: AtomicU64,
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    /// When `now` began.
    since: Instant,
    now: Counts,
    before: Counts,
    last: Option<Ejected>,
}

/// Of half a window each, so that the two together are never more than one.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    good: u32,
    bad: u32,
}

/// An ejection.
#[derive(Clone, Copy, Debug)]
pub struct Ejected {
    /// What was reported last.
    pub report: Report,
    /// How many in a row this is.
    pub in_a_row: u32,
    pub time: Duration,
    ends: Instant,
}

impl Reports {
    pub(super) fn new() -> Self {
        let born = Instant::now();
        Self {
            born,
            ejected_until: AtomicU64::new(0),
            ledger: Mutex::new(Ledger {
                since: born,
                now: Counts::default(),
                before: Counts::default(),
                last: None,
            }),
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Acquire);
        // Most never were, and need no clock.
        until != 0 && self.millis(Instant::now()) < until
    }

    /// When the last ejection ended, if one ever did.
    pub(super) fn returned(&self) -> Option<Instant> {
        let until = self.ejected_until.load(Ordering::Acquire);
        (until != 0).then(|| self.born + Duration::from_millis(until))
    }

    /// The ejection that lasts.
    pub(super) fn ejected(&self) -> Option<Ejected> {
        self.ledger().last.filter(|last| last.ends > Instant::now())
    }

    pub(super) fn went_well(&self, rule: &Ejection) {
        let mut ledger = self.ledger();
        ledger.turn(rule, Instant::now());
        ledger.now.good = ledger.now.good.saturating_add(1);
    }

    /// Counts against the backend; whether that is enough to eject it.
    pub(super) fn went_badly(&self, rule: &Ejection, report: Report) -> bool {
        if !rule.reports.contains(&report) || self.is_ejected() {
            return false;
        }
        let mut ledger = self.ledger();
        ledger.turn(rule, Instant::now());
        if matches!(report, Report::EarlyEnd | Report::Close1011) {
            // Its handshake was counted as good.
            ledger.now.good = ledger.now.good.saturating_sub(1);
        }
        ledger.now.bad = ledger.now.bad.saturating_add(1);
        let bad = ledger.now.bad.saturating_add(ledger.before.bad);
        let good = ledger.now.good.saturating_add(ledger.before.good);
        bad >= rule.failures && f64::from(bad) >= rule.share * (f64::from(bad) + f64::from(good))
    }

    /// Ejects: twice as long as the last time, if that is not long ago.
    pub(super) fn eject(&self, rule: &Ejection, report: Report) {
        let mut ledger = self.ledger();
        let now = Instant::now();
        let recent = ledger
            .last
            .filter(|last| now.saturating_duration_since(last.ends) < rule.max_time);
        let in_a_row = recent.map_or(1, |last| last.in_a_row.saturating_add(1));
        let doubled = 2_u32.saturating_pow(in_a_row - 1);
        let whole = rule.time.saturating_mul(doubled).min(rule.max_time);
        let time = whole.mul_f64(1.0 - JITTER * rand::random::<f64>());
        let ejected = Ejected {
            report,
            in_a_row,
            time,
            ends: now + time,
        };
        ledger.last = Some(ejected);
        (ledger.now, ledger.before) = Default::default();
        let until = self.millis(ejected.ends).max(1);
        self.ejected_until.store(until, Ordering::Release);
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every step leaves it whole, and none can panic.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Lets go of what is older than the window.
    fn turn(&mut self, rule: &Ejection, now: Instant) {
        let half = rule.window / 2;
        let passed = now.saturating_duration_since(self.since);
        if passed < half {
            return;
        }
        self.before = match passed < rule.window {
            true => self.now,
            false => Counts::default(),
        };
        self.now = Counts::default();
        self.since = now;
    }
}

impl Ejected {
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Ejection {
        Ejection {
            reports: vec![Report::Connect, Report::Status, Report::EarlyEnd],
            failures: 3,
            share: 0.5,
            window: Duration::from_secs(3600),
            early_end: Duration::from_secs(2),
            time: Duration::from_secs(10),
            max_time: Duration::from_secs(25),
            max_ejected: 1.0,
        }
    }

    #[test]
    fn it_takes_so_many_and_such_a_share() {
        let (reports, rule) = (Reports::new(), rule());
        for _ in 0..4 {
            reports.went_well(&rule);
        }
        let bad = |report| reports.went_badly(&rule, report);
        assert!(!bad(Report::Timeout), "it does not count here");
        assert!(!bad(Report::Connect) && !bad(Report::Connect));
        assert!(!bad(Report::Connect), "3 of 7");
        assert!(bad(Report::Status), "4 of 8");
    }

    #[test]
    fn an_early_end_takes_back_what_its_handshake_said() {
        let (reports, rule) = (Reports::new(), rule());
        let mut enough = false;
        for _ in 0..3 {
            assert!(!enough);
            reports.went_well(&rule);
            enough = reports.went_badly(&rule, Report::EarlyEnd);
        }
        assert!(enough);
    }

    #[test]
    fn each_ejection_lasts_twice_as_long_up_to_the_bound() {
        let (reports, rule) = (Reports::new(), rule());
        assert!(!reports.is_ejected() && reports.ejected().is_none());
        for seconds in [10.0, 20.0, 25.0, 25.0] {
            reports.eject(&rule, Report::Connect);
            let time = reports.ejected().unwrap().time.as_secs_f64();
            assert!((seconds * 0.9..=seconds).contains(&time), "{time}");
            assert!(reports.is_ejected());
            assert!(!reports.went_badly(&rule, Report::Connect));
        }
        assert_eq!(reports.ejected().unwrap().in_a_row, 4);
    }

    #[test]
    fn the_window_passes() {
        let mut ledger = Ledger {
            since: Instant::now(),
            now: Counts { good: 1, bad: 2 },
            before: Counts { good: 3, bad: 4 },
            last: None,
        };
        let (rule, start) = (rule(), ledger.since);
        ledger.turn(&rule, start + rule.window / 3);
        assert_eq!((ledger.now.bad, ledger.before.bad), (2, 4));
        ledger.turn(&rule, start + rule.window / 2);
        assert_eq!((ledger.now.bad, ledger.before.bad), (0, 2));
        ledger.turn(&rule, start + rule.window * 2);
        assert_eq!((ledger.now.bad, ledger.before.bad), (0, 0));
    }
}
