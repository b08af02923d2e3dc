//! Sockets and the life of the process: accept, serve, reload, signals,
//! systemd, stop.
//!
//! [`run`] is the control plane: one task that waits for signals, edits and
//! ticks. Connections run on the data plane's runtime; the two share snapshots
//! and atomics, so that an operator's action never stalls a byte.

mod backend_drain;
mod bind;
mod connection;
mod entrance;
mod http1;
mod http2;
mod inherit;
mod introduction;
mod key_fetches;
mod lag;
mod listener;
mod listeners;
mod lost_lines;
mod notices;
mod overseer;
mod rebalancing;
mod reload;
mod rlimit;
mod stop;
mod systemd;
mod tuning;
mod watch;
mod would_bind;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

pub use rlimit::raise_open_files;
pub use would_bind::{Incumbent, Obstacles, would_bind};

use crate::acme::Keeper;
use crate::config::{Diagnostics, Loaded};
use crate::drain::{self, Stage};
use crate::logging::Logging;
use crate::net::Limiter;
use crate::otlp::Exporter;
use crate::state::State;
use key_fetches::KeyFetches;
use lag::Lag;
use lost_lines::Lost;
use overseer::Overseer;
use reload::Reloader;
use systemd::{Manager, Watchdog};
use watch::Watcher;

/// How often idle connections are purged and counts brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// What a server is started with.
pub struct Setup {
    pub config: PathBuf,
    /// What the file and its includes said at the start.
    pub loaded: Loaded,
    pub state: Arc<State>,
    pub data_plane: DataPlane,
    pub logging: Logging,
    /// The limit of open files, from which default limits are derived.
    pub open_files: u64,
}

/// The runtimes of the data plane.
#[derive(Clone, Debug)]
pub struct DataPlane {
    /// Connections run here.
    pub worker: Handle,
    /// Tunnels between sockets of which one has TLS are relayed here.
    pub relay: Handle,
}

impl DataPlane {
    /// Each by the name of its threads.
    fn each(&self) -> [(&'static str, &Handle); 2] {
        [("worker", &self.worker), ("relay", &self.relay)]
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration is wrong\n{0}")]
    Config(Diagnostics),
    #[error("{0}")]
    Bind(Diagnostics),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What every connection needs, whichever listener it came from.
#[derive(Debug)]
struct Context {
    state: Arc<State>,
    limiter: Arc<Limiter>,
}

/// Serves until a signal says stop and everything has ended.
///
/// # Errors
/// If it cannot start; afterwards it has nothing to fail with.
pub async fn run(setup: Setup) -> Result<(), StartError> {
    let (drain, watch) = drain::channel();
    let mut signals = Signals::new()?;
    let (watcher, mut edits) = Watcher::new(setup.config.clone());
    let manager = Manager::start();
    let mut reloader = Reloader::new(&setup, manager.clone(), watcher, watch);
    reloader.start(setup.loaded, inherit::sockets())?;
    let state = Arc::clone(&setup.state);
    let sweep = Arc::clone(&state.registry).sweep_forever();
    setup.data_plane.relay.spawn(sweep);
    let mut overseer = Overseer::new(&state);
    let mut keeper = Keeper::new(&state.acme, &state.metrics);
    let mut key_fetches = KeyFetches::default();
    let exporter = Exporter::start(Arc::clone(&state.spans), Arc::clone(&state.metrics));
    manager.ready(&reloader.status());
    let mut tick = interval(TICK);
    let data_plane = setup.data_plane.clone();
    let mut watchdog = Watchdog::new(manager.clone(), data_plane, Arc::clone(&state.registry));
    let mut lag = Lag::new(&setup.data_plane, &state);
    let mut lost = Lost::new(setup.logging.clone(), Arc::clone(&state.metrics));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        overseer.look();
        follow(&mut keeper, &mut key_fetches, &exporter, &state);
        tokio::select! {
            () = state.roster.changes().changed() => {}
            signal = signals.next() => match signal {
                Asked::Reload => {
                    reloader.reload(reload::Trigger::Signal);
                    overseer.look_at_files();
                }
                Asked::Reopen => reloader.reopen_logs(),
                Asked::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    break;
                }
            },
            () = edits.settled() => {
                reloader.reload(reload::Trigger::Edit);
                overseer.look_at_files();
            }
            due = tick.tick() => {
                lag.look(due.into_std());
                lost.look(due.into_std());
                tidy(&state, &reloader);
                reloader.poll_files();
                reloader.look_at_dates();
            }
            () = watchdog.due() => watchdog.beat(reloader.accept_loops()),
        }
    }
    let settings = state.snapshot().config.drain;
    let limiter = reloader.limiter();
    drain.enter(Stage::Draining);
    // Whoever takes over orders certificates from now on.
    drop((overseer, keeper));
    // The listening sockets and their files go with it.
    drop(reloader);
    stop::stop(stop::Stop {
        drain,
        settings,
        registry: &state.registry,
        signals: &mut signals,
        manager: &manager,
        watchdog: &mut watchdog,
        limiter,
    })
    .await;
    tokio::join!(exporter.end(), manager.end());
    Ok(())
}

/// What is due each second.
fn tidy(state: &State, reloader: &Reloader) {
    state.purge_idle();
    state.tidy_metrics();
    let open = i64::try_from(reloader.limiter().open()).unwrap_or(i64::MAX);
    state.metrics.connections_active.set(open);
}

/// Has the certificates kept, the keys fetched and the spans exported that the
/// configuration in force asks for.
fn follow(
    keeper: &mut Keeper,
    key_fetches: &mut KeyFetches,
    exporter: &Exporter,
    state: &Arc<State>,
) {
    key_fetches.look(state);
    let snapshot = state.snapshot();
    exporter.follow(snapshot.collector.as_ref());
    keeper.follow(&snapshot.config, snapshot.generation);
}

/// The signals that longhaul obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user.recv() => Asked::Reopen,
        }
    }
}

/// What a signal asks for.
enum Asked {
    Reload,
    /// Goes on in new log files.
    Reopen,
    Stop(&'static str),
}
