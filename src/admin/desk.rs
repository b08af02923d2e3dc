//! Where an operator's requests are answered: which endpoint is whose.
//!
//! It holds the process's state and the closes that operators have asked for.
//! Who may ask, and how long a connection may last, is decided outside.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::closings::Closings;
use super::denials::Denials;
use super::endpoints::{Endpoint, not_allowed, tunnel_id};
use super::fields::{Fields, Wrong};
use super::impact::Impacts;
use super::live::{self, Live};
use super::person::Person;
use super::{backends, rebalance, status, tunnels, watch};
use crate::metrics;
use crate::state::State;

/// What an operator may say in a body; [`Endpoint::Impact`] needs the most.
const MOST_BODY: usize = 4 * 1024 * 1024;

pub(super) const JSON: &str = "application/json";

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) state: Arc<State>,
    pub(super) closings: Closings,
    pub(super) live: Live,
    pub(super) denials: Denials,
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
        let denials = Denials::new(Arc::clone(&state.metrics));
        Arc::new(Self {
            state,
            listening,
            denials,
            closings: Closings::new(),
            impacts: Impacts::new(),
            live: Live::default(),
            watchers: Arc::new(Semaphore::new(watch::MOST)),
        })
    }

    /// All but the dashboard and its WebSocket, which are answered before.
    pub(super) async fn answer(
        &self,
        person: &Person,
        endpoint: Endpoint,
        head: Parts,
        body: Incoming,
    ) -> Result<Answer, Wrong> {
        let (path, query) = (head.uri.path(), head.uri.query());
        let fields = || Fields::of_query(query);
        let answer = match endpoint {
            Endpoint::Dashboard | Endpoint::Watch => Err(not_allowed()),
            Endpoint::Status => {
                fields()?.finish()?;
                Ok(status::status(&self.state, self.listening, person))
            }
            Endpoint::Live => {
                fields()?.finish()?;
                return Ok(Answer::Text(self.live.now(self), JSON));
            }
            Endpoint::Metrics => {
                fields()?.finish()?;
                return Ok(self.metrics(&head.headers));
            }
            Endpoint::Tunnels => tunnels::list(self, fields()?),
            Endpoint::Tunnel => {
                fields()?.finish()?;
                tunnels::show(self, tunnel_id(path).unwrap_or_default())
            }
            Endpoint::EndedTunnels => {
                let filter = tunnels::searched(fields()?)?;
                Ok(json!({ "ended": live::ended(self, usize::MAX, &filter) }))
            }
            Endpoint::CloseTunnels => self.change(person, endpoint, body, tunnels::close).await,
            Endpoint::Backends => backends::list(self, fields()?),
            Endpoint::SetBackend => self.change(person, endpoint, body, backends::set).await,
            Endpoint::Rebalance => {
                let does = rebalance::rebalance;
                self.change(person, endpoint, body, does).await
            }
            Endpoint::Reloads => {
                fields()?.finish()?;
                Ok(json!({ "reloads": live::reloads(self) }))
            }
            Endpoint::Impact => self.impacts.answer(&self.state, collect(body).await?).await,
            Endpoint::Closings => {
                fields()?.finish()?;
                Ok(json!({ "closings": self.closings.list() }))
            }
        };
        answer.map(Answer::Json)
    }

    /// Logged, done or not.
    async fn change(
        &self,
        person: &Person,
        endpoint: Endpoint,
        body: Incoming,
        does: fn(&Self, Fields) -> Result<Value, Wrong>,
    ) -> Result<Value, Wrong> {
        let (body, answer) = match collect(body).await {
            Ok(body) => {
                let answer = Fields::of_body(&body).and_then(|fields| does(self, fields));
                (body, answer)
            }
            Err(wrong) => (Bytes::new(), Err(wrong)),
        };
        person.did(endpoint, &body, &answer);
        answer
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
