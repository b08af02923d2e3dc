//! How closes that were just asked for go on: one line, and for whoever waits at
//! a terminal how many are left until none is.

use std::io::{IsTerminal, Write, stderr};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::door::target;
use super::{asked, out, table::word};
use crate::admin::Door;

const LOOK: Duration = Duration::from_millis(500);

/// Says what the answer of a close says, and `waits` if somebody watches.
pub(super) fn closing(door: &Door, answer: &Value, waits: bool) -> anyhow::Result<()> {
    let (closing, seconds) = (word(&answer["closing"]), word(&answer["seconds"]));
    let verb = match answer["dry_run"].as_bool() {
        Some(true) => "would be",
        _ => "are",
    };
    out(&format!(
        "{closing} tunnels {verb} closed over {seconds} s\n"
    ))?;
    match answer["id"].as_u64() {
        Some(id) if waits => watch(|| left_of_closing(door, id)),
        _ => Ok(()),
    }
}

/// Waits for a backend that is being drained, if somebody watches.
pub(super) fn draining(door: &Door, upstream: &str, backend: &str) -> anyhow::Result<()> {
    watch(|| left_of_drain(door, upstream, backend))
}

/// `None` if longhaul has forgotten it.
fn left_of_closing(door: &Door, id: u64) -> anyhow::Result<Option<u64>> {
    let answer = asked(door, door.get("/closings"))?;
    let mut closings = answer["closings"].as_array().into_iter().flatten();
    let closing = closings.find(|closing| closing["id"] == id);
    Ok(closing.map(|closing| closing["left"].as_u64().unwrap_or(0)))
}

/// Tunnels, and what may become one; `None` if it is drained no longer.
fn left_of_drain(door: &Door, upstream: &str, name: &str) -> anyhow::Result<Option<u64>> {
    let query = [("upstream", upstream.to_owned())];
    let answer = asked(door, door.get(&target("/backends", &query)))?;
    let mut backends = answer["backends"].as_array().into_iter().flatten();
    let backend = backends.find(|it| it["name"] == name && it["state"] == "draining");
    let count = |one: &Value, key: &str| one[key].as_u64().unwrap_or(0);
    Ok(backend.map(|it| count(it, "tunnels") + count(it, "handshakes")))
}

/// At a terminal, until none is left or nobody knows of it any more.
fn watch(left: impl Fn() -> anyhow::Result<Option<u64>>) -> anyhow::Result<()> {
    let mut errors = stderr();
    if !errors.is_terminal() {
        return Ok(());
    }
    while let Some(left) = left()? {
        write!(errors, "\r\u{1b}[K{left} left")?;
        errors.flush()?;
        if left == 0 {
            break;
        }
        sleep(LOOK);
    }
    Ok(writeln!(errors)?)
}
