//! `longhaul run`: the composition root. Builds the parts in order and runs the
//! server on them.
//!
//! The data plane's threads carry connections (a runtime) and tunnels (the
//! engine, and a runtime of their own where TLS is involved); the control plane,
//! this thread with a runtime of its own, carries signals, reloads and the admin API.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use super::WrongConfig;
use crate::admin::Admin;
use crate::config::{self, Config};
use crate::foreign;
use crate::logging::{Logging, Settings};
use crate::server::{self, DataPlane, Setup, StartError};
use crate::state::State;
use crate::tunnel::Engine;

/// How long the data plane's threads get to finish what they are in the middle
/// of, after everything has been told to end.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// Serves the configuration in the file until told to stop.
pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    let path = std::path::absolute(path).context("the current directory cannot be read")?;
    // Once before anything starts, for settings that are read at start only.
    let mut loaded = config::load(&path);
    let config = loaded.result.map_err(WrongConfig)?;
    loaded.result = Ok(config.clone());
    let (logging, _writing) = Logging::start(&Settings::from(&config.log))
        .with_context(|| format!("{}: the log cannot be started", *config.log.place))?;
    let open_files = server::raise_open_files();
    let state = Arc::new(State::new());
    let worker = runtime("worker", &config, || {})?;
    let relay = runtime("relay", &config, foreign::take_short_turns)?;
    state.registry.relay_in(relay.handle().clone());
    let engine = Engine::start(&state.registry, workers(&config))
        .context("the tunnel engine cannot start")?;
    let control_plane = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control plane cannot start")?;
    let setup = Setup {
        config: path,
        loaded,
        state: Arc::clone(&state),
        data_plane: DataPlane {
            worker: worker.handle().clone(),
            relay: relay.handle().clone(),
        },
        logging,
        open_files,
    };
    let served = control_plane.block_on(serve(&config, setup, state));
    end(control_plane, [worker, relay]);
    drop(engine);
    served
}

/// Ends all runtimes, whatever their threads wait for: dropping one would wait
/// for a lookup that hangs in the resolver, past every deadline.
fn end(control_plane: Runtime, data_plane: [Runtime; 2]) {
    control_plane.shutdown_background();
    let last = Instant::now() + LAST_STEPS;
    for runtime in data_plane {
        runtime.shutdown_timeout(last.saturating_duration_since(Instant::now()));
    }
}

async fn serve(config: &Config, setup: Setup, state: Arc<State>) -> anyhow::Result<()> {
    let served = match &config.admin {
        None => server::run(setup).await,
        Some(settings) => {
            let bound = Admin::bind(settings);
            let admin = bound.with_context(|| settings.place.to_string())?;
            tokio::select! {
                served = server::run(setup) => served,
                never = admin.serve(state) => match never {},
            }
        }
    };
    match served {
        Err(StartError::Config(findings)) => Err(WrongConfig(findings).into()),
        served => Ok(served?),
    }
}

/// One of the data plane's, whose threads begin with `start`.
fn runtime(name: &str, config: &Config, start: fn()) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers(config))
        .thread_name(name)
        .on_thread_start(start)
        .on_thread_park(foreign::give_back)
        .enable_all()
        .build()
        .context("the data plane cannot start")
}

/// The data plane's threads: so many for connections, as many for tunnels between
/// plain sockets, and as many for tunnels with TLS.
fn workers(config: &Config) -> usize {
    config
        .workers
        .or_else(|| available_parallelism().ok().map(NonZero::get))
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_lookup_that_hangs_does_not_keep_the_process() {
        let control_plane = Builder::new_current_thread().build().unwrap();
        let [data_plane, relays] = [(); 2].map(|()| Builder::new_multi_thread().build().unwrap());
        let hung: Vec<mpsc::Sender<()>> = [&control_plane, &data_plane]
            .map(|runtime| {
                let (release, released) = mpsc::channel();
                let (began, begun) = mpsc::channel();
                runtime.spawn_blocking(move || {
                    began.send(()).unwrap();
                    let _ = released.recv();
                });
                begun.recv().unwrap();
                release
            })
            .into();
        let (ended, has_ended) = mpsc::channel();
        thread::spawn(move || {
            end(control_plane, [data_plane, relays]);
            ended.send(()).unwrap();
        });
        let patience = Duration::from_secs(60);
        assert!(has_ended.recv_timeout(patience).is_ok(), "it waits");
        drop(hung);
    }
}
