//! `/live`: all that the dashboard and `longhaul top` show of one moment, but for
//! the tunnels themselves.
//!
//! Invariant: however many watch, the live tunnels are visited once for a moment,
//! and for no more than a twentieth of the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::desk::Desk;
use super::status::{self, unix};
use crate::state::{LastReload, PassedBy};
use crate::tunnel::{Ended, Filter};

/// How long a moment lasts at least.
const MOMENT: Duration = Duration::from_millis(900);
/// It lasts so many times what it took to look.
const RESTS: u32 = 20;
/// Of those that are remembered.
const ENDED: usize = 20;
/// Of what a reload has to say, in characters.
const MOST_MESSAGE: usize = 2000;

/// The last moment, as JSON.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<Option<Moment>>);

#[derive(Debug)]
struct Moment {
    until: Instant,
    text: Bytes,
}

impl Live {
    /// The moment that it is, or a second ago was.
    pub(super) fn now(&self, desk: &Desk) -> Bytes {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some(moment) = last.as_ref().filter(|moment| moment.until > begun) {
            return moment.text.clone();
        }
        let text = Bytes::from(live(desk).to_string());
        let rests = MOMENT.max(begun.elapsed() * RESTS);
        *last = Some(Moment {
            until: begun + rests,
            text: text.clone(),
        });
        text
    }
}

fn live(desk: &Desk) -> Value {
    let state = &desk.state;
    let mut live = status::process(state, desk.listening);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    live["at_unix_ms"] = now.map_or(0, |now| now.as_millis() as u64).into();
    add_passed(&mut live, &state.passed());
    live["ended"] = ended(desk, ENDED, &Filter::default());
    live["reloads"] = reloads(desk);
    live["closings"] = desk.closings.list().into();
    live
}

/// To each backend that `/status` lists.
fn add_passed(live: &mut Value, passed: &PassedBy) {
    let upstreams = live["upstreams"].as_array_mut().into_iter().flatten();
    for upstream in upstreams {
        let name: Arc<str> = upstream["name"].as_str().unwrap_or_default().into();
        let backends = upstream["backends"].as_array_mut().into_iter().flatten();
        for backend in backends {
            let of = backend["name"].as_str().unwrap_or_default().into();
            let sums = passed.get(&(Arc::clone(&name), of));
            let sums = sums.copied().unwrap_or_default();
            backend["stalled"] = sums.stalled.into();
            [backend["messages_in"], backend["messages_out"]] = sums.messages.map(Value::from);
            [backend["bytes_in"], backend["bytes_out"]] = sums.bytes.map(Value::from);
        }
    }
}

/// Those of the last `most` that are meant, the newest first.
pub(super) fn ended(desk: &Desk, most: usize, filter: &Filter) -> Value {
    let ended = desk.state.registry.ended().list(most);
    let meant = ended.iter().filter(|it| filter.accepts_ended(&it.facts));
    meant.map(ended_json).collect()
}

/// The newest first.
pub(super) fn reloads(desk: &Desk) -> Value {
    let reloads = desk.state.live.reloads();
    reloads.iter().map(reload_json).collect()
}

fn ended_json(ended: &Ended) -> Value {
    let (facts, outcome) = (&ended.facts, &ended.outcome);
    let words = facts.opening.words();
    json!({
        "id": facts.id,
        "at_unix": unix(ended.at),
        "client": facts.client(),
        "host": words.host,
        "path": words.path,
        "route": *facts.labels.route,
        "upstream": *facts.labels.upstream,
        "backend": *facts.labels.backend,
        "ended_by": outcome.ended_by.label(),
        "cause": outcome.cause.to_string(),
        "client_close_code": outcome.client_close_code,
        "backend_close_code": outcome.backend_close_code,
        "duration_seconds": (outcome.duration.as_secs_f64() * 10.0).round() / 10.0,
        "bytes_in": outcome.bytes_in,
        "bytes_out": outcome.bytes_out,
        "messages_in": outcome.messages_in,
        "messages_out": outcome.messages_out,
    })
}

fn reload_json(reload: &LastReload) -> Value {
    let message: String = reload.message.chars().take(MOST_MESSAGE).collect();
    json!({
        "ok": reload.ok,
        "at_unix": unix(reload.at),
        "generation": reload.generation,
        "message": message,
    })
}
