//! Where an operator's requests are answered: which path and method is whose.
//!
//! It holds the process's state and the closes that operators have asked for.
//! Who may ask, and how long a connection may last, is decided outside.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::closings::Closings;
use super::fields::{Fields, Wrong};
use super::impact::Impacts;
use super::live::{self, Live};
use super::person::{Person, changes};
use super::{backends, rebalance, status, tunnels, watch};
use crate::metrics;
use crate::state::State;

/// What an operator may say in a body; [`impact`] needs the most.
const MOST_BODY: usize = 4 * 1024 * 1024;

const PATHS: &str = "there are /, /status, /live, /watch, /metrics, /tunnels, /tunnels/ID, \
                     /tunnels/ended, /tunnels/close, /backends, /rebalance, /reloads, /impact \
                     and /closings";
pub(super) const JSON: &str = "application/json";

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) state: Arc<State>,
    pub(super) closings: Closings,
    pub(super) live: Live,
    impacts: Impacts,
    /// A place for each who watches.
    pub(super) watchers: Arc<Semaphore>,
    /// Where it is asked over TCP.
    pub(super) listening: Option<SocketAddr>,
}

/// What is answered.
pub(super) enum Answer {
    Json(Value),
    /// A page and its content type.
    Text(Bytes, &'static str),
}

impl Desk {
    pub(super) fn new(state: Arc<State>, listening: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            state,
            listening,
            closings: Closings::new(),
            impacts: Impacts::new(),
            live: Live::default(),
            watchers: Arc::new(Semaphore::new(watch::MOST)),
        })
    }

    pub(super) async fn answer(
        &self,
        person: &Person,
        head: Parts,
        body: Incoming,
    ) -> Result<Answer, Wrong> {
        match head.method {
            Method::GET if head.uri.path() == "/metrics" => {
                Fields::of_query(head.uri.query())?.finish()?;
                Ok(self.metrics(&head.headers))
            }
            Method::GET => self.get(person, head.uri.path(), head.uri.query()),
            Method::POST => {
                // Known to be a path before anything is read.
                let path = head.uri.path();
                if !is_posted(path) {
                    return Err(nothing(path));
                }
                let (body, answer) = match collect(body).await {
                    Ok(body) if path == "/impact" => {
                        let answer = self.impacts.answer(&self.state, body).await;
                        return answer.map(Answer::Json);
                    }
                    Ok(body) => {
                        let answer = self.post(path, &body);
                        (body, answer)
                    }
                    Err(wrong) => (Bytes::new(), Err(wrong)),
                };
                if changes(&head.method, path) {
                    person.did(path, &body, &answer);
                }
                answer.map(Answer::Json)
            }
            _ => Err(not_allowed()),
        }
    }

    fn get(&self, person: &Person, path: &str, query: Option<&str>) -> Result<Answer, Wrong> {
        let fields = Fields::of_query(query)?;
        if path == "/tunnels/ended" {
            let filter = tunnels::searched(fields)?;
            let ended = live::ended(self, usize::MAX, &filter);
            return Ok(Answer::Json(json!({ "ended": ended })));
        }
        if let Some(id) = path.strip_prefix("/tunnels/").filter(|id| *id != "close") {
            fields.finish()?;
            return tunnels::show(self, id).map(Answer::Json);
        }
        let answer = match path {
            "/status" => {
                fields.finish()?;
                status::status(&self.state, self.listening, person)
            }
            "/live" => {
                fields.finish()?;
                return Ok(Answer::Text(self.live.now(self), JSON));
            }
            "/tunnels" => tunnels::list(self, fields)?,
            "/backends" => backends::list(self, fields)?,
            "/reloads" => {
                fields.finish()?;
                json!({ "reloads": live::reloads(self) })
            }
            "/closings" => {
                fields.finish()?;
                json!({ "closings": self.closings.list() })
            }
            path if is_posted(path) => return Err(not_allowed()),
            path => return Err(nothing(path)),
        };
        Ok(Answer::Json(answer))
    }

    /// In OpenMetrics if the scraper says that it reads that.
    fn metrics(&self, headers: &HeaderMap) -> Answer {
        let page = self.state.metrics_page();
        let accepted = headers.get_all(header::ACCEPT).iter();
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        match accepted.any(|value| value.contains("application/openmetrics-text")) {
            true => Answer::Text(page.into(), metrics::OPEN_METRICS),
            false => Answer::Text(metrics::plain(&page).into(), metrics::PLAIN),
        }
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Value, Wrong> {
        let fields = Fields::of_body(body)?;
        match path {
            "/tunnels/close" => tunnels::close(self, fields),
            "/backends" => backends::set(self, fields),
            "/rebalance" => rebalance::rebalance(self, fields),
            path => Err(nothing(path)),
        }
    }
}

fn is_posted(path: &str) -> bool {
    matches!(
        path,
        "/tunnels/close" | "/backends" | "/rebalance" | "/impact"
    )
}

fn nothing(path: &str) -> Wrong {
    match path {
        "/" | "/status" | "/live" | "/watch" | "/metrics" | "/tunnels" | "/tunnels/ended"
        | "/reloads" | "/closings" => not_allowed(),
        _ => Wrong::missing(format!("there is no such path; {PATHS}")),
    }
}

fn not_allowed() -> Wrong {
    Wrong {
        status: StatusCode::METHOD_NOT_ALLOWED,
        message: format!("another method is meant; {PATHS}"),
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Wrong> {
    let too_large = || Wrong {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        message: format!("the body is longer than {MOST_BODY} bytes, or ended early"),
    };
    // Told before it is sent, if its length is.
    if body.size_hint().lower() > MOST_BODY as u64 {
        return Err(too_large());
    }
    let collected = Limited::new(body, MOST_BODY).collect().await;
    Ok(collected.map_err(|_| too_large())?.to_bytes())
}
