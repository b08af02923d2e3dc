//! What is done with one request: forward it (`forward`), or upgrade it
//! (`upgrade`) and hand both sides to the tunnel (`handoff`).
//!
//! Innermost service of a route's stack. It knows its route's settings by
//! value, so a reload cannot change a request half-way.

mod attempt;
mod auth;
mod forward;
mod handoff;
mod identity;
mod labels;
mod proxied;
mod report;
mod response_body;
mod sticky;
mod upgrade;

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request};
use tower::service_fn;

pub use handoff::log_closed;
pub use identity::Identity;
pub use labels::SharedLabels;
pub use sticky::{Affinity, affinity, sticky_key};
pub(crate) use sticky::{cookie, query};

use crate::config;
use crate::drain::Stage;
use crate::exchange::{
    Body, ClientUpgrade, Exchange, Hidden, HttpService, Refusal, Reply, loggable_path,
};
use crate::guard::{self, Standing, Suspect, Suspicion, Verdict};
use crate::metrics::{Metrics, OfRoute};
use crate::tunnel::{Expiry, Registry};
use crate::upstream::Upstream;
use crate::ws::handshake::{self, Upgrade};

/// What a route's proxy works with.
#[derive(Debug)]
pub struct Route {
    pub name: Arc<str>,
    pub settings: config::Route,
    pub drain: config::Drain,
    pub upstream: Arc<Upstream>,
    /// What a request must carry.
    pub identity: Option<Identity>,
    /// Who is asked before.
    pub authority: Option<Authority>,
    /// What clients have had of it, under earlier configurations too.
    pub standing: Arc<Standing>,
    pub suspicion: Suspicion,
    pub labels: SharedLabels,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
}

/// Who decides about the requests of a route.
#[derive(Debug)]
pub struct Authority {
    pub settings: config::Auth,
    pub upstream: Arc<Upstream>,
}

/// The proxy of one route.
pub fn proxy(route: Arc<Route>) -> impl HttpService {
    service_fn(move |request| answer(Arc::clone(&route), request))
}

fn answer(route: Arc<Route>, mut request: Request<Body>) -> Reply {
    Box::pin(async move {
        let exchange = request
            .extensions()
            .get::<Exchange>()
            .cloned()
            .ok_or(Refusal::BadRequest("it came on no connection"))?;
        exchange.record.update(|entry| {
            entry.route = Some(Arc::clone(&route.name));
            entry.upstream = Some(Arc::clone(route.upstream.name()));
            if route.hides_query() {
                entry.path = loggable_path(request.uri(), Hidden::All);
            }
        });
        let upgrade = asked_upgrade(&route, &request)?;
        may_enter(&route, &request, upgrade.is_some())?;
        if upgrade.is_some() && exchange.client.place.watch.stage() != Stage::Running {
            // It would be closed as soon as it was open.
            return Err(Refusal::Stopping);
        }
        count(&route, &exchange, upgrade.is_some())?;
        let expiry = authorize(&route, &exchange, &mut request).await?;
        match upgrade {
            Some(protocol) => upgrade::upgrade(route, exchange, request, protocol, expiry).await,
            None => forward::forward(route, exchange, request).await,
        }
    })
}

impl Route {
    /// Whether the query may hold a secret, whatever else the log shows.
    fn hides_query(&self) -> bool {
        let identity = self.identity.as_ref();
        identity.is_some_and(Identity::may_be_in_query)
    }
}

/// Lets the request pass by what it carries, and by whom the route asks. When
/// the first of these ends, if ever.
async fn authorize(
    route: &Route,
    exchange: &Exchange,
    request: &mut Request<Body>,
) -> Result<Option<Expiry>, Refusal> {
    let shown = match &route.identity {
        Some(identity) => identity.establish(request).await?,
        None => None,
    };
    let granted = match &route.authority {
        Some(authority) => auth::authorize(authority, &route.metrics, exchange, request).await?,
        None => None,
    };
    let both = shown.into_iter().chain(granted);
    Ok(both.min_by_key(|expiry| expiry.after))
}

/// The protocol to switch to, if the request asks for one that the route allows.
///
/// # Errors
/// If it asks for one that is not passed on.
pub fn asked_upgrade(route: &Route, request: &Request<Body>) -> Result<Option<String>, Refusal> {
    let protocol = match handshake::upgrade_protocol(request.headers()) {
        Upgrade::None if looks_like_websocket(request) => {
            return Err(Refusal::Handshake(handshake::Mistake::Upgrade));
        }
        Upgrade::None => return Ok(None),
        Upgrade::Several => return Err(Refusal::UpgradeNotAllowed("several protocols".into())),
        Upgrade::Malformed => return Err(Refusal::BadRequest("header upgrade is malformed")),
        Upgrade::One(protocol) => protocol,
    };
    let is_stream = |upgrade: &ClientUpgrade| upgrade.is_stream();
    let over_http2 = request.extensions().get().is_some_and(is_stream);
    if over_http2 && protocol != handshake::WEBSOCKET
        || !route.settings.upgrades.contains(&protocol)
    {
        return Err(Refusal::UpgradeNotAllowed(protocol));
    }
    Ok(Some(protocol))
}

/// Whether the route lets the request in, by what is known without asking anybody.
///
/// # Errors
/// If it does not.
pub fn may_enter(route: &Route, request: &Request<Body>, is_upgrade: bool) -> Result<(), Refusal> {
    let networks = &route.settings.networks;
    let exchange = request.extensions().get::<Exchange>();
    let client = exchange.and_then(|it| it.client_ip);
    // Somebody of whom nobody says where it comes from may be from anywhere.
    let is_placed = exchange.is_none_or(|it| it.is_placed);
    if !(is_placed || networks.let_in_all()) || !guard::lets_in(networks, client) {
        return Err(Refusal::NetworkDenied);
    }
    match &route.settings.origins {
        Some(origins) if is_upgrade => guard::check_origin(origins, request.headers()),
        _ => Ok(()),
    }
}

/// Counts a request against the rates of its route.
fn count(route: &Route, exchange: &Exchange, is_upgrade: bool) -> Result<(), Refusal> {
    let limits = &route.settings.limits;
    if limits.count_clients() {
        suspect(route, exchange);
    }
    let now = Instant::now();
    route
        .standing
        .count(limits, is_upgrade, exchange.client_ip, now)
}

/// Says so, once for each configuration, if limits for each client count a proxy.
fn suspect(route: &Route, exchange: &Exchange) {
    let Some(address) = exchange.client_ip else {
        return;
    };
    let suspect = Suspect {
        address,
        speaks_for_others: exchange.speaks_for_others,
    };
    let Verdict::Proxy { is_news } = route.suspicion.judge(suspect) else {
        return;
    };
    let labels = OfRoute {
        route: Arc::clone(&route.name),
    };
    route.metrics.proxies_counted.get(&labels).inc();
    if is_news {
        tracing::warn!(
            route = &*route.name,
            client = %address,
            "limits for each client count what looks like a proxy, and with it all who come \
             through it: name it in trusted_proxies and have it send X-Forwarded-For"
        );
    }
}

/// A handshake whose `Upgrade` or `Connection` got lost, most often in another
/// proxy: better refused with the reason than forwarded as a plain request.
fn looks_like_websocket(request: &Request<Body>) -> bool {
    request.method() == Method::GET
        && request
            .headers()
            .contains_key(http::header::SEC_WEBSOCKET_KEY)
}
