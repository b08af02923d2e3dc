//! What the keeper has to do: which name is due, which order is under way, and
//! what came of it.
//!
//! It sleeps nowhere; the keeper does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::AcmeError;
use super::attempt::{Attempted, Common};
use super::ca::NotBefore;
use super::desk::Desk;
use super::entry::Entry;
use super::moment::Moment;
use super::schedule::{back_off, dice};
use super::storage::{Storage, Turn};
use super::wanted::Wanted;
use crate::metrics::{Metrics, Outcome};
use crate::tls::Pair;

/// Orders under way at once.
const AT_ONCE: usize = 4;
/// How often a process without the turn looks what the other has stored.
const LOOK: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::MAX;

pub(super) struct Work {
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    common: Option<Common>,
    names: BTreeMap<String, Entry>,
    turn: Option<Turn>,
    /// Whether it has been said that another process has the turn.
    told_of_turn: bool,
    running: JoinSet<Attempted>,
    /// In a row, of what is no name's fault, and until when all wait for it.
    failures: u32,
    closed_until: Option<Instant>,
}

impl Work {
    pub(super) fn new(desk: &Arc<Desk>, metrics: &Arc<Metrics>) -> Self {
        Self {
            desk: Arc::clone(desk),
            metrics: Arc::clone(metrics),
            common: None,
            names: BTreeMap::new(),
            turn: None,
            told_of_turn: false,
            running: JoinSet::new(),
            failures: 0,
            closed_until: None,
        }
    }

    /// Takes over what a new configuration asks for. What it asks for as before
    /// goes on as it was.
    pub(super) fn adopt(&mut self, wanted: Option<Arc<Wanted>>, now: Moment) {
        let before = self.common.as_ref().map(|common| &common.wanted.acme);
        if before != wanted.as_ref().map(|wanted| &wanted.acme) {
            // Another CA, or other rules: nothing of what was holds.
            self.names.clear();
            self.running = JoinSet::new();
            self.turn = None;
            self.common = None;
            self.failures = 0;
            self.closed_until = None;
        }
        let Some(wanted) = wanted else {
            self.desk.issued.retain(|_| false);
            return;
        };
        let is_wanted = |name: &str| wanted.names.contains(name);
        self.names.retain(|name, _| is_wanted(name));
        self.desk.issued.retain(is_wanted);
        let common = match self.common.take() {
            Some(common) => Common {
                wanted: Arc::clone(&wanted),
                ..common
            },
            None => Common {
                storage: Storage::of(&wanted.acme),
                wanted: Arc::clone(&wanted),
                desk: Arc::clone(&self.desk),
                account: Arc::default(),
                not_before: NotBefore::default(),
            },
        };
        for name in &wanted.names {
            let new = || Entry::stored(name, &common, &self.desk, now);
            self.names.entry(name.clone()).or_insert_with(new);
        }
        self.common = Some(common);
    }

    /// Begins what is due, as far as there is room.
    pub(super) fn begin(&mut self, now: Moment) {
        let Some(common) = self.common.clone() else {
            return;
        };
        for name in self.due(now) {
            // Each of them may have closed it.
            if self.running.len() >= AT_ONCE || !self.closed_for(now).is_zero() {
                return;
            }
            if !self.has_turn(&common, now) {
                return;
            }
            let Some(entry) = self.names.get_mut(&name) else {
                continue;
            };
            // Whoever had the turn before may just have renewed it.
            if entry.took_newer(&name, &common, &self.desk, now) {
                continue;
            }
            let challenge = common.wanted.challenge(entry.failures);
            tracing::info!(
                name,
                challenge = challenge.label(),
                "ordering a certificate"
            );
            let order = self.running.spawn(common.clone().attempt(name, challenge));
            entry.begins(order, now);
        }
    }

    /// How long until there is something to begin, if nothing else happens before.
    pub(super) fn wait(&self, now: Moment) -> Duration {
        if self.running.len() >= AT_ONCE {
            return NEVER;
        }
        let each = self.names.values();
        let waiting = each.filter(|entry| entry.under_way.is_none());
        let wait = waiting.map(|entry| entry.wait(now)).min();
        wait.map_or(NEVER, |wait| wait.max(self.closed_for(now)))
    }

    /// Waits for an order to end, and settles it. Without one it waits forever.
    pub(super) async fn settled(&mut self) {
        match self.running.join_next().await {
            None => std::future::pending().await,
            Some(Ok(attempted)) => self.settle(attempted, Moment::now()),
            // Its name has been taken away.
            Some(Err(error)) if error.is_cancelled() => {}
            Some(Err(_)) => self.bury(Moment::now()),
        }
    }

    /// Shows operators how things are.
    pub(super) fn publish(&self, now: Moment) {
        let closed = self.closed_for(now);
        let standing = |(name, entry): (&String, &Entry)| {
            let in_service = self.desk.issued.get(name);
            let wait = entry.wait(now).max(closed);
            let standing = entry.standing(in_service.as_deref(), wait, now);
            (name.clone(), standing)
        };
        self.desk
            .set_standings(self.names.iter().map(standing).collect());
    }

