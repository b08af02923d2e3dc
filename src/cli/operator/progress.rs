//! How closes that were just asked for go on: one line, and for whoever waits at
//! a terminal a bar that fills until none is left.

use std::io::{IsTerminal, Write, stderr};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::api::target;
use super::ask::AdminApi;
use super::{asked, out, table::word};
use crate::admin::Endpoint;

const LOOK: Duration = Duration::from_millis(500);
/// Columns of a bar.
const WIDTH: u64 = 30;

/// Says what the answer of a close says, and `waits` if somebody watches.
pub(super) fn closing(api: &AdminApi, answer: &Value, waits: bool) -> anyhow::Result<()> {
    let (closing, seconds) = (word(&answer["closing"]), word(&answer["seconds"]));
    let verb = match answer["dry_run"].as_bool() {
        Some(true) => "would be",
        _ => "are",
    };
    out(&format!(
        "{closing} tunnels {verb} closed over {seconds} s\n"
    ))?;
    match answer["id"].as_u64() {
        Some(id) if waits => {
            let all = answer["closing"].as_u64().unwrap_or(0);
            watch(all, || left_of_closing(api, id))
        }
        _ => Ok(()),
    }
}

/// Waits for a backend that is being drained of `all` its tunnels, if somebody watches.
pub(super) fn draining(
    api: &AdminApi,
    upstream: &str,
    backend: &str,
    all: u64,
) -> anyhow::Result<()> {
    watch(all, || left_of_drain(api, upstream, backend))
}

/// `None` if longhaul has forgotten it.
fn left_of_closing(api: &AdminApi, id: u64) -> anyhow::Result<Option<u64>> {
    let answer = asked(api, api.get(Endpoint::Closings.path()))?;
    let mut closings = answer["closings"].as_array().into_iter().flatten();
    let closing = closings.find(|closing| closing["id"] == id);
    Ok(closing.map(|closing| closing["left"].as_u64().unwrap_or(0)))
}

/// Tunnels, and what may become one; `None` if it is drained no longer.
fn left_of_drain(api: &AdminApi, upstream: &str, name: &str) -> anyhow::Result<Option<u64>> {
    let query = [("upstream", upstream.to_owned())];
    let answer = asked(api, api.get(&target(Endpoint::Backends, &query)))?;
    let mut backends = answer["backends"].as_array().into_iter().flatten();
    let backend = backends.find(|it| it["name"] == name && it["state"] == "draining");
    let count = |one: &Value, key: &str| one[key].as_u64().unwrap_or(0);
    Ok(backend.map(|it| count(it, "tunnels") + count(it, "handshakes")))
}

/// `[######....] 6 of 10 closed, 60 %`.
fn bar(left: u64, all: u64) -> String {
    let done = all.saturating_sub(left);
    // Only what is over is full.
    let of = |whole: u64| (done * whole).checked_div(all).unwrap_or(whole);
    let full = of(WIDTH);
    format!(
        "[{}{}] {done} of {all} closed, {} %",
        "#".repeat(full as usize),
        ".".repeat((WIDTH - full) as usize),
        of(100)
    )
}

/// Shows at a terminal what becomes of `all`.
fn watch(all: u64, left: impl Fn() -> anyhow::Result<Option<u64>>) -> anyhow::Result<()> {
    let mut errors = stderr();
    match errors.is_terminal() {
        true => show(&mut errors, all, left),
        false => Ok(()),
    }
}

/// Until none is left or nobody knows of it any more. The first may be gone before
/// there is a first look.
fn show(
    to: &mut impl Write,
    mut all: u64,
    left: impl Fn() -> anyhow::Result<Option<u64>>,
) -> anyhow::Result<()> {
    while let Some(left) = left()? {
        // Of a drain more may come, out of handshakes that were under way.
        all = all.max(left);
        write!(to, "\r\u{1b}[K{}", bar(left, all))?;
        to.flush()?;
        if left == 0 {
            break;
        }
        sleep(LOOK);
    }
    Ok(writeln!(to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_when_none_is_left_and_not_before() {
        let drawn = |left, all| bar(left, all).replace(&"#".repeat(10), "X");
        assert_eq!(
            drawn(12, 12),
            format!("[{}] 0 of 12 closed, 0 %", ".".repeat(30))
        );
        assert_eq!(
            drawn(8, 12),
            format!("[X{}] 4 of 12 closed, 33 %", ".".repeat(20))
        );
        assert_eq!(drawn(0, 12), "[XXX] 12 of 12 closed, 100 %");
        assert_eq!(drawn(0, 0), "[XXX] 0 of 0 closed, 100 %");
        let last = bar(1, 1_000_000);
        assert!(
            last.contains("#.] 999999 of 1000000 closed, 99 %"),
            "{last}"
        );
    }

    #[test]
    fn what_has_closed_before_the_first_look_is_counted() {
        let shown = |all, left| {
            let mut shown = Vec::new();
            show(&mut shown, all, || Ok(left)).unwrap();
            String::from_utf8(shown).unwrap()
        };
        let over = "\r\u{1b}[K[##############################]";
        assert_eq!(shown(6, Some(0)), format!("{over} 6 of 6 closed, 100 %\n"));
        assert_eq!(shown(0, Some(0)), format!("{over} 0 of 0 closed, 100 %\n"));
        assert_eq!(shown(6, None), "\n");
    }
}
