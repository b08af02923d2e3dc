//! Asks longhaul every second, and for what was ordered in between.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::api::target;
use super::super::ask::{AdminApi, AskError};
use crate::admin::Endpoint;

const EVERY: Duration = Duration::from_secs(1);
/// Tunnels that are asked for; more are found by a search.
pub(super) const MOST_TUNNELS: usize = 500;
/// Pages for them, where few are meant among many.
const MOST_PAGES: usize = 20;

/// What is to be asked or done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// From now on, tunnels with this text.
    Search(String),
    Post {
        endpoint: Endpoint,
        body: Value,
        /// What it is called when it is done.
        name: String,
    },
}

/// What there is to show.
#[derive(Debug)]
pub(super) enum Told {
    Now {
        live: Value,
        tunnels: Tunnels,
    },
    Done(String),
    Failed(String),
    /// longhaul does not answer.
    Lost(String),
    Stop,
}

/// Some of the live tunnels.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    pub(super) list: Vec<Value>,
    /// How many there are; not always known.
    pub(super) matching: Option<u64>,
    pub(super) more: bool,
}

/// Until nobody orders or hears any more.
pub(super) fn run(api: &AdminApi, orders: &Receiver<Order>, tell: &SyncSender<Told>) {
    let mut search = String::new();
    loop {
        let begun = Instant::now();
        if tell.send(now(api, &search)).is_err() {
            return;
        }
        let rests = EVERY.saturating_sub(begun.elapsed());
        match orders.recv_timeout(rests.max(EVERY / 10)) {
            Ok(Order::Search(text)) => search = text,
            Ok(Order::Post {
                endpoint,
                body,
                name,
            }) => {
                let told = match api.post(endpoint, &body) {
                    Ok(answer) => Told::Done(done(&name, &answer)),
                    Err(error) => Told::Failed(error.to_string()),
                };
                if tell.send(told).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn done(name: &str, answer: &Value) -> String {
    let closing = answer["closing"].as_u64().unwrap_or(0);
    let seconds = answer["seconds"].as_f64().unwrap_or(0.0);
    match closing {
        0 => name.to_owned(),
        closing => format!("{name}: {closing} tunnels are closed over {seconds:.1} s"),
    }
}

fn now(api: &AdminApi, search: &str) -> Told {
    let both = api
        .get(Endpoint::Live.path())
        .and_then(|live| Ok((live, tunnels(api, search)?)));
    match both {
        Ok((live, tunnels)) => Told::Now { live, tunnels },
        // It answers, and says what is wrong with the question.
        Err(AskError::Refused(why)) => Told::Failed(why),
        Err(error) => Told::Lost(error.to_string()),
    }
}

fn tunnels(api: &AdminApi, search: &str) -> Result<Tunnels, AskError> {
    let (mut found, mut after) = (Tunnels::default(), 0);
    for _ in 0..MOST_PAGES {
        let limit = MOST_TUNNELS - found.list.len();
        let mut query = vec![("after", after.to_string()), ("limit", limit.to_string())];
        if !search.is_empty() {
            query.push(("search", search.to_owned()));
        }
        let mut page = api.get(&target(Endpoint::Tunnels, &query))?;
        if let Value::Array(list) = page["tunnels"].take() {
            found.list.extend(list);
        }
        found.matching = page["matching"].as_u64();
        found.more = false;
        match page["next"].as_u64() {
            Some(next) => {
                found.more = true;
                after = next;
            }
            None => break,
        }
        if found.list.len() >= MOST_TUNNELS {
            break;
        }
    }
    Ok(found)
}
