//! One name: what it has, and when it may be asked for again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::attempt::Common;
use super::desk::{Desk, Standing};
use super::moment::Moment;
use super::schedule::{back_off, dice, renewal};
use crate::config::Acme;
use crate::tls::Pair;

pub(super) struct Entry {
    /// Of which [`Entry::standing`] makes the rest.
    standing: Standing,
    pub(super) failures: u32,
    /// Certificates in a row that were due for renewal as soon as they came.
    overdue: u32,
    /// When the last attempt's wait is over.
    waits_until: Instant,
    /// Of the certificate that the storage has; `None`: it has none.
    dates: Option<Dates>,
    pub(super) under_way: Option<UnderWay>,
}

struct Dates {
    renewal: SystemTime,
    not_after: SystemTime,
}

/// An order, which ends with the name that it is for.
pub(super) struct UnderWay(pub(super) AbortHandle);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Entry {
    /// As the storage has it.
    pub(super) fn stored(name: &str, common: &Common, desk: &Desk, now: Moment) -> Self {
        let acme = &common.wanted.acme;
        let mut entry = Self {
            standing: Standing::default(),
            failures: 0,
            overdue: 0,
            waits_until: now.instant,
            dates: None,
            under_way: None,
        };
        match common.storage.load(name, now.date) {
            Ok(pair) => entry.takes(name, pair, acme, desk, now),
            Err(error) if common.storage.has(name) => {
                tracing::warn!(name, %error, "stored certificate cannot be used");
            }
            Err(_) => {}
        }
        if let Some((failures, at)) = common.storage.failures(name) {
            entry.failures = failures;
            // Of a clock that went wrong it is not believed.
            let passed = now.date.duration_since(at).unwrap_or_default();
            let wait = back_off(failures, acme, 0.0).saturating_sub(passed);
            entry.waits_until = now.instant + wait;
        }
        entry
    }

    /// How long until it is to be ordered; zero: now.
    pub(super) fn wait(&self, now: Moment) -> Duration {
        let renewal = self.dates.as_ref().map(|dates| dates.renewal);
        let renewal = renewal.map(|at| now.until_date(at)).unwrap_or_default();
        now.until(self.waits_until).max(renewal)
    }

    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.under_way.is_none() && self.wait(now).is_zero()
    }

    pub(super) fn begins(&mut self, order: AbortHandle, now: Moment) {
        self.standing.last_attempt = Some(now.date);
        self.under_way = Some(UnderWay(order));
    }

    /// Its order has brought this.
    pub(super) fn gets(
        &mut self,
        name: &str,
        pair: Arc<Pair>,
        acme: &Acme,
        desk: &Desk,
        now: Moment,
    ) {
        self.under_way = None;
        self.takes(name, pair, acme, desk, now);
        // One that comes too late for its renewal is no reason to hurry: it may
        // be this clock that is wrong.
        let renewal = self.dates.as_ref().map(|dates| dates.renewal);
        self.overdue = match renewal.is_some_and(|at| at <= now.date) {
            true => self.overdue.saturating_add(1),
            false => 0,
        };
        self.waits_until = now.instant + back_off(self.overdue.max(1), acme, dice());
    }

    /// Its order has failed, by the name's own fault if `wait` says for how long
    /// it is put off.
    pub(super) fn fails(&mut self, error: String, wait: Option<Duration>, now: Moment) {
        self.under_way = None;
        self.standing.last_attempt = Some(now.date);
        self.standing.error = Some(error);
        if let Some(wait) = wait {
            self.waits_until = now.instant + wait;
        }
    }

    /// Whether the storage had a newer one that is not due, which is in service
    /// now.
    pub(super) fn took_newer(
        &mut self,
        name: &str,
        common: &Common,
        desk: &Desk,
        now: Moment,
    ) -> bool {
        let had = self.dates.as_ref().map(|dates| dates.not_after);
        match common.storage.load(name, now.date) {
            Ok(pair) if Some(pair.not_after) > had => {
                self.takes(name, pair, &common.wanted.acme, desk, now);
                tracing::info!(name, "certificate taken from the storage");
                !self.wait(now).is_zero()
            }
            _ => false,
        }
    }

    /// For operators; `wait` is the rest of its wait.
    pub(super) fn standing(
        &self,
        in_service: Option<&Pair>,
        wait: Duration,
        now: Moment,
    ) -> Standing {
        let next = now.date.checked_add(wait);
        Standing {
            not_after: in_service.map(|pair| pair.not_after),
            next_attempt: next.filter(|_| self.under_way.is_none()),
            ..self.standing.clone()
        }
    }

    /// Has this certificate from now on, in service.
    fn takes(&mut self, name: &str, pair: Arc<Pair>, acme: &Acme, desk: &Desk, now: Moment) {
        let early = now.until_date(pair.not_before);
        if !early.is_zero() {
            let seconds = early.as_secs();
            tracing::warn!(
                name,
                seconds,
                "certificate is not valid yet by this clock, which must be behind; it serves"
            );
        }
        self.failures = 0;
        self.standing.error = None;
        self.dates = Some(Dates {
            renewal: renewal(pair.not_before, pair.not_after, acme.renewal, dice()),
            not_after: pair.not_after,
        });
        desk.issued.put(name, pair);
    }
}
