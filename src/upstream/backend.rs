//! One backend: what it is, and what outlives the configurations that list it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::Upstream;
use super::admission::Gate;
use super::health::{Changes, Ejected, Health, LastProbe};
use super::http2::Http2Pool;
use super::lease::Counts;
use super::pool::Pool;
use super::state::States;
use crate::balance;
use crate::config::{self, BackendState};
use crate::net::Resolver;

/// One address of an upstream. Shared by every snapshot that lists it, and by
/// every lease.
#[derive(Debug)]
pub struct Backend {
    /// What is hashed.
    id: u64,
    /// What longhaul's own cookie says for it.
    cookie_value: String,
    upstream: Arc<str>,
    name: Arc<str>,
    address: config::BackendAddress,
    pub(super) counts: Counts,
    /// Of the last configuration that has limits.
    gate: Mutex<Option<Arc<Gate>>>,
    retired: AtomicBool,
    states: States,
    /// Of the configuration in force; what its reports are judged by.
    home: Mutex<Weak<Upstream>>,
    pub(super) health: Health,
    pub(super) pool: Pool,
    pub(super) http2: Http2Pool,
    pub(super) resolver: Resolver,
}

impl Backend {
    pub(super) fn new(upstream: &str, settings: &config::Backend, changes: Changes) -> Self {
        let id = balance::member_id(&settings.name);
        let group = balance::key_hash(upstream.as_bytes());
        let token = balance::key_hash(&(group ^ id).to_le_bytes());
        Self {
            id,
            cookie_value: format!("{token:016x}"),
            upstream: upstream.into(),
            name: settings.name.as_str().into(),
            address: settings.address.clone(),
            counts: Counts::default(),
            gate: Mutex::default(),
            retired: AtomicBool::new(false),
            states: States::new(settings.state),
            home: Mutex::default(),
            health: Health::new(changes),
            pool: Pool::default(),
            http2: Http2Pool::default(),
            resolver: Resolver::default(),
        }
    }

    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn address(&self) -> &config::BackendAddress {
        &self.address
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// What longhaul's own cookie says for it: opaque, and the same on every
    /// longhaul that has the same upstream.
    pub fn cookie_value(&self) -> &str {
        &self.cookie_value
    }

    /// Live tunnels and requests in flight.
    pub fn load(&self) -> u32 {
        self.counts.leases()
    }

    /// Live tunnels.
    pub fn tunnels(&self) -> u32 {
        self.counts.tunnels()
    }

    /// Handshakes that may become a tunnel.
    pub fn handshakes(&self) -> u32 {
        // The two are read one after the other.
        self.counts.places().saturating_sub(self.tunnels())
    }

    /// Whether it has any, or may get some by a handshake under way.
    pub fn has_tunnels(&self) -> bool {
        self.counts.places() > 0
    }

    /// Handshakes that wait to begin.
    pub fn queued(&self) -> usize {
        self.lock_gate().as_ref().map_or(0, |gate| gate.queued())
    }

    /// The gate with these settings: the one there is, or a new one.
    pub(super) fn gate(&self, settings: &config::Admission) -> Arc<Gate> {
        let mut gate = self.lock_gate();
        let same = gate.as_ref().filter(|gate| gate.settings() == settings);
        let found = same.map_or_else(|| Arc::new(Gate::new(*settings)), Arc::clone);
        *gate = Some(Arc::clone(&found));
        found
    }

    fn lock_gate(&self) -> MutexGuard<'_, Option<Arc<Gate>>> {
        // It is set whole, so it is whole after any panic.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leases ever given.
    pub fn requests(&self) -> u64 {
        self.counts.given()
    }

    /// The last probe of it; `None` if it is not probed.
    pub fn last_probe(&self) -> Option<LastProbe> {
        self.health.last_probe()
    }

    /// The ejection that lasts.
    pub fn ejected(&self) -> Option<Ejected> {
        self.health.ejected()
    }

    /// A client met nothing that speaks against it.
    pub fn went_well(&self) {
        if let Some(rule) = self
            .home()
            .as_ref()
            .and_then(|it| it.settings().ejection.as_ref())
        {
            self.health.went_well(rule);
        }
    }

    /// A client met what speaks against it; whether it was ejected by that.
    pub fn report(&self, report: config::Report) -> bool {
        let Some(upstream) = self.home() else {
            return false;
        };
        let Some(rule) = &upstream.settings().ejection else {
            return false;
        };
        self.health.went_badly(rule, report) && upstream.eject(self, rule, report)
    }

    /// How long a tunnel must last not to be an early end; `None` where nobody
    /// asks.
    pub fn early_end(&self) -> Option<Duration> {
        let upstream = self.home()?;
        let rule = upstream.settings().ejection.as_ref()?;
        Some(rule.early_end)
    }

    /// Its state by the configuration in force, or by what a person has said.
    pub(super) fn state(&self) -> BackendState {
        self.states.state()
    }

    /// What a person has said of its state, and not taken back.
    pub fn said(&self) -> Option<BackendState> {
        self.states.said()
    }

    /// Overrides the state that the file says, or takes that back. It holds over
    /// reloads, until the file says something else than it does now, or no longer
    /// has the backend.
    pub fn say(&self, state: Option<BackendState>) {
        self.change(|states| states.say(state));
        self.health.tell();
    }

    fn change(&self, change: impl FnOnce(&States)) {
        let before = self.states.state();
        change(&self.states);
        if before != BackendState::Active && self.states.state() == BackendState::Active {
            self.health.returns();
        }
    }

    /// Called when an upstream that comes into force has it, in this state.
    pub fn join(&self, upstream: &Arc<Upstream>, state: BackendState) {
        *self.lock_home() = Arc::downgrade(upstream);
        self.change(|states| states.file(state));
        self.retired.store(false, Ordering::Release);
    }

    /// Called when no upstream in force has it any more: it keeps no idle
    /// connections.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.pool.clear();
        self.http2.clear();
    }

    fn home(&self) -> Option<Arc<Upstream>> {
        self.lock_home().upgrade()
    }

    fn lock_home(&self) -> MutexGuard<'_, Weak<Upstream>> {
        // It is set whole, so it is whole after any panic.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Closes idle connections older than the limit.
    pub fn purge_idle(&self, timeout: Duration) {
        self.pool.purge(timeout);
        self.http2.purge(timeout);
    }
}
