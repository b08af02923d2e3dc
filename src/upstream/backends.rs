//! The backends of an upstream at one moment, and the choice among them.
//!
//! Immutable: a request takes one and chooses from it to its end, whatever is
//! edited or discovered meanwhile. What changes by the second (health, load)
//! is the [`Backend`]'s own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::admission::{Full, Gate, Pass};
use super::{Backend, Lease, Roster, Standing};
use crate::balance::{self, Member};
use crate::config::{self, BackendState};

/// What one request chooses from.
#[derive(Debug)]
pub struct Backends {
    settings: Arc<config::Upstream>,
    listed: Vec<Listed>,
    /// What it was made of.
    source: Vec<config::Backend>,
    /// Whose turn it is; one count for all moments of an upstream.
    turn: Arc<AtomicU64>,
}

/// One backend and what the config, or whoever found it, says of it.
#[derive(Debug)]
pub struct Listed {
    backend: Arc<Backend>,
    weight: u32,
    /// What the config says.
    state: BackendState,
    /// Where handshakes go in; `None`: anybody may.
    gate: Option<Arc<Gate>>,
}

impl Backends {
    pub(super) fn new(
        settings: Arc<config::Upstream>,
        list: &[config::Backend],
        roster: &Roster,
        turn: Arc<AtomicU64>,
    ) -> Self {
        let listed = list.iter().map(|one| {
            let backend = roster.backend(&settings.name, one);
            let gate = settings.admission.as_ref().map(|it| backend.gate(it));
            Listed {
                backend,
                weight: one.weight,
                state: one.state,
                gate,
            }
        });
        Self {
            listed: listed.collect(),
            source: list.to_vec(),
            settings,
            turn,
        }
    }

    /// What it was made of.
    pub(super) fn source(&self) -> &[config::Backend] {
        &self.source
    }

    pub(super) fn turn(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.turn)
    }

    pub fn list(&self) -> &[Listed] {
        &self.listed
    }

    /// The backends themselves.
    pub fn each(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.listed.iter().map(Listed::backend)
    }

    pub fn get(&self, index: usize) -> &Arc<Backend> {
        &self.listed[index].backend
    }

    /// Where a backend is in the list.
    pub fn position(&self, backend: &Arc<Backend>) -> Option<usize> {
        self.each().position(|one| Arc::ptr_eq(one, backend))
    }

    /// The next backend to try for a request with this key, if it has one,
    /// leaving out those `tried` before.
    pub fn pick(&self, key: Option<u64>, tried: &[usize]) -> Option<usize> {
        let members = self.members();
        let panic = self.in_panic();
        let usable = |index| self.is_active(index) && (panic || self.is_up(index));
        let skip = |index: usize| tried.contains(&index) || !usable(index);
        if let (config::Balance::Hash, Some(key), Some(max_load)) =
            (self.settings.balance, key, self.settings.max_load)
        {
            return balance::bounded(key, &members, &skip, max_load);
        }
        let (balance, number) = match (self.settings.balance, key) {
            (config::Balance::Hash, Some(key)) => (config::Balance::Hash, key),
            // Nothing to hash: any backend will do, a less loaded one better.
            (config::Balance::Hash, None) => (config::Balance::Random, rand::random()),
            (config::Balance::RoundRobin, _) => (
                config::Balance::RoundRobin,
                self.turn.fetch_add(1, Ordering::Relaxed),
            ),
            (balance, _) => (balance, rand::random()),
        };
        balance::choose(balance, number, &members, &skip)
    }

    fn members(&self) -> Vec<Member> {
        let member = |one: &Listed| Member {
            id: one.backend.id(),
            weight: one.weight,
            ramp: one.backend.health.ramp(&self.settings),
            load: one.backend.load(),
        };
        self.listed.iter().map(member).collect()
    }

    /// Where keys belong at this moment, whatever the load.
    pub(super) fn homes(&self) -> impl Fn(u64) -> Option<usize> {
        let members = self.members();
        let usable: Vec<bool> = (0..members.len())
            .map(|index| self.may_use(index))
            .collect();
        move |key| balance::rendezvous(key, &members, &|index| !usable[index])
    }

    /// Where a backend stands by what this generation says of health.
    pub fn standing(&self, index: usize) -> Standing {
        self.get(index).health.standing(&self.settings)
    }

    /// Whether so few of the active backends are up that all of them are used.
    pub fn in_panic(&self) -> bool {
        let active = (0..self.listed.len()).filter(|index| self.is_active(*index));
        let (mut all, mut up) = (0, 0);
        for index in active {
            all += 1;
            up += usize::from(self.is_up(index));
        }
        all > 0 && (up == 0 || (up as f64) < self.settings.panic_threshold * all as f64)
    }

    /// Whether clients may be sent to a backend.
    pub fn may_use(&self, index: usize) -> bool {
        self.is_active(index) && (self.is_up(index) || self.in_panic())
    }

    fn is_active(&self, index: usize) -> bool {
        self.listed[index].state() == BackendState::Active
    }

    fn is_up(&self, index: usize) -> bool {
        self.standing(index) == Standing::Up
    }

    /// Counts a use of the backend until the lease is dropped.
    pub fn lease(&self, index: usize) -> Lease {
        Lease::new(Arc::clone(self.get(index)))
    }

    /// A [`lease`](Self::lease) for a handshake, and the right to begin it: at
    /// once, or when it is its turn.
    ///
    /// # Errors
    /// If the backend has all the tunnels it may have, or its turn does not
    /// come by the deadline, or it is taken out meanwhile.
    pub async fn admit(&self, index: usize, deadline: Instant) -> Result<(Lease, Pass), Full> {
        let Listed { backend, gate, .. } = &self.listed[index];
        let most = self.settings.admission.and_then(|it| it.max_tunnels);
        let lease = Lease::for_handshake(Arc::clone(backend), most).ok_or(Full)?;
        let pass = match gate {
            Some(gate) => gate.pass(deadline).await?,
            None => Pass::default(),
        };
        // It may have been taken out while this was waiting.
        match backend.state() {
            BackendState::Active => Ok((lease, pass)),
            BackendState::Draining | BackendState::Disabled => Err(Full),
        }
    }

    /// The backend that a cookie of longhaul's own names, if it is still here.
    pub fn of_cookie(&self, value: &str) -> Option<&Arc<Backend>> {
        self.each().find(|backend| backend.cookie_value() == value)
    }
}

impl Listed {
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// What a person has said, or else what the config says.
    pub fn state(&self) -> BackendState {
        self.backend.said().unwrap_or(self.state)
    }

    /// Whose word that is.
    pub fn state_by(&self) -> &'static str {
        match self.backend.said() {
            Some(_) => "operator",
            None => "config",
        }
    }

    /// What the config says.
    pub fn filed_state(&self) -> BackendState {
        self.state
    }
}
