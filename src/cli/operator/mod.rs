//! The commands for operators of a running longhaul: each asks at its admin
//! socket and prints the answer, as a table for people or as JSON.
//!
//! What may be asked and what comes of it is decided by `admin`; here nothing is.

mod api;
pub mod args;
mod ask;
mod backends;
mod progress;
mod status;
mod table;
mod top;
mod tunnels;

use std::io::{Write, stdout};

use serde_json::{Map, Value};

use self::api::meant;
use self::args::{PaceArguments, RebalanceArguments};
use crate::admin::Endpoint;

pub(super) use self::api::{api, api_of, asked};
pub(super) use self::ask::{AdminApi, Running};
pub(super) use self::backends::backends;
pub(super) use self::status::status;
pub(super) use self::top::top;
pub(super) use self::tunnels::tunnels;

pub(super) fn rebalance(arguments: &RebalanceArguments) -> anyhow::Result<()> {
    let api = meant(&arguments.socket)?;
    let mut body = body(&arguments.pace);
    body.insert("upstream".to_owned(), arguments.upstream.as_str().into());
    if let Some(to) = arguments.to {
        body.insert("to".to_owned(), to.into());
    }
    let answer = asked(&api, api.post(Endpoint::Rebalance, &body.into()))?;
    if arguments.pace.json {
        return print(&answer);
    }
    let columns = ["name", "tunnels", "share", "closing", "stays"];
    out(&table::table(&answer["backends"], &columns))?;
    progress::closing(&api, &answer, !arguments.pace.no_wait)
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
