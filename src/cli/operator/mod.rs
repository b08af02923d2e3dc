//! The commands for operators of a running longhaul: each asks at its admin
//! socket and prints the answer, as a table for people or as JSON.
//!
//! What may be asked and what comes of it is decided by `admin`; here nothing is.

pub mod args;
mod backends;
mod door;
mod progress;
mod table;
mod top;
mod tunnels;

use std::io::{Write, stdout};

use serde_json::{Map, Value};

use self::args::{PaceArguments, RebalanceArguments, StatusArguments};
use self::door::meant;

pub(super) use self::backends::backends;
pub(super) use self::door::{asked, door, door_of};
pub(super) use self::top::top;
pub(super) use self::tunnels::tunnels;

pub(super) fn rebalance(arguments: &RebalanceArguments) -> anyhow::Result<()> {
    let door = meant(&arguments.socket)?;
    let mut body = body(&arguments.pace);
    body.insert("upstream".to_owned(), arguments.upstream.as_str().into());
    if let Some(to) = arguments.to {
        body.insert("to".to_owned(), to.into());
    }
    let answer = asked(&door, door.post("/rebalance", &body.into()))?;
    if arguments.pace.json {
        return print(&answer);
    }
    let columns = ["name", "tunnels", "share", "closing", "stays"];
    out(&table::table(&answer["backends"], &columns))?;
    progress::closing(&door, &answer, !arguments.pace.no_wait)
}

pub(super) fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    let door = meant(&arguments.socket)?;
    let answer = asked(&door, door.get("/status"))?;
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
    if answer["acme"].as_array().is_some_and(|all| !all.is_empty()) {
        text.push('\n');
        let columns = ["name", "not_after_unix", "next_attempt_unix", "error"];
        text.push_str(&table::table(&answer["acme"], &columns));
    }
    for upstream in answer["upstreams"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\nupstream {}{}\n",
            table::word(&upstream["name"]),
            troubles(upstream)
        ));
        let columns = ["name", "address", "weight", "state", "health", "tunnels"];
        text.push_str(&table::table(&upstream["backends"], &columns));
    }
    out(&text)
}

/// What is wrong with an upstream as a whole.
fn troubles(upstream: &Value) -> String {
    let mut text = String::new();
    if upstream["panic"] == true {
        text.push_str(", in panic: every backend is used");
    }
    let discovery = &upstream["discovery"];
    if discovery["ok"] == false {
        let error = table::word(&discovery["error"]);
        text.push_str(&format!(", discovery failed: {error}"));
    }
    text
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

fn print(answer: &Value) -> anyhow::Result<()> {
    out(&format!("{answer:#}\n"))
}

fn out(text: &str) -> anyhow::Result<()> {
    Ok(stdout().lock().write_all(text.as_bytes())?)
}
