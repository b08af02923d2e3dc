//! A config edit from files to effect: read, check, prepare, bind what is new,
//! commit, retire what is gone.
//!
//! All or nothing: until the commit nothing that serves has changed, and the
//! commit cannot fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::Xxh3;

use super::bind::{Listening, SocketFile, bind};
use super::inherit::Inherited;
use super::listener::{AcceptLoop, Probe};
use super::stop::close_order;
use super::watch::Watcher;
use super::{Context, Setup, StartError, rlimit, systemd};
use crate::config::{self, Config, Diagnostic, Diagnostics, ListenAddress, Loaded};
use crate::drain::Watch;
use crate::logging::{Logging, Settings};
use crate::metrics::Reason;
use crate::net::Limiter;
use crate::state::{Committed, Prepared, State, Warning, changes};
use crate::tunnel::Cause;

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
    data_plane: Handle,
    logging: Logging,
    context: Arc<Context>,
    open_files: u64,
    watcher: Watcher,
    watch: Watch,
    /// By name.
    running: BTreeMap<String, Running>,
    /// The content of all files at the last attempt.
    attempted: u64,
}

/// A listener in service.
struct Running {
    configured: ListenAddress,
    socket: Listening,
    file: Option<SocketFile>,
    accept_loop: Option<AcceptLoop>,
}

impl Reloader {
    pub(super) fn new(setup: &Setup, watcher: Watcher, watch: Watch) -> Self {
        let context = Arc::new(Context {
            state: Arc::clone(&setup.state),
            limiter: Limiter::new(rlimit::connections_for(setup.open_files), None),
            tls_handshakes: Arc::new(Semaphore::new(0)),
        });
        Self {
            path: setup.config.clone(),
            state: Arc::clone(&setup.state),
            data_plane: setup.data_plane.clone(),
            logging: setup.logging.clone(),
            context,
            open_files: setup.open_files,
            watcher,
            watch,
            running: BTreeMap::new(),
            attempted: 0,
        }
    }
}

impl Reloader {
    /// Puts the first configuration in force.
    ///
    /// # Errors
    /// What is wrong with it, or which listener cannot be bound.
    pub(super) fn start(&mut self, inherited: Vec<Inherited>) -> Result<(), StartError> {
        let loaded = self.load();
        let (hash, result) = (loaded.hash, loaded.result);
        let prepared = result.and_then(|config| self.state.prepare(config, hash));
        let prepared = prepared.map_err(StartError::Config)?;
        let bound = self
            .bind(prepared.config(), inherited)
            .map_err(StartError::Bind)?;
        let committed = self.commit(prepared, bound);
        self.follow(committed);
        Ok(())
    }

    /// Looks at the files and, if they changed, puts them in force.
    pub(super) fn reload(&mut self, trigger: Trigger) {
        let before = self.attempted;
        let loaded = self.load();
        if trigger == Trigger::Edit && self.attempted == before {
            return;
        }
        systemd::reloading();
        let (hash, result) = (loaded.hash, loaded.result);
        match result.and_then(|config| self.apply(config, hash, trigger)) {
            Ok(Some(committed)) => self.follow(committed),
            Ok(None) => {}
            Err(findings) => self.reject(&findings),
        }
        systemd::ready(&self.status());
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
            self.running.len(),
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
        self.running
            .values()
            .filter_map(|running| running.accept_loop.as_ref())
            .map(|accept_loop| accept_loop.probe.clone())
            .collect()
    }

    /// Reads the config files, and watches whatever they now consist of.
    fn load(&mut self) -> Loaded {
        let loaded = config::load(&self.path);
        let mut files = loaded.files.clone();
        // A broken edit names no certificates: go on watching the last ones.
        let current = self.state.snapshot();
        let config = loaded.result.as_ref().unwrap_or(&current.config);
        files.extend(config.files.paths().map(ToOwned::to_owned));
        self.attempted = content_hash(loaded.hash, &files);
        self.watcher.set(files, &loaded.directories);
        loaded
    }

    /// `None` if all there was to take is a certificate that is no good.
    fn apply(
        &mut self,
        config: Config,
        hash: u64,
        trigger: Trigger,
    ) -> Result<Option<Committed>, Diagnostics> {
        let prepared = self.state.prepare(config, hash)?;
        if trigger == Trigger::Edit && prepared.is_what_is_served(&self.state) {
            self.warn(&prepared.warnings);
            return Ok(None);
        }
        let bound = self.bind(prepared.config(), Vec::new())?;
        Ok(Some(self.commit(prepared, bound)))
    }

    /// Binds what the new configuration has and the old one had not. On failure
    /// everything that was bound here is closed again.
    fn bind(
        &self,
        config: &Config,
        mut inherited: Vec<Inherited>,
    ) -> Result<Vec<(String, Running)>, Diagnostics> {
        let mut bound = Vec::new();
        let mut findings = Diagnostics::default();
        for (name, listener) in &config.listeners {
            let address = &listener.address;
            if self
                .running
                .get(name)
                .is_some_and(|running| running.configured == *address)
            {
                continue;
            }
            let passed = inherited
                .iter()
                .position(|one| one.name == *name || one.socket.is_at(address))
                .map(|index| inherited.swap_remove(index));
            let opened = match (passed, self.renamed(address)) {
                (Some(passed), _) => Ok((passed.socket, None)),
                (None, Some(socket)) => socket.map(|socket| (socket, None)),
                (None, None) => bind(address),
            };
            match opened {
                Ok((socket, file)) => {
                    let configured = address.clone();
                    let running = Running {
                        configured,
                        socket,
                        file,
                        accept_loop: None,
                    };
                    bound.push((name.clone(), running));
                }
                Err(error) => findings.push(Diagnostic::new(
                    (*listener.place).clone(),
                    format!("listener {name:?} cannot be bound to {address}: {error}"),
                )),
            }
        }
        for unused in inherited {
            tracing::warn!(
                name = unused.name,
                address = unused.socket.address(),
                "inherited socket fits no listener; closed"
            );
        }
        findings.into_result(bound)
    }