    /// How long all names wait: for what failed for all, and for what the CA has
    /// asked of all.
    fn closed_for(&self, now: Moment) -> Duration {
        let common = self.common.as_ref();
        let asked = common.and_then(|common| common.not_before.get());
        let opens = self.closed_until.max(asked);
        opens.map(|at| now.until(at)).unwrap_or_default()
    }

    fn due(&self, now: Moment) -> Vec<String> {
        let due = self.names.iter().filter(|(_, entry)| entry.is_due(now));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Whether this process is the one that orders.
    fn has_turn(&mut self, common: &Common, now: Moment) -> bool {
        if self.turn.is_some() {
            return true;
        }
        match common.storage.take_turn() {
            Ok(Some(turn)) => {
                self.turn = Some(turn);
                self.told_of_turn = false;
                true
            }
            Ok(None) => {
                self.look(common, now);
                false
            }
            Err(error) => {
                let error = AcmeError::storage(common.storage.dir())(error);
                for name in self.due(now) {
                    self.failed(&name, &error, None, now);
                }
                false
            }
        }
    }

    /// Another process orders: takes what it has stored.
    fn look(&mut self, common: &Common, now: Moment) {
        if !std::mem::replace(&mut self.told_of_turn, true) {
            tracing::info!("another process that has this storage orders the certificates");
        }
        self.closed_until = Some(now.instant + LOOK);
        for name in self.due(now) {
            if let Some(entry) = self.names.get_mut(&name) {
                entry.took_newer(&name, common, &self.desk, now);
            }
        }
    }

    fn settle(&mut self, attempted: Attempted, now: Moment) {
        let Attempted {
            name,
            made,
            not_before,
        } = attempted;
        match made {
            Ok(pair) => self.succeeded(&name, pair, now),
            Err(error) => self.failed(&name, &error, not_before, now),
        }
    }

    fn succeeded(&mut self, name: &str, pair: Arc<Pair>, now: Moment) {
        self.count("ok");
        self.failures = 0;
        // An edit may have taken the name away.
        let (Some(common), Some(entry)) = (&self.common, self.names.get_mut(name)) else {
            return;
        };
        common.storage.forget_failures(name);
        let days = pair.remaining(now.date).as_secs_f64() / 86_400.0;
        entry.gets(name, pair, &common.wanted.acme, &self.desk, now);
        tracing::info!(name, days = format!("{days:.1}"), "certificate issued");
    }

    /// `asked`: when the CA wants to hear of this name again.
    fn failed(&mut self, name: &str, error: &AcmeError, asked: Option<Instant>, now: Moment) {
        self.count("failed");
        if let AcmeError::Storage { .. } = error {
            // It may be another one when it is there again.
            self.turn = None;
        }
        let wait = match error.is_of_all() {
            true => {
                self.close(now);
                None
            }
            false => self.own_wait(name, asked, now),
        };
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        entry.fails(error.to_string(), wait, now);
        let retry = entry.wait(now).max(self.closed_for(now));
        let in_service = self.desk.issued.get(name).is_some();
        tracing::warn!(
            name,
            %error,
            in_service,
            retry_seconds = retry.as_secs(),
            "certificate not issued"
        );
    }

    /// Has all names wait for what is no name's fault.
    fn close(&mut self, now: Moment) {
        // Others that were under way then count as the same failure.
        let is_closed = self.closed_until.is_some_and(|at| now.instant < at);
        if let Some(common) = self.common.as_ref().filter(|_| !is_closed) {
            self.failures = self.failures.saturating_add(1);
            let wait = back_off(self.failures, &common.wanted.acme, dice());
            self.closed_until = Some(now.instant + wait);
        }
    }

    /// How long a name waits for what is its own fault, or its own limit at the CA.
    fn own_wait(&mut self, name: &str, asked: Option<Instant>, now: Moment) -> Option<Duration> {
        self.failures = 0;
        let (common, entry) = (self.common.as_ref()?, self.names.get_mut(name)?);
        entry.failures = entry.failures.saturating_add(1);
        let failures = entry.failures;
        common.storage.keep_failures(name, failures, now.date);
        let wait = back_off(failures, &common.wanted.acme, dice());
        let asked = asked.map(|at| now.until(at)).unwrap_or_default();
        Some(wait.max(asked))
    }

    /// An order has died and cannot say which: none under way may be forgotten.
    fn bury(&mut self, now: Moment) {
        self.running = JoinSet::new();
        let under_way = self
            .names
            .iter()
            .filter(|(_, entry)| entry.under_way.is_some());
        let names: Vec<String> = under_way.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.failed(&name, &AcmeError::Died, None, now);
        }
    }

    fn count(&self, result: &'static str) {
        self.metrics.acme_orders.get(&Outcome { result }).inc();
    }
}

#[cfg(test)]
mod tests;
