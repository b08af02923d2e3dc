//! How closes that were just asked for go on: one line, and for whoever waits at
//! a terminal how many are left until none is.

use std::io::{IsTerminal, Write, stderr};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::{asked, out, table::word};
use crate::admin::Door;

const LOOK: Duration = Duration::from_millis(500);

/// Says what the answer of a close says, and waits if somebody watches.
pub(super) fn closing(door: &Door, answer: &Value) -> anyhow::Result<()> {
    let (closing, seconds) = (word(&answer["closing"]), word(&answer["seconds"]));
    let verb = match answer["dry_run"].as_bool() {
        Some(true) => "would be",
        _ => "are",
    };
    out(&format!(
        "{closing} tunnels {verb} closed over {seconds} s\n"
    ))?;
    match answer["id"].as_u64() {
        Some(id) if stderr().is_terminal() => watch(door, id),
        _ => Ok(()),
    }
}

/// Until none is left, or longhaul has forgotten it.
fn watch(door: &Door, id: u64) -> anyhow::Result<()> {
    let mut errors = stderr();
    loop {
        let answer = asked(door, door.get("/closings"))?;
        let mut closings = answer["closings"].as_array().into_iter().flatten();
        let Some(closing) = closings.find(|closing| closing["id"] == id) else {
            break;
        };
        let left = closing["left"].as_u64().unwrap_or(0);
        write!(errors, "\r\u{1b}[K{left} left")?;
        errors.flush()?;
        if left == 0 {
            break;
        }
        sleep(LOOK);
    }
    Ok(writeln!(errors)?)
}
