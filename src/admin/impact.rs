//! `/impact`: what another configuration would do to the live tunnels.
//!
//! The body holds its routes and upstreams in outline, as `longhaul check
//! --against` makes them; nothing is changed.

use serde_json::{Value, json};

use super::desk::Desk;
use super::fields::Wrong;
use crate::upstream::{Outlines, impact as of_outlines};

pub(super) fn impact(desk: &Desk, body: &[u8]) -> Result<Value, Wrong> {
    let next: Outlines = serde_json::from_slice(body).map_err(|error| {
        Wrong::bad(format!(
            "the body is no table of routes and upstreams: {error}"
        ))
    })?;
    next.check().map_err(Wrong::bad)?;
    let (snapshot, registry) = (desk.state.snapshot(), &desk.state.registry);
    let impact = of_outlines(registry, &snapshot.config, &snapshot.upstreams, &next);
    Ok(json!({ "tunnels": registry.len(), "impact": impact }))
}
