//! `longhaul backends`: backends listed, and their states set.

use serde_json::json;

use super::api::{asked, meant, target};
use super::args::{BackendsArguments, BackendsCommand, BackendsListArguments, SetArguments};
use super::{out, print, progress, table};
use crate::admin::Endpoint;

pub fn backends(arguments: &BackendsArguments) -> anyhow::Result<()> {
    match &arguments.command {
        None => list_backends(&arguments.list),
        Some(BackendsCommand::List(list)) => list_backends(list),
        Some(BackendsCommand::Set(set)) => set_backend(set),
    }
}

fn list_backends(arguments: &BackendsListArguments) -> anyhow::Result<()> {
    let api = meant(&arguments.socket)?;
    let mut query = Vec::new();
    query.extend(arguments.upstream.clone().map(|name| ("upstream", name)));
    if arguments.overridden {
        query.push(("overridden", "true".to_owned()));
    }
    let answer = asked(&api, api.get(&target(Endpoint::Backends, &query)))?;
    if arguments.json {
        return print(&answer);
    }
    let columns = [
        "upstream",
        "name",
        "address",
        "weight",
        "state",
        "state_by",
        "config_state",
        "health",
        "tunnels",
    ];
    out(&table::table(&answer["backends"], &columns))
}

fn set_backend(arguments: &SetArguments) -> anyhow::Result<()> {
    let api = meant(&arguments.socket)?;
    let body = json!({
        "upstream": arguments.upstream,
        "backend": arguments.backend,
        "state": arguments.state,
    });
    let answer = asked(&api, api.post(Endpoint::SetBackend, &body))?;
    if arguments.json {
        return print(&answer);
    }
    let (state, by) = (
        table::word(&answer["state"]),
        table::word(&answer["state_by"]),
    );
    let mut text = format!("{} is {state}, by {by}", arguments.backend);
    let closing = answer["closing"].as_u64().unwrap_or(0);
    if closing > 0 {
        let seconds = table::word(&answer["seconds"]);
        text.push_str(&format!("; {closing} tunnels are closed over {seconds} s"));
    }
    out(&(text + "\n"))?;
    match answer["state"].as_str() {
        Some("draining") if !arguments.no_wait => {
            progress::draining(&api, &arguments.upstream, &arguments.backend, closing)
        }
        _ => Ok(()),
    }
}
