//! `GET /status`: the process, its configuration and its backends, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::state::{LastReload, State};
use crate::upstream::{LastProbe, Upstream};

pub(super) fn status(state: &State) -> Value {
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
        "upstreams": snapshot.upstreams.values().map(|u| upstream(u)).collect::<Vec<_>>(),
        "tunnels": state.registry.len(),
        "connections": state.metrics.connections_active.get(),
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

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn upstream(upstream: &Upstream) -> Value {
    let backends: Vec<Value> = upstream
        .backends()
        .iter()
        .zip(&upstream.settings().backends)
        .enumerate()
        .map(|(index, (backend, settings))| {
            json!({
                "name": **backend.name(),
                "address": settings.address.to_string(),
                "weight": settings.weight,
                "tunnels": backend.tunnels(),
                "requests": backend.requests(),
                "health": upstream.standing(index).label(),
                "last_probe": backend.last_probe().map(|probe| last_probe(&probe)),
            })
        })
        .collect();
    json!({
        "name": **upstream.name(),
        "panic": upstream.in_panic(),
        "backends": backends,
    })
}
