//! What the keeper has to do: which name is due, which order is under way, and
//! what came of it.
//!
//! It sleeps nowhere; the keeper does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::{AbortHandle, JoinSet};

use super::AcmeError;
use super::attempt::Common;
use super::ca::NotBefore;
use super::desk::{Desk, Standing};
use super::schedule::{back_off, renewal};
use super::storage::{Storage, Turn};
use super::wanted::Wanted;
use crate::config::Acme;
use crate::metrics::{Metrics, OfResult};
use crate::tls::Pair;

/// Orders under way at once.
const AT_ONCE: usize = 4;
/// How often a process without the turn looks what the other has stored.
const LOOK: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct Work {
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    common: Option<Common>,
    names: BTreeMap<String, Entry>,
    turn: Option<Turn>,
    /// Whether it has been said that another process has the turn.
    told_of_turn: bool,
    running: JoinSet<(String, Result<Arc<Pair>, AcmeError>)>,
    /// In a row, of what is no name's fault, and until when all wait for it.
    failures: u32,
    closed_until: SystemTime,
}

/// One name.
struct Entry {
    standing: Standing,
    failures: u32,
    due: SystemTime,
    under_way: Option<UnderWay>,
}

/// An order, which ends with the name that it is for.
struct UnderWay(AbortHandle);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.abort();
    }
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
            closed_until: SystemTime::UNIX_EPOCH,
        }
    }

    /// Takes over what a new configuration asks for. What it asks for as before
    /// goes on as it was.
    pub(super) fn adopt(&mut self, wanted: Option<Arc<Wanted>>, now: SystemTime) {
        let before = self.common.as_ref().map(|common| &common.wanted.acme);
        if before != wanted.as_ref().map(|wanted| &wanted.acme) {
            // Another CA, or other rules: nothing of what was holds.
            self.names.clear();
            self.running = JoinSet::new();
            self.turn = None;
            self.common = None;
            self.failures = 0;
            self.closed_until = SystemTime::UNIX_EPOCH;
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
    pub(super) fn begin(&mut self, now: SystemTime) {
        let Some(common) = self.common.clone() else {
            return;
        };
        if now < self.opens(&common) {
            return;
        }
        for name in self.due(now) {
            if self.running.len() >= AT_ONCE || now < self.closed_until {
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
            entry.standing.last_attempt = Some(now);
            let challenge = common.wanted.challenge(entry.failures);
            tracing::info!(
                name,
                challenge = challenge.label(),
                "ordering a certificate"
            );
            let order = self.running.spawn(common.clone().attempt(name, challenge));
            entry.under_way = Some(UnderWay(order));
        }
    }

    /// When there is something to begin, if nothing else happens before.
    pub(super) fn next(&self, now: SystemTime) -> SystemTime {
        let never = now + NEVER;
        let Some(common) = &self.common else {
            return never;
        };
        if self.running.len() >= AT_ONCE {
            return never;
        }
        let waiting = self
            .names
            .values()
            .filter(|entry| entry.under_way.is_none());
        let due = waiting.map(|entry| entry.due).min();
        due.map_or(never, |due| due.max(self.opens(common)))
    }

    /// Waits for an order to end, and settles it. Without one it waits forever.
    pub(super) async fn settled(&mut self) {
        match self.running.join_next().await {
            None => std::future::pending().await,
            Some(Ok((name, made))) => self.settle(&name, made, SystemTime::now()),
            // Its name has been taken away.
            Some(Err(error)) if error.is_cancelled() => {}
            Some(Err(_)) => self.bury(SystemTime::now()),
        }
    }

    /// Shows operators how things are.
    pub(super) fn publish(&self) {
        let opens = self.common.as_ref().map(|common| self.opens(common));
        let standing = |entry: &Entry| Standing {
            next_attempt: entry
                .under_way
                .is_none()
                .then(|| entry.due.max(opens.unwrap_or(entry.due))),
            ..entry.standing.clone()
        };
        let each = self.names.iter();
        let standings = each.map(|(name, entry)| (name.clone(), standing(entry)));
        self.desk.set_standings(standings.collect());
    }

    /// Until when all names wait: for what failed for all, and for what the CA
    /// has asked for.
    fn opens(&self, common: &Common) -> SystemTime {
        let asked = common.not_before.get().unwrap_or(SystemTime::UNIX_EPOCH);
        self.closed_until.max(asked)
    }

    fn due(&self, now: SystemTime) -> Vec<String> {
        let due = |(_, entry): &(&String, &Entry)| entry.under_way.is_none() && entry.due <= now;
        let each = self.names.iter().filter(due);
        each.map(|(name, _)| name.clone()).collect()
    }

    /// Whether this process is the one that orders.
    fn has_turn(&mut self, common: &Common, now: SystemTime) -> bool {
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
                    self.failed(&name, &error, now);
                }
                false
            }
        }
    }

    /// Another process orders: takes what it has stored.
    fn look(&mut self, common: &Common, now: SystemTime) {
        if !std::mem::replace(&mut self.told_of_turn, true) {
            tracing::info!("another process that has this storage orders the certificates");
        }
        self.closed_until = now + LOOK;
        for name in self.due(now) {
            if let Some(entry) = self.names.get_mut(&name) {
                entry.took_newer(&name, common, &self.desk, now);
            }
        }
    }

    fn settle(&mut self, name: &str, made: Result<Arc<Pair>, AcmeError>, now: SystemTime) {
        match made {
            Ok(pair) => self.succeeded(name, pair, now),
            Err(error) => self.failed(name, &error, now),
        }
    }

    fn succeeded(&mut self, name: &str, pair: Arc<Pair>, now: SystemTime) {
        self.count("ok");
        self.failures = 0;
        // An edit may have taken the name away.
        let (Some(common), Some(entry)) = (&self.common, self.names.get_mut(name)) else {
            return;
        };
        common.storage.forget_failures(name);
        let acme = &common.wanted.acme;
        entry.under_way = None;
        entry.has(&pair, acme);
        // A certificate that comes too late for its renewal is no reason to hurry.
        entry.due = entry.due.max(now + acme.retry_interval);
        let days = pair.remaining(now).as_secs_f64() / 86_400.0;
        self.desk.issued.put(name, pair);
        tracing::info!(name, days = format!("{days:.1}"), "certificate issued");
    }

    fn failed(&mut self, name: &str, error: &AcmeError, now: SystemTime) {
        self.count("failed");
        let (Some(common), Some(entry)) = (&self.common, self.names.get_mut(name)) else {
            return;
        };
        let acme = &common.wanted.acme;
        entry.under_way = None;
        entry.standing.last_attempt = Some(now);
        entry.standing.error = Some(error.to_string());
        if let AcmeError::Storage { .. } = error {
            // It may be another one when it is there again.
            self.turn = None;
        }
        if error.is_of_all() {
            // Others that were under way then count as the same failure.
            if now >= self.closed_until {
                self.failures = self.failures.saturating_add(1);
                self.closed_until = now + back_off(self.failures, acme, dice());
            }
        } else {
            self.failures = 0;
            entry.failures = entry.failures.saturating_add(1);
            entry.due = now + back_off(entry.failures, acme, dice());
            common.storage.keep_failures(name, entry.failures, now);
        }
        let retry = entry.due.max(self.opens(common));
        let seconds = retry.duration_since(now).unwrap_or_default();
        let in_service = self.desk.issued.get(name).is_some();
        tracing::warn!(
            name,
            %error,
            in_service,
            retry_seconds = seconds.as_secs(),
            "certificate not issued"
        );
    }

    /// An order has died and cannot say which: none under way may be forgotten.
    fn bury(&mut self, now: SystemTime) {
        self.running = JoinSet::new();
        let under_way = self
            .names
            .iter()
            .filter(|(_, entry)| entry.under_way.is_some());
        let names: Vec<String> = under_way.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.failed(&name, &AcmeError::Died, now);
        }
    }

    fn count(&self, result: &'static str) {
        self.metrics.acme_orders.get(&OfResult { result }).inc();
    }
}

