//! `longhaul run`: the composition root. Builds the parts in order and runs the
//! server on them.
//!
//! Two runtimes: the data plane's threads carry connections and tunnels; the
//! control plane, this thread, carries signals, reloads and the admin API.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use super::WrongConfig;
use crate::admin::Admin;
use crate::config::{self, Config};
use crate::logging::{Logging, Settings};
use crate::server::{self, Setup, StartError};
use crate::state::State;

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
    let (logging, _writer) = Logging::start(&Settings::from(&config.log))?;
    let open_files = server::raise_open_files();
    let state = Arc::new(State::new());
    let data_plane = data_plane(&config)?;
    let control_plane = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control plane cannot start")?;
    let setup = Setup {
        config: path,
        loaded,
        state: Arc::clone(&state),
        data_plane: data_plane.handle().clone(),
        logging,
        open_files,
    };
    let served = control_plane.block_on(serve(&config, setup, state));
    data_plane.shutdown_timeout(LAST_STEPS);
    served
}

async fn serve(config: &Config, setup: Setup, state: Arc<State>) -> anyhow::Result<()> {
    let served = match &config.admin {
        None => server::run(setup).await,
        Some(settings) => {
            let admin = Admin::bind(settings).with_context(|| {
                format!(
                    "the admin socket {} cannot be bound",
                    settings.socket.display()
                )
            })?;
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

fn data_plane(config: &Config) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(workers) = config.workers {
        builder.worker_threads(workers);
    }
    builder
        .thread_name("worker")
        .enable_all()
        .build()
        .context("the data plane cannot start")
}
