//! The commands for operators of a running longhaul: each asks at its admin
//! socket and prints the answer, as a table for people or as JSON.
//!
//! What may be asked and what comes of it is decided by `admin`; here nothing is.

pub mod args;
mod progress;
mod table;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use self::args::{
    BackendsArguments, BackendsCommand, BackendsListArguments, CloseArguments, ListArguments,
    PaceArguments, RebalanceArguments, SetArguments, ShowArguments, Socket, StatusArguments,
    TunnelsArguments, TunnelsCommand, Which,
};
use super::WrongConfig;
use crate::admin::{AskError, get, post};
use crate::config;

pub(super) fn tunnels(arguments: &TunnelsArguments) -> anyhow::Result<()> {
    match &arguments.command {
        None => list_tunnels(&arguments.list),
        Some(TunnelsCommand::List(list)) => list_tunnels(list),
        Some(TunnelsCommand::Show(show)) => show_tunnel(show),
        Some(TunnelsCommand::Close(close)) => close_tunnels(close),
    }
}

pub(super) fn backends(arguments: &BackendsArguments) -> anyhow::Result<()> {
    match &arguments.command {
        None => list_backends(&arguments.list),
        Some(BackendsCommand::List(list)) => list_backends(list),
        Some(BackendsCommand::Set(set)) => set_backend(set),
    }
}

pub(super) fn rebalance(arguments: &RebalanceArguments) -> anyhow::Result<()> {
    let socket = path(&arguments.socket)?;
    let mut body = body(&arguments.pace);
    body.insert("upstream".to_owned(), arguments.upstream.as_str().into());
    if let Some(to) = arguments.to {
        body.insert("to".to_owned(), to.into());
    }
    let answer = asked(&socket, post(&socket, "/rebalance", &body.into()))?;
    if arguments.pace.json {
        return print(&answer);
    }
    let columns = ["name", "tunnels", "share", "closing", "stays"];
    out(&table::table(&answer["backends"], &columns))?;
    progress::closing(&socket, &answer)
}

pub(super) fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    let socket = path(&arguments.socket)?;
    let answer = asked(&socket, get(&socket, "/status"))?;
    if arguments.json {
        return print(&answer);
    }
    let mut text = table::record(
        &answer,
        &[
            "version",
            "pid",
            "generation",
            "config_hash",
            "tunnels",
            "connections",
        ],
    );
    text.push_str(&table::record(&answer["last_reload"], &["ok", "message"]));
    text.push('\n');
    text.push_str(&table::table(&answer["listeners"], &["name", "address"]));
    for upstream in answer["upstreams"].as_array().into_iter().flatten() {
        text.push_str(&format!("\nupstream {}\n", table::word(&upstream["name"])));
        let columns = ["name", "address", "weight", "state", "health", "tunnels"];
        text.push_str(&table::table(&upstream["backends"], &columns));
    }
    out(&text)
}

fn list_tunnels(arguments: &ListArguments) -> anyhow::Result<()> {
    let socket = path(&arguments.socket)?;
    let answer = pages(&socket, arguments)?;
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
fn pages(socket: &Path, arguments: &ListArguments) -> anyhow::Result<Value> {
    let mut after = arguments.after;
    let mut found = Vec::new();
    loop {
        let mut query = vec![
            ("after", after.to_string()),
            ("limit", (arguments.limit - found.len()).to_string()),
        ];
        query.extend(which(&arguments.which));
        let mut page = asked(socket, get(socket, &target("/tunnels", &query)))?;
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
    let socket = path(&arguments.socket)?;
    let target = format!("/tunnels/{}", arguments.id);
    let answer = asked(&socket, get(&socket, &target))?;
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
    let socket = path(&arguments.socket)?;
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
    let answer = asked(&socket, post(&socket, "/tunnels/close", &body.into()))?;
    if arguments.pace.json {
        return print(&answer);
    }
    progress::closing(&socket, &answer)
}

fn list_backends(arguments: &BackendsListArguments) -> anyhow::Result<()> {
    let socket = path(&arguments.socket)?;
    let mut query = Vec::new();
    query.extend(arguments.upstream.clone().map(|name| ("upstream", name)));
    if arguments.overridden {
        query.push(("overridden", "true".to_owned()));
    }
    let answer = asked(&socket, get(&socket, &target("/backends", &query)))?;
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
    let socket = path(&arguments.socket)?;
    let body = json!({
        "upstream": arguments.upstream,
        "backend": arguments.backend,
        "state": arguments.state,
    });
    let answer = asked(&socket, post(&socket, "/backends", &body))?;
    if arguments.json {
        return print(&answer);
    }
    let (state, by) = (
        table::word(&answer["state"]),
        table::word(&answer["state_by"]),
    );
    let mut text = format!("{} is {state}, by {by}", arguments.backend);
    match answer["closing"].as_u64() {
        None | Some(0) => {}
        Some(closing) => {
            let seconds = table::word(&answer["seconds"]);
            text.push_str(&format!("; {closing} tunnels are closed over {seconds} s"));
        }
    }
    out(&(text + "\n"))
}

/// The socket that is meant.
pub(super) fn path(socket: &Socket) -> anyhow::Result<PathBuf> {
    match (&socket.admin, &socket.config) {
        (Some(admin), _) => Ok(admin.clone()),
        (None, Some(file)) => {
            let loaded = config::load(file).result.map_err(WrongConfig)?;
            let Some(admin) = loaded.admin else {
                bail!("{} has no [admin]", file.display());
            };
            Ok(admin.socket)
        }
        (None, None) => bail!("needed: --admin SOCKET or --config FILE"),
    }
}

/// Says which socket it was that did not answer.
pub(super) fn asked(socket: &Path, answer: Result<Value, AskError>) -> anyhow::Result<Value> {
    match answer {
        Err(error @ AskError::Io(_)) => {
            Err(error).with_context(|| format!("the admin socket {}", socket.display()))
        }
        answer => Ok(answer?),
    }
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

fn body(pace: &PaceArguments) -> Map<String, Value> {
    let mut body = Map::new();
    for (key, value) in [("rate", &pace.rate), ("window", &pace.window)] {
        if let Some(value) = value {
            body.insert(key.to_owned(), value.as_str().into());
        }
    }
    if pace.dry_run {
        body.insert("dry_run".to_owned(), true.into());
    }
    body
}

fn target(path: &str, query: &[(&str, String)]) -> String {
    let pair = |(key, value): &(&str, String)| format!("{key}={}", encoded(value));
    let pairs: Vec<String> = query.iter().map(pair).collect();
    format!("{path}?{}", pairs.join("&"))
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn print(answer: &Value) -> anyhow::Result<()> {
    out(&format!("{answer:#}\n"))
}

fn out(text: &str) -> anyhow::Result<()> {
    Ok(stdout().lock().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_arrives_as_it_was_typed() {
        let query = [("route", "a b/*?&=".to_owned()), ("limit", "7".to_owned())];
        assert_eq!(
            target("/tunnels", &query),
            "/tunnels?route=a%20b%2F%2A%3F%26%3D&limit=7"
        );
    }
}
