//! `GET /status`: the process, its configuration and its backends, as JSON.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::person::Person;
use crate::acme;
use crate::state::{LastReload, State};
use crate::upstream::{Ejected, LastAnswer, LastProbe, Listed, Standing, Upstream};

pub(super) fn status(state: &State, admin: Option<SocketAddr>, person: &Person) -> Value {
    let mut status = process(state, admin);
    status["asked_by"] = person.json();
    status
}

/// The same, whoever asks.
pub(super) fn process(state: &State, admin: Option<SocketAddr>) -> Value {
    let snapshot = state.snapshot();
    let facts = state.live.facts();
    let listeners: Vec<Value> = facts
        .listeners
        .iter()
        .map(|(name, address)| json!({ "name": name, "address": address }))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "generation": snapshot.generation,
        "config_hash": format!("{:016x}", snapshot.hash),
        "last_reload": facts.last_reload.as_ref().map(last_reload),
        "listeners": listeners,
        "admin_listen": admin,
        "acme": state.acme.standings().iter().map(certificate).collect::<Vec<_>>(),
        "proxies_counted": snapshot.proxies_counted(),
        "upstreams": snapshot.upstreams.values().map(|u| upstream(u)).collect::<Vec<_>>(),
        "tunnels": state.registry.len(),
        "connections": state.metrics.connections_active.get(),
    })
}

fn certificate((name, standing): (&String, &acme::Standing)) -> Value {
    json!({
        "name": name,
        "not_after_unix": standing.not_after.map(unix),
        "last_attempt_unix": standing.last_attempt.map(unix),
        "next_attempt_unix": standing.next_attempt.map(unix),
        "error": standing.error,
    })
}

fn last_reload(reload: &LastReload) -> Value {
    let at = unix(reload.at);
    json!({ "ok": reload.ok, "at_unix": at, "message": reload.message })
}

fn last_probe(probe: &LastProbe) -> Value {
    let at = unix(probe.at);
    json!({ "ok": probe.error.is_none(), "at_unix": at, "error": probe.error.as_deref() })
}

fn last_answer(answer: &LastAnswer) -> Value {
    let at = unix(answer.at);
    json!({ "ok": answer.error.is_none(), "at_unix": at, "error": answer.error.as_deref() })
}

fn ejection(ejected: &Ejected) -> Value {
    json!({
        "report": ejected.report.label(),
        "in_a_row": ejected.in_a_row,
        "seconds_left": ejected.left().as_secs_f64(),
    })
}

pub(super) fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn upstream(upstream: &Upstream) -> Value {
    let backends = upstream.backends();
    let list: Vec<Value> = backends
        .list()
        .iter()
        .enumerate()
        .map(|(index, listed)| backend(listed, backends.standing(index)))
        .collect();
    json!({
        "name": **upstream.name(),
        "panic": backends.in_panic(),
        "discovery": upstream.last_answer().map(|answer| last_answer(&answer)),
        "backends": list,
    })
}

pub(super) fn backend(listed: &Listed, standing: Standing) -> Value {
    let backend = listed.backend();
    json!({
        "name": **backend.name(),
        "address": backend.address().to_string(),
        "weight": listed.weight(),
        "state": listed.state().label(),
        "state_by": listed.state_by(),
        "tunnels": backend.tunnels(),
        "handshakes": backend.handshakes(),
        "queued": backend.queued(),
        "requests": backend.requests(),
        "health": standing.label(),
        "ejection": backend.ejected().map(|ejected| ejection(&ejected)),
        "last_probe": backend.last_probe().map(|probe| last_probe(&probe)),
    })
}
