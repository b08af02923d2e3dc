//! `longhaul status`: what a running longhaul is and does, as `/status` has it.
//!
//! The text says all of it, and of `/live` how many tunnels stall; a line of its
//! own has what is wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::api::{asked, meant};
use super::args::StatusArguments;
use super::{out, print, table, table::word};
use crate::admin::Endpoint;

const PROXY_COUNTED: &str = "limits for each client count what looks like a proxy: name it in \
                             trusted_proxies and have it send X-Forwarded-For";

pub fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    let api = meant(&arguments.socket)?;
    let answer = asked(&api, api.get(Endpoint::Status.path()))?;
    if arguments.json {
        return print(&answer);
    }
    let live = asked(&api, api.get(Endpoint::Live.path()))?;
    let at = |live: &Value| Some(live["at_unix_ms"].as_u64()? / 1000);
    let now = at(&live).unwrap_or_else(|| unix(SystemTime::now()));
    out(&text(&answer, &live, now))
}

fn unix(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// `now` is the time at whoever answers, in seconds since 1970.
fn text(status: &Value, live: &Value, now: u64) -> String {
    let mut status = status.clone();
    status["stalled"] = add_stalled(&mut status["upstreams"], live).into();
    status["last_reload"] = reload(&status["last_reload"], now).into();
    let (who, role) = (
        word(&status["asked_by"]["who"]),
        word(&status["asked_by"]["role"]),
    );
    status["asked_by"] = format!("{who}, {role}").into();
    let mut text = table::record(
        &status,
        &[
            "version",
            "pid",
            "generation",
            "config_hash",
            "last_reload",
            "tunnels",
            "stalled",
            "connections",
            "admin_listen",
            "asked_by",
        ],
    );
    text.push('\n');
    text.push_str(&table::table(&status["listeners"], &["name", "address"]));
    if status["acme"].as_array().is_some_and(|all| !all.is_empty()) {
        text.push('\n');
        let columns = ["name", "not_after_unix", "next_attempt_unix", "error"];
        text.push_str(&table::table(&status["acme"], &columns));
    }
    for route in status["proxies_counted"].as_array().into_iter().flatten() {
        text.push_str(&format!("\nroute {}: {PROXY_COUNTED}\n", word(route)));
    }
    for upstream in status["upstreams"].as_array().into_iter().flatten() {
        text.push_str(&of_upstream(upstream, now));
    }
    text
}

/// What is in force, or what is wrong with what is not.
fn reload(last: &Value, now: u64) -> String {
    if last.is_null() {
        return "-".to_owned();
    }
    let result = match last["ok"].as_bool() {
        Some(true) => "ok",
        _ => "failed",
    };
    let (ago, message) = (ago(last, now), word(&last["message"]));
    format!("{result}, {ago} ago: {message}")
}

fn ago(event: &Value, now: u64) -> String {
    let at = event["at_unix"].as_u64().unwrap_or(now);
    match now.saturating_sub(at) {
        s @ 0..90 => format!("{s} s"),
        s @ 90..5400 => format!("{} min", s / 60),
        s @ 5400..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// To each backend, as `/live` has it; the sum.
fn add_stalled(upstreams: &mut Value, live: &Value) -> u64 {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of = |upstream: &str, backend: &str| -> Option<u64> {
        let upstreams = list(&live["upstreams"]);
        let upstream = upstreams.iter().find(|it| it["name"] == upstream)?;
        let backends = list(&upstream["backends"]);
        let backend = backends.iter().find(|it| it["name"] == backend)?;
        backend["stalled"].as_u64()
    };
    let mut sum = 0;
    for upstream in upstreams.as_array_mut().into_iter().flatten() {
        let name = word(&upstream["name"]);
        for backend in upstream["backends"].as_array_mut().into_iter().flatten() {
            let stalled = of(&name, backend["name"].as_str().unwrap_or_default());
            sum += stalled.unwrap_or(0);
            backend["stalled"] = stalled.into();
        }
    }
    sum
}

fn of_upstream(upstream: &Value, now: u64) -> String {
    let (name, troubles) = (word(&upstream["name"]), troubles(upstream, now));
    let mut text = format!("\nupstream {name}{troubles}\n");
    let mut backends = upstream["backends"].clone();
    for backend in backends.as_array_mut().into_iter().flatten() {
        if backend["state_by"] == "operator" {
            backend["state"] = format!("{} (operator)", word(&backend["state"])).into();
        }
    }
    let columns = [
        "name",
        "address",
        "weight",
        "state",
        "health",
        "tunnels",
        "stalled",
        "handshakes",
        "queued",
        "requests",
    ];
    text.push_str(&table::table(&backends, &columns));
    for backend in backends.as_array().into_iter().flatten() {
        text.push_str(&troubles_of(backend, now));
    }
    text
}

/// What is wrong with an upstream as a whole.
fn troubles(upstream: &Value, now: u64) -> String {
    let mut text = String::new();
    if upstream["panic"] == true {
        text.push_str(", in panic: every backend is used");
    }
    let discovery = &upstream["discovery"];
    if discovery["ok"] == false {
        let (ago, error) = (ago(discovery, now), word(&discovery["error"]));
        text.push_str(&format!(", discovery failed {ago} ago: {error}"));
    }
    text
}

/// A line for each thing that is wrong with a backend.
fn troubles_of(backend: &Value, now: u64) -> String {
    let name = word(&backend["name"]);
    let mut text = String::new();
    let probe = &backend["last_probe"];
    if probe["ok"] == false {
        let (ago, error) = (ago(probe, now), word(&probe["error"]));
        text.push_str(&format!("  {name}: the probe {ago} ago failed: {error}\n"));
    }
    let ejection = &backend["ejection"];
    if let Some(left) = ejection["seconds_left"].as_f64() {
        let (report, times) = (word(&ejection["report"]), word(&ejection["in_a_row"]));
        text.push_str(&format!(
            "  {name}: ejected for {left:.0} s more, by {report}, {times} in a row\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_says_what_is_wrong_and_since_when() {
        let backend = |name: &str| {
            json!({ "name": name, "address": "127.0.0.1:1", "weight": 1, "state": "active",
                "state_by": "config", "tunnels": 3, "handshakes": 1, "queued": 0, "requests": 9,
                "health": "up", "ejection": null, "last_probe": null })
        };
        let mut bad = backend("b");
        bad["state"] = "draining".into();
        bad["state_by"] = "operator".into();
        bad["ejection"] = json!({ "report": "connect", "in_a_row": 2, "seconds_left": 12.3 });
        bad["last_probe"] = json!({ "ok": false, "at_unix": 998, "error": "refused" });
        let discovery = json!({ "ok": false, "at_unix": 100, "error": "no answer" });
        let status = json!({
            "version": "1", "pid": 7, "generation": 2, "config_hash": "00ff", "tunnels": 6,
            "connections": 8, "admin_listen": "127.0.0.1:9000", "asked_by":
            { "who": "uid:0", "role": "operator" },
            "last_reload": { "ok": false, "at_unix": 400, "message": "x.toml:1:1: no" },
            "listeners": [{ "name": "main", "address": "127.0.0.1:80" }],
            "proxies_counted": ["chat"],
            "upstreams": [{ "name": "app", "panic": true, "discovery": discovery,
                "backends": [backend("a"), bad] }],
        });
        let live = json!({ "upstreams": [{ "name": "app", "backends":
            [{ "name": "a", "stalled": 2 }, { "name": "b", "stalled": 3 }] }] });
        let text = text(&status, &live, 1000);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "last_reload failed, 10 min ago: x.toml:1:1: no",
            "stalled 5",
            "admin_listen 127.0.0.1:9000",
            "asked_by uid:0, operator",
            "route chat: limits for each client count what looks like a proxy: name it in \
             trusted_proxies and have it send X-Forwarded-For",
            "upstream app, in panic: every backend is used, discovery failed 15 min ago: no answer",
            "a 127.0.0.1:1 1 active up 3 2 1 0 9",
            "b 127.0.0.1:1 1 draining (operator) up 3 3 1 0 9",
            "b: the probe 2 s ago failed: refused",
            "b: ejected for 12 s more, by connect, 2 in a row",
        ] {
            assert!(lines.iter().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
