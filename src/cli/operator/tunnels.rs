//! `longhaul tunnels`: live tunnels listed, shown and closed.

use anyhow::bail;
use serde_json::{Value, json};

use super::api::{asked, meant, target};
use super::args::{
    CloseArguments, ListArguments, ShowArguments, TunnelsArguments, TunnelsCommand, Which,
};
use super::ask::AdminApi;
use super::{body, out, print, progress, table};
use crate::admin::Endpoint;

pub fn tunnels(arguments: &TunnelsArguments) -> anyhow::Result<()> {
    match &arguments.command {
        None => list_tunnels(&arguments.list),
        Some(TunnelsCommand::List(list)) => list_tunnels(list),
        Some(TunnelsCommand::Show(show)) => show_tunnel(show),
        Some(TunnelsCommand::Close(close)) => close_tunnels(close),
    }
}

fn list_tunnels(arguments: &ListArguments) -> anyhow::Result<()> {
    let api = meant(&arguments.socket)?;
    let answer = pages(&api, arguments)?;
    if arguments.json {
        return print(&answer);
    }
    let columns = [
        "id",
        "state",
        "client",
        "http",
        "route",
        "upstream",
        "backend",
        "key",
        "age_seconds",
        "idle_in_seconds",
        "idle_out_seconds",
        "bytes_in",
        "bytes_out",
    ];
    let mut text = table::table(&answer["tunnels"], &columns);
    text.push_str(&answer["tunnels"].as_array().map_or(0, Vec::len).to_string());
    if let Some(matching) = answer["matching"].as_u64() {
        text.push_str(&format!(" of {matching}"));
    }
    if let Some(next) = answer["next"].as_u64() {
        text.push_str(&format!("; the next: --after {next}"));
    }
    text.push('\n');
    out(&text)
}

/// One answer of as many pages as it takes: where few tunnels are meant among
/// many, a page may have fewer than were asked for.
fn pages(api: &AdminApi, arguments: &ListArguments) -> anyhow::Result<Value> {
    let mut after = arguments.after;
    let mut found = Vec::new();
    loop {
        let mut query = vec![
            ("after", after.to_string()),
            ("limit", (arguments.limit - found.len()).to_string()),
        ];
        query.extend(which(&arguments.which));
        query.extend(arguments.search.clone().map(|text| ("search", text)));
        let mut page = asked(api, api.get(&target(Endpoint::Tunnels, &query)))?;
        if let Value::Array(tunnels) = page["tunnels"].take() {
            found.extend(tunnels);
        }
        match page["next"].as_u64() {
            Some(next) if found.len() < arguments.limit => after = next,
            _ => {
                page["tunnels"] = found.into();
                return Ok(page);
            }
        }
    }
}

fn show_tunnel(arguments: &ShowArguments) -> anyhow::Result<()> {
    let api = meant(&arguments.socket)?;
    let answer = asked(&api, api.get(&Endpoint::of_tunnel(arguments.id)))?;
    if arguments.json {
        return print(&answer);
    }
    let keys: Vec<&str> = answer
        .as_object()
        .map(|fields| fields.keys().map(String::as_str).collect())
        .unwrap_or_default();
    out(&table::record(&answer, &keys))
}

fn close_tunnels(arguments: &CloseArguments) -> anyhow::Result<()> {
    let any = which(&arguments.which).next().is_some();
    if !any && arguments.id.is_none() && !arguments.all {
        bail!(
            "which tunnels? give an id, what they have in common (--client, --key, --listener, \
             --route, --upstream, --backend, --state), or --all"
        );
    }
    let api = meant(&arguments.socket)?;
    let mut body = body(&arguments.pace);
    for (key, value) in which(&arguments.which) {
        body.insert(key.to_owned(), value.into());
    }
    if let Some(id) = arguments.id {
        body.insert("id".to_owned(), id.into());
    }
    if arguments.all {
        body.insert("all".to_owned(), true.into());
    }
    if let Some(code) = &arguments.code {
        let number = code.parse::<u64>().map(Value::from);
        body.insert("code".to_owned(), number.unwrap_or_else(|_| json!(code)));
    }
    if let Some(reason) = &arguments.reason {
        body.insert("reason".to_owned(), reason.as_str().into());
    }
    let answer = asked(&api, api.post(Endpoint::CloseTunnels, &body.into()))?;
    if arguments.pace.json {
        return print(&answer);
    }
    progress::closing(&api, &answer, !arguments.pace.no_wait)
}

fn which(which: &Which) -> impl Iterator<Item = (&'static str, String)> {
    let words = [
        ("client", &which.client),
        ("key", &which.key),
        ("listener", &which.listener),
        ("route", &which.route),
        ("upstream", &which.upstream),
        ("backend", &which.backend),
        ("state", &which.state),
    ];
    words
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)))
}
