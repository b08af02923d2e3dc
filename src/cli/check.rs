//! `longhaul check`: finds everything that a reload would find, and changes
//! nothing; with `--explain`, says what would become of one request.

use std::io::{Write, stdout};

use super::args::CheckArguments;
use super::{WrongConfig, explain};
use crate::config;
use crate::state::State;

pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<()> {
    let loaded = config::load(&arguments.file);
    let config = loaded.result.map_err(WrongConfig)?;
    let state = State::new();
    let prepared = state.prepare(config, loaded.hash).map_err(WrongConfig)?;
    let mut out = stdout().lock();
    if let Some(url) = &arguments.explain {
        out.write_all(explain::explain(arguments, url, &prepared)?.as_bytes())?;
        return Ok(());
    }
    for warning in &prepared.warnings {
        writeln!(out, "warning: {}", warning.message)?;
    }
    let config = prepared.config();
    writeln!(
        out,
        "{} is good: {} listeners, {} routes, {} upstreams; hash {:016x}",
        arguments.file.display(),
        config.listeners.len(),
        config.routes.len(),
        config.upstreams.len(),
        loaded.hash
    )?;
    Ok(())
}
