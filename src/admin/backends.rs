//! `/backends`: which state each has and by whose word, and a person's word.

use serde_json::{Value, json};

use super::desk::Desk;
use super::fields::{Fields, Wrong};
use super::status;
use crate::config::BackendState;

const STATES: &str = "\"active\", \"draining\", \"disabled\", or \"config\" to take a word back";

pub(super) fn list(desk: &Desk, mut fields: Fields) -> Result<Value, Wrong> {
    let wanted = fields.text("upstream")?;
    let overridden = fields.flag("overridden")?;
    fields.finish()?;
    let snapshot = desk.state.snapshot();
    if let Some(name) = wanted
        .as_ref()
        .filter(|it| !snapshot.upstreams.contains_key(*it))
    {
        return Err(Wrong::missing(format!("there is no upstream `{name}`")));
    }
    let mut list = Vec::new();
    for (name, upstream) in &snapshot.upstreams {
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let backends = upstream.backends();
        for (index, listed) in backends.list().iter().enumerate() {
            if overridden && listed.backend().said().is_none() {
                continue;
            }
            let mut one = status::backend(listed, backends.standing(index));
            one["upstream"] = name.as_str().into();
            one["config_state"] = listed.filed_state().label().into();
            list.push(one);
        }
    }
    Ok(json!({ "backends": list }))
}

pub(super) fn set(desk: &Desk, mut fields: Fields) -> Result<Value, Wrong> {
    let upstream = fields.text("upstream")?;
    let backend = fields.text("backend")?;
    let state = fields.word("state", STATES, |word| match word {
        "config" => Some(None),
        word => BackendState::of_word(word).map(Some),
    })?;
    fields.finish()?;
    let (Some(upstream), Some(backend), Some(state)) = (upstream, backend, state) else {
        return Err(Wrong::bad("needed: upstream, backend, state"));
    };
    desk.state
        .set_backend_state(&upstream, &backend, state)
        .map_err(|error| Wrong::missing(format!("{error}: `{backend}` of `{upstream}`")))?;
    told(desk, &upstream, &backend)
}

/// What holds now, and what it will close.
fn told(desk: &Desk, upstream: &str, name: &str) -> Result<Value, Wrong> {
    let snapshot = desk.state.snapshot();
    let gone = || Wrong::missing("the config has just changed: it is gone");
    let group = snapshot.upstreams.get(upstream).ok_or_else(gone)?;
    let backends = group.backends();
    let mut list = backends.list().iter();
    let listed = list
        .find(|it| **it.backend().name() == *name)
        .ok_or_else(gone)?;
    let tunnels = listed.backend().tunnels();
    let closing = match listed.state() {
        BackendState::Draining => tunnels,
        BackendState::Active | BackendState::Disabled => 0,
    };
    let pace = snapshot.config.drain.pace_of(&group.settings().drain);
    let seconds = match closing {
        0 => 0.0,
        closing => pace.span(closing as usize).as_secs_f64(),
    };
    Ok(json!({
        "upstream": upstream,
        "backend": name,
        "state": listed.state().label(),
        "state_by": listed.state_by(),
        "config_state": listed.filed_state().label(),
        "tunnels": tunnels,
        "closing": closing,
        "seconds": seconds,
    }))
}
