//! `longhaul check`: finds everything that a reload would find, and changes
//! nothing; with `--explain`, says what would become of one request.

use std::io::{Write, stdout};

use super::args::CheckArguments;
use super::{WrongConfig, explain};
use crate::config::{self, Config, Diagnostic, Diagnostics, Place};
use crate::server;
use crate::state::State;

pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<()> {
    let loaded = config::load(&arguments.file);
    let config = loaded.result.map_err(WrongConfig)?;
    let state = State::new();
    let prepared = state.prepare(config, loaded.hash).map_err(WrongConfig)?;
    bindable(prepared.config())?;
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
        "{} is good: {}, {}, {}; hash {:016x}",
        arguments.file.display(),
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.upstreams.len(), "upstream"),
        loaded.hash
    )?;
    Ok(())
}

/// What would keep the listeners and the admin socket from being bound here.
fn bindable(config: &Config) -> Result<(), WrongConfig> {
    let mut findings = Diagnostics::default();
    for (name, listener) in &config.listeners {
        if let Err(error) = server::could_bind(&listener.address) {
            let (place, address) = ((*listener.place).clone(), &listener.address);
            let message = format!("listener {name:?} cannot be bound to {address}: {error}");
            findings.push(Diagnostic::new(place, message));
        }
    }
    if let Some(admin) = &config.admin
        && let Err(error) = server::could_hold_socket(&admin.socket)
    {
        let socket = admin.socket.display();
        let message = format!("the admin socket {socket} cannot be bound: {error}");
        findings.push(Diagnostic::new(Place::default(), message));
    }
    findings.into_result(()).map_err(WrongConfig)
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
