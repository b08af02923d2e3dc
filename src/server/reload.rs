//! A config edit from files to effect: read, check, prepare, bind what is new,
//! commit, retire what is gone.
//!
//! All or nothing: until the commit nothing that serves has changed, and the
//! commit cannot fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::inherit::Inherited;
use super::listener::Probe;
use super::listeners::{Bound, Listeners};
use super::systemd::Manager;
use super::watch::Watcher;
use super::{Context, Setup, StartError, rlimit};
use crate::config::{self, Config, Diagnostic, Diagnostics, Loaded};
use crate::drain::Watch;
use crate::files::{self, Hashes};
use crate::logging::{Logging, Opened, Settings};
use crate::metrics::OfResult;
use crate::net::Limiter;
use crate::state::{Committed, Prepared, State, Warning, changes};
use crate::upstream::{LONGEST_COMPARISON, Outlines, impact};

/// What asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Only if the files really changed.
    Edit,
    /// In any case.
    Signal,
    /// In any case: a certificate that came too early is valid now.
    Date,
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
    attempted: (u64, Hashes),
    /// Those of the named files when the configuration in force was made.
    in_force: Hashes,
    /// What the last commit was foretold to do to live tunnels.
    impact: String,
}

impl Reloader {
    pub(super) fn new(setup: &Setup, manager: Manager, watcher: Watcher, watch: Watch) -> Self {
        let max_connections = rlimit::connections_for(setup.open_files);
        let context = Arc::new(Context {
            state: Arc::clone(&setup.state),
            limiter: Limiter::new(max_connections, None),
        });
        let data_plane = setup.data_plane.worker.clone();
        Self {
            path: setup.config.clone(),
            state: Arc::clone(&setup.state),
            logging: setup.logging.clone(),
            max_connections,
            manager,
            watcher,
            listeners: Listeners::new(data_plane, Arc::clone(&context), watch),
            context,
            attempted: (0, Hashes::new()),
            in_force: Hashes::new(),
            impact: String::new(),
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
        let config = loaded.result.map_err(StartError::Config)?;
        let prepared = self.state.prepare(config.clone(), loaded.hash);
        let bound = self.listeners.bind(&config, inherited);
        let committed = match (prepared, bound) {
            (Ok(prepared), Ok(bound)) => {
                let opened = self.open_log(&config).map_err(StartError::Bind)?;
                self.commit(prepared, bound, opened)
            }
            (Ok(_), Err(findings)) => return Err(StartError::Bind(findings)),
            (Err(mut findings), bound) => {
                findings.append(bound.err().unwrap_or_default());
                return Err(StartError::Config(findings));
            }
        };
        self.follow(committed);
        Ok(())
    }

    /// Looks at the files and, if they changed, puts them in force.
    pub(super) fn reload(&mut self, trigger: Trigger) {
        let before = self.attempted.clone();
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

    /// Files of the log have been moved away.
    pub(super) fn reopen_logs(&self) {
        self.logging.reopen();
    }

    pub(super) fn poll_files(&mut self) {
        self.watcher.poll();
    }

    /// No file changes when a certificate becomes valid.
    pub(super) fn look_at_dates(&mut self) {
        if self.state.certificate_is_due() {
            self.reload(Trigger::Date);
        }
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
        self.attempted = (loaded.hash, files::hashes(config.files.paths()));
        self.watcher.set(files, &loaded.directories);
    }

    fn apply(&mut self, config: Config, hash: u64) -> Result<Committed, Diagnostics> {
        let prepared = self.state.prepare(config.clone(), hash);
        // Also where that has failed, for what it finds: every mistake at once.
        match (prepared, self.listeners.bind(&config, Vec::new())) {
            (Ok(prepared), Ok(bound)) => {
                let opened = self.open_log(&config)?;
                Ok(self.commit(prepared, bound, opened))
            }
            (Ok(_), Err(findings)) => Err(findings),
            (Err(mut findings), bound) => {
                findings.append(bound.err().unwrap_or_default());
                Err(findings)
            }
        }
    }

    /// Opens the place of access lines, if it is another than before.
    fn open_log(&self, config: &Config) -> Result<Opened, Diagnostics> {
        let log = &config.log;
        self.logging.open(&Settings::from(log)).map_err(|error| {
            let message = format!("the access log cannot be opened: {error}");
            let mut findings = Diagnostics::default();
            findings.push(Diagnostic::new((*log.place).clone(), message));
            findings
        })
    }

    /// Cannot fail.
    fn commit(&mut self, prepared: Prepared, bound: Bound, opened: Opened) -> Committed {
        self.impact = foretold(&self.state, prepared.config());
        let committed = self.state.commit(prepared);
        let config = &committed.snapshot.config;
        self.logging.apply(&Settings::from(&config.log), opened);
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
        let mut all = vec![changes(&previous.config, &snapshot.config)];
        all.extend(
            renewed
                .iter()
                .map(|chain| format!("certificate {} loaded", chain.display())),
        );
        all.extend(
            self.changed_files()
                .iter()
                .map(|file| format!("{} changed", file.display())),
        );
        all.retain(|change| !change.is_empty());
        let changes = all.join("; ");
        self.in_force = self.attempted.1.clone();
        self.state
            .metrics
            .reloads
            .get(&OfResult { result: "ok" })
            .inc();
        tracing::info!(
            generation = snapshot.generation,
            config_hash = format!("{:016x}", snapshot.hash),
            changes = if changes.is_empty() { "none" } else { &changes },
            tunnels = Some(&self.impact).filter(|impact| !impact.is_empty()),
            "{}",
            if snapshot.generation == 1 {
                "config loaded"
            } else {
                "config reloaded"
            }
        );
        self.state.live.reloaded(true, snapshot.generation, changes);
    }

    /// The named files whose content is another than at the last commit.
    fn changed_files(&self) -> Vec<&Path> {
        let (_, now) = &self.attempted;
        let changed = now.iter().filter(|(file, hash)| {
            let before = self.in_force.get(*file);
            before.is_some_and(|before| before != *hash)
        });
        changed.map(|(file, _)| file.as_path()).collect()
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
            .get(&OfResult { result: "rejected" })
            .inc();
        tracing::error!(
            generation = self.state.snapshot().generation,
            findings = %findings,
            "config rejected"
        );
        let generation = self.state.snapshot().generation;
        self.state
            .live
            .reloaded(false, generation, findings.to_string());
    }
}

/// What a configuration will do to live tunnels, as one field of a log line:
/// looked at before it is in force.
fn foretold(state: &State, next: &Config) -> String {
    if state.registry.is_empty() {
        return String::new();
    }
    let now = state.snapshot();
    let next = Outlines::of(next);
    let end = Instant::now() + LONGEST_COMPARISON;
    let Some(all) = impact(&state.registry, &now.config, &now.upstreams, &next, end) else {
        return "not known: too many tunnels and routes to compare".to_owned();
    };
    let words = all.iter().map(|one| {
        let mut words = format!(
            "{} at {} of {}: {} of {} close, {} move",
            one.route, one.backend, one.upstream, one.closing, one.tunnels, one.moving
        );
        if one.may_move > 0 {
            words.push_str(&format!(", {} may move", one.may_move));
        }
        words
    });
    words.collect::<Vec<_>>().join("; ")
}