    /// The socket of a running listener at this address, which the edit must
    /// have given another name.
    fn renamed(&self, address: &ListenAddress) -> Option<std::io::Result<Listening>> {
        let at = |running: &&Running| running.socket.is_at(address);
        self.running
            .values()
            .find(at)
            .map(|running| running.socket.try_clone())
    }

    /// Cannot fail.
    fn commit(&mut self, prepared: Prepared, bound: Vec<(String, Running)>) -> Committed {
        let committed = self.state.commit(prepared);
        let config = &committed.snapshot.config;
        self.logging.apply(&Settings::from(&config.log));
        self.apply_limits(&committed.previous.config, config);
        let mut gone = std::mem::take(&mut self.running);
        for (name, listener) in &config.listeners {
            if let Some(running) = gone.remove(name) {
                if running.configured == listener.address {
                    self.running.insert(name.clone(), running);
                } else {
                    // A socket's file must not go with its old listener if the
                    // new one is at the same path.
                    gone.insert(name.clone(), running);
                }
            }
        }
        for (name, mut running) in bound {
            // Renamed: the socket is the old one's, and so is its file.
            let old = gone
                .values_mut()
                .find(|old| old.configured == running.configured);
            if let Some(old) = old.filter(|_| running.file.is_none()) {
                running.file = old.file.take();
            }
            running.accept_loop = self.accept(&name, &running.socket);
            self.running.insert(name, running);
        }
        drop(gone);
        let listeners = self.running.iter();
        self.state.live.set_listeners(
            listeners
                .map(|(name, running)| (name.clone(), running.socket.address()))
                .collect(),
        );
        committed
    }

    fn accept(&self, name: &str, socket: &Listening) -> Option<AcceptLoop> {
        let _runtime = self.data_plane.enter();
        let started = socket.try_clone().and_then(|socket| {
            AcceptLoop::start(
                name.into(),
                socket,
                Arc::clone(&self.context),
                self.watch.clone(),
            )
        });
        // Only out of descriptors or memory: the listener is bound and another
        // reload (SIGHUP) tries again.
        started
            .inspect_err(|error| tracing::error!(listener = name, %error, "listener cannot accept"))
            .ok()
    }

    fn apply_limits(&self, old: &Config, new: &Config) {
        let limits = &new.limits;
        let most = limits
            .max_connections
            .unwrap_or_else(|| rlimit::connections_for(self.open_files));
        self.context
            .limiter
            .set(most, limits.max_connections_per_address);
        // The empty configuration before the first has no permits.
        let had = match self.state.snapshot().generation {
            0 | 1 => 0,
            _ => old.limits.max_tls_handshakes,
        };
        if limits.max_tls_handshakes >= had {
            self.context
                .tls_handshakes
                .add_permits(limits.max_tls_handshakes - had);
        } else {
            // Those in flight keep theirs; a later acquire finds fewer.
            self.context
                .tls_handshakes
                .forget_permits(had - limits.max_tls_handshakes);
        }
    }

    /// What is done after a commit: says so, and drains whom it concerns.
    fn follow(&mut self, committed: Committed) {
        let Committed {
            snapshot,
            previous,
            to_drain,
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
            .get_or_create(&Reason { reason: "ok" })
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
        for backend in to_drain {
            let tunnels = self.state.registry.select(&|tunnel| {
                let labels = &tunnel.facts().labels;
                labels.upstream == *backend.upstream() && labels.backend == *backend.name()
            });
            tracing::info!(
                upstream = &**backend.upstream(),
                backend = &**backend.name(),
                tunnels = tunnels.len(),
                "draining a removed backend"
            );
            let order = close_order(&snapshot.config.drain, Cause::Removed);
            let (registry, window) = (
                Arc::clone(&self.state.registry),
                snapshot.config.drain.window,
            );
            tokio::spawn(async move { registry.close_paced(tunnels, order, window).await });
        }
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
            .get_or_create(&Reason { reason: "rejected" })
            .inc();
        tracing::error!(
            generation = self.state.snapshot().generation,
            findings = %findings,
            "config rejected"
        );
        self.state.live.reloaded(false, findings.to_string());
    }
}

/// A hash of the configuration's texts and of every file that it names.
fn content_hash(config: u64, files: &[PathBuf]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&config.to_le_bytes());
    for file in files {
        let content = fs::read(file).unwrap_or_default();
        hash.update(&(content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    hash.digest()
}

impl From<&config::Log> for Settings {
    fn from(log: &config::Log) -> Self {
        Self {
            json: log.format == config::LogFormat::Json,
            level: log.level.clone(),
        }
    }
}
