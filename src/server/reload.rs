//! A config edit from files to effect: read, check, prepare, bind what is new,
//! commit, retire what is gone.
//!
//! All or nothing: until the commit nothing that serves has changed, and the
//! commit cannot fail.

use std::path::PathBuf;
use std::sync::Arc;

use super::inherit::Inherited;
use super::listener::Probe;
use super::listeners::{Bound, Listeners};
use super::systemd::Manager;
use super::watch::Watcher;
use super::{Context, Setup, StartError, rlimit};
use crate::config::{self, Config, Diagnostics, Loaded};
use crate::drain::Watch;
use crate::logging::{Logging, Settings};
use crate::metrics::Outcome;
use crate::net::Limiter;
use crate::state::{Committed, Prepared, State, Warning, changes};
use crate::tls;

/// What asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Only if the files really changed.
    Edit,
    /// In any case.
    Signal,
}

/// The one place that changes the configuration in force.
pub(super) struct Reloader {
    path: PathBuf,
    state: Arc<State>,
    logging: Logging,
    context: Arc<Context>,
    /// The default, from the limit of open files.
    max_connections: usize,
    manager: Manager,
    watcher: Watcher,
    listeners: Listeners,
    /// The contents of the config files and of those that they name, at the
    /// last attempt.
    attempted: (u64, u64),
}

impl Reloader {
    pub(super) fn new(setup: &Setup, manager: Manager, watcher: Watcher, watch: Watch) -> Self {
        let max_connections = rlimit::connections_for(setup.open_files);
        let context = Arc::new(Context {
            state: Arc::clone(&setup.state),
            limiter: Limiter::new(max_connections, None),
        });
        let data_plane = setup.data_plane.clone();
        Self {
            path: setup.config.clone(),
            state: Arc::clone(&setup.state),
            logging: setup.logging.clone(),
            max_connections,
            manager,
            watcher,
            listeners: Listeners::new(data_plane, Arc::clone(&context), watch),
            context,
            attempted: (0, 0),
        }
    }

    /// Puts the first configuration in force.
    ///
    /// # Errors
    /// What is wrong with it, or which listener cannot be bound.
    pub(super) fn start(
        &mut self,
        loaded: Loaded,
        inherited: Vec<Inherited>,
    ) -> Result<(), StartError> {
        self.attend(&loaded);
        let (hash, result) = (loaded.hash, loaded.result);
        let prepared = result.and_then(|config| self.state.prepare(config, hash));
        let prepared = prepared.map_err(StartError::Config)?;
        let bound = self.listeners.bind(prepared.config(), inherited);
        let bound = bound.map_err(StartError::Bind)?;
        let committed = self.commit(prepared, bound);
        self.follow(committed);
        Ok(())
    }

    /// Looks at the files and, if they changed, puts them in force.
    pub(super) fn reload(&mut self, trigger: Trigger) {
        let before = self.attempted;
        let loaded = config::load(&self.path);
        self.attend(&loaded);
        if trigger == Trigger::Edit && self.attempted == before {
            return;
        }
        self.manager.reloading();
        let (hash, result) = (loaded.hash, loaded.result);
        match result.and_then(|config| self.apply(config, hash)) {
            Ok(committed) => self.follow(committed),
            Err(findings) => self.reject(&findings),
        }
        self.manager.ready(&self.status());
    }

    /// One line about the state, for the service manager.
    pub(super) fn status(&self) -> String {
        let facts = self.state.live.facts();
        let outcome = match facts.last_reload {
            Some(reload) if !reload.ok => "; the last edit was rejected",
            _ => "",
        };
        format!(
            "generation {}: {} listeners, {} tunnels{outcome}",
            self.state.snapshot().generation,
            self.listeners.len(),
            self.state.registry.len()
        )
    }

    pub(super) fn poll_files(&mut self) {
        self.watcher.poll();
    }

    pub(super) fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(&self.context.limiter)
    }

    pub(super) fn accept_loops(&self) -> Vec<Probe> {
        self.listeners.probes()
    }

    /// Notes what was read, and watches whatever the configuration now consists
    /// of.
    fn attend(&mut self, loaded: &Loaded) {
        let mut files = loaded.files.clone();
        // A broken edit names no certificates: go on watching the last ones.
        let current = self.state.snapshot();
        let config = loaded.result.as_ref().unwrap_or(&current.config);
        files.extend(config.files.paths().map(ToOwned::to_owned));
        // A change in one of these is not one of the configuration.
        files.extend(config.discovery_files().map(ToOwned::to_owned));
        self.attempted = (loaded.hash, tls::contents_hash(config.files.paths()));
        self.watcher.set(files, &loaded.directories);
    }

    fn apply(&mut self, config: Config, hash: u64) -> Result<Committed, Diagnostics> {
        let prepared = self.state.prepare(config, hash)?;
        let bound = self.listeners.bind(prepared.config(), Vec::new())?;
        Ok(self.commit(prepared, bound))
    }

    /// Cannot fail.
    fn commit(&mut self, prepared: Prepared, bound: Bound) -> Committed {
        let committed = self.state.commit(prepared);
        let config = &committed.snapshot.config;
        self.logging.apply(&Settings::from(&config.log));
        let limits = &config.limits;
        let most = limits.max_connections.unwrap_or(self.max_connections);
        let limiter = &self.context.limiter;
        limiter.set(most, limits.max_connections_per_address);
        self.listeners.put_in_force(config, bound);
        self.state.live.set_listeners(self.listeners.addresses());
        committed
    }

    /// What is done after a commit: says so.
    fn follow(&mut self, committed: Committed) {
        let Committed {
            snapshot,
            previous,
            warnings,
            renewed,
        } = committed;
        self.warn(&warnings);
        let mut changes = changes(&previous.config, &snapshot.config);
        for chain in renewed {
            let separator = if changes.is_empty() { "" } else { "; " };
            changes.push_str(&format!(
                "{separator}certificate {} loaded",
                chain.display()
            ));
        }
        self.state
            .metrics
            .reloads
            .get_or_create(&Outcome { result: "ok" })
            .inc();
        tracing::info!(
            generation = snapshot.generation,
            config_hash = format!("{:016x}", snapshot.hash),
            changes = if changes.is_empty() { "none" } else { &changes },
            "{}",
            if snapshot.generation == 1 {
                "config loaded"
            } else {
                "config reloaded"
            }
        );
        self.state.live.reloaded(true, changes);
    }

    fn warn(&self, warnings: &[Warning]) {
        for warning in warnings {
            if warning.is_certificate_failure {
                self.state.metrics.certificate_failures.inc();
            }
            tracing::warn!("{}", warning.message);
        }
    }

    fn reject(&self, findings: &Diagnostics) {
        self.state
            .metrics
            .reloads
            .get_or_create(&Outcome { result: "rejected" })
            .inc();
        tracing::error!(
            generation = self.state.snapshot().generation,
            findings = %findings,
            "config rejected"
        );
        self.state.live.reloaded(false, findings.to_string());
    }
}