impl Entry {
    /// As the storage has it.
    fn stored(name: &str, common: &Common, desk: &Desk, now: SystemTime) -> Self {
        let acme = &common.wanted.acme;
        let mut entry = Self {
            standing: Standing::default(),
            failures: 0,
            due: now,
            under_way: None,
        };
        match common.storage.load(name, now) {
            Ok(pair) => {
                entry.has(&pair, acme);
                desk.issued.put(name, pair);
            }
            Err(error) if common.storage.has(name) => {
                tracing::warn!(name, %error, "stored certificate cannot be used");
            }
            Err(_) => {}
        }
        if let Some((failures, at)) = common.storage.failures(name) {
            entry.failures = failures;
            // Of a clock that went wrong it is not believed.
            let wait = back_off(failures, acme, 0.0);
            entry.due = entry.due.max(at.min(now) + wait);
        }
        entry
    }

    /// Has this certificate from now on.
    fn has(&mut self, pair: &Pair, acme: &Acme) {
        self.failures = 0;
        self.standing.error = None;
        self.standing.not_after = Some(pair.not_after);
        self.due = renewal(pair.not_before, pair.not_after, acme.renewal, dice());
    }

    /// Whether the storage had a newer one, which is in service now.
    fn took_newer(&mut self, name: &str, common: &Common, desk: &Desk, now: SystemTime) -> bool {
        match common.storage.load(name, now) {
            Ok(pair) if Some(pair.not_after) > self.standing.not_after => {
                self.has(&pair, &common.wanted.acme);
                desk.issued.put(name, pair);
                tracing::info!(name, "certificate taken from the storage");
                self.due > now
            }
            _ => false,
        }
    }
}

fn dice() -> f64 {
    rand::random()
}
