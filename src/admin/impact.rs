//! `/impact`: what another configuration would do to the live tunnels.
//!
//! The body holds the outline of each upstream, by name, as `longhaul check
//! --against` makes them; nothing is changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::desk::Desk;
use super::fields::Wrong;
use crate::config::BackendState;
use crate::upstream::{Outline, impact as of_outlines};

pub(super) fn impact(desk: &Desk, body: &[u8]) -> Result<Value, Wrong> {
    let next: BTreeMap<String, Outline> = serde_json::from_slice(body)
        .map_err(|error| Wrong::bad(format!("the body is no table of upstreams: {error}")))?;
    let backends = next.values().flat_map(|outline| &outline.backends);
    let mut states = backends.map(|backend| &backend.state);
    if let Some(word) = states.find(|word| BackendState::of_word(word).is_none()) {
        return Err(Wrong::bad(format!(
            "`state` is {word:?}; expected \"active\", \"draining\" or \"disabled\""
        )));
    }
    let snapshot = desk.state.snapshot();
    let impact = of_outlines(&desk.state.registry, &snapshot.upstreams, &next);
    Ok(json!({ "tunnels": desk.state.registry.len(), "impact": impact }))
}
