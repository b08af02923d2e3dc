//! A configuration to a snapshot: certificates read and matched, routes
//! compiled, upstreams and backends carried over.
//!
//! Nothing here is seen by others until the commit, and everything that can
//! fail fails here, all findings at once.

mod certificates;
mod identities;
mod warnings;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Semaphore;
use tower::Layer;

use super::router::Router;
use super::{AdminTls, ListenerState, RouteEntry, Snapshot, State};
use crate::config::{self, Config, Diagnostic, Diagnostics, Place, Scheme};
use crate::exchange::{CaDigest, Stack};
use crate::fetch::KeyFetch;
use crate::guard::{Counted, Door, Suspicion};
use crate::identity::Users;
use crate::layers;
use crate::layers::record::RecordLayer;
use crate::layers::redirect::Redirect;
use crate::net::Keepalive;
use crate::proxy::{self, Identity, Proxy};
use crate::route::Table;
use crate::tls;
use crate::tls::{Pair, ServerTls};
use crate::upstream::{Dialer, Upstream};
use warnings::{told_in_the_clear, uncounted};

/// A snapshot that only waits to be committed.
#[derive(Debug)]
pub struct Prepared {
    pub(super) snapshot: Snapshot,
    pub warnings: Vec<Warning>,
    /// Certificates whose files have new content.
    pub renewed: Vec<PathBuf>,
    /// By ACME, of names that had none, for the commit to put in service.
    pub(super) stored: Vec<(String, Arc<Pair>)>,
}

/// What an operator should know although it stands in nobody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    /// Whether a certificate could not be loaded.
    pub is_certificate_failure: bool,
}

impl Prepared {
    /// The configuration that was prepared.
    pub fn config(&self) -> &Config {
        &self.snapshot.config
    }

    /// Looking things up in it before it is in force, for `check`.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

pub(super) fn prepare(state: &State, config: Config, hash: u64) -> Result<Prepared, Diagnostics> {
    let mut work = Work {
        state,
        config: &config,
        now: SystemTime::now(),
        findings: Diagnostics::default(),
        warnings: Vec::new(),
        renewed: Vec::new(),
        stored: Vec::new(),
        users: BTreeMap::new(),
        key_fetches: BTreeMap::new(),
    };
    let upstreams = work.upstreams();
    let tls = work.listeners_tls();
    let admin_tls = work.admin_tls();
    let identities = work.identities();
    let collector = work.collector();
    let Work {
        findings,
        warnings,
        renewed,
        stored,
        users,
        key_fetches,
        ..
    } = work;
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut warnings = warnings;
    warnings.extend(uncounted(&config));
    warnings.extend(told_in_the_clear(&config));
    let table = Arc::new(routes(state, &config, &upstreams, identities));
    let listeners = listeners(state, &config, &table, &tls);
    let current = state.snapshot();
    let most = config.limits.max_tls_handshakes;
    let tls_handshakes = match current.config.limits.max_tls_handshakes == most {
        true => Arc::clone(&current.tls_handshakes),
        false => Arc::new(Semaphore::new(most)),
    };
    let snapshot = Snapshot {
        generation: 0,
        hash,
        token_queries: config::token_queries(&config),
        config,
        listeners,
        gone: BTreeMap::new(),
        tls_handshakes,
        upstreams,
        table,
        key_fetches,
        admin_tls,
        collector,
        users,
    };
    Ok(Prepared {
        snapshot,
        warnings,
        renewed,
        stored,
    })
}

impl Snapshot {
    pub(super) fn empty() -> Self {
        Self {
            generation: 0,
            hash: 0,
            config: Config::empty(),
            listeners: BTreeMap::new(),
            gone: BTreeMap::new(),
            tls_handshakes: Arc::new(Semaphore::new(Config::empty().limits.max_tls_handshakes)),
            upstreams: BTreeMap::new(),
            table: Arc::new(Table::new(Vec::new())),
            key_fetches: BTreeMap::new(),
            admin_tls: None,
            token_queries: Vec::new(),
            collector: None,
            users: BTreeMap::new(),
        }
    }
}

fn listeners(
    state: &State,
    config: &Config,
    table: &Arc<Table<RouteEntry>>,
    tls: &BTreeMap<String, ServerTls>,
) -> BTreeMap<String, Arc<ListenerState>> {
    config
        .listeners
        .iter()
        .map(|(name, listener)| {
            let tls = tls.get(name).cloned();
            let client_cas = tls.as_ref().and_then(ServerTls::client_cas);
            let stack = stack(state, config, (listener, client_cas), table);
            let state = ListenerState {
                proxy_protocol: listener.proxy_protocol.clone(),
                tls,
                http2: listener.http2,
                websocket_over_http2: listener.websocket_over_http2,
                door: door(state, config, listener),
                stack,
            };
            (name.clone(), Arc::new(state))
        })
        .collect()
}

/// What a listener asks of connections.
fn door(state: &State, config: &Config, listener: &config::Listener) -> Door {
    let current = state.snapshot();
    let before = current.listeners.get(&listener.name);
    Door {
        networks: listener.networks.clone(),
        rates: listener.rates,
        trusted: config.trusted_proxies.clone().into(),
        counted: before.map_or_else(Counted::default, |it| it.door.counted.clone()),
    }
}

/// The layers of a listener.
fn stack(
    state: &State,
    config: &Config,
    (listener, client_cas): (&config::Listener, Option<&Arc<[CaDigest]>>),
    table: &Arc<Table<RouteEntry>>,
) -> Stack<Infallible> {
    // Outermost, so that every refusal below gets its line.
    let record = RecordLayer {
        metrics: Arc::clone(&state.metrics),
        sample: config.log.sample_requests,
    };
    let settled = layers::Settled::by(config, Some(listener), client_cas, &state.spans);
    match listener.redirect_to_https {
        Some(port) => Stack::new(record.layer(layers::settle(settled, Redirect { port }))),
        None => {
            let router = Router(Arc::clone(table));
            Stack::new(record.layer(layers::settle(settled, router)))
        }
    }
}

fn routes(
    state: &State,
    config: &Config,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    identities: Vec<Option<Identity>>,
) -> Table<RouteEntry> {
    let current = state.snapshot();
    let routes = current.table.iter().map(|(_, entry)| &entry.route);
    let before: HashMap<&str, _> = routes.map(|it| (&*it.name, &it.standing)).collect();
    let settled = config.routes.iter().zip(identities);
    let entries = settled.filter_map(|(settings, identity)| {
        // The config has checked that every route's upstream is there.
        let upstream = upstreams.get(&settings.upstream)?;
        let authority = settings.auth.as_ref().and_then(|auth| {
            let upstream = Arc::clone(upstreams.get(&auth.upstream)?);
            Some(proxy::Authority {
                settings: auth.clone(),
                upstream,
            })
        });
        let route = Arc::new(proxy::Route {
            name: settings.name.as_str().into(),
            settings: settings.clone(),
            drain: config.drain.with(&upstream.settings().drain),
            upstream: Arc::clone(upstream),
            identity,
            authority,
            standing: before
                .get(&*settings.name)
                .map_or_else(Arc::default, |standing| Arc::clone(standing)),
            suspicion: Suspicion::default(),
            labels: proxy::SharedLabels::default(),
            registry: Arc::clone(&state.registry),
            metrics: Arc::clone(&state.metrics),
        });
        let stack = Stack::new(Proxy {
            route: Arc::clone(&route),
        });
        Some((settings.into(), RouteEntry { stack, route }))
    });
    Table::new(entries)
}

/// The part of the work that can fail.
pub(super) struct Work<'a> {
    pub(super) state: &'a State,
    pub(super) config: &'a Config,
    now: SystemTime,
    findings: Diagnostics,
    warnings: Vec<Warning>,
    renewed: Vec<PathBuf>,
    stored: Vec<(String, Arc<Pair>)>,
    users: BTreeMap<PathBuf, Arc<Users>>,
    key_fetches: BTreeMap<String, Arc<KeyFetch>>,
}

impl Work<'_> {
    fn upstreams(&mut self) -> BTreeMap<String, Arc<Upstream>> {
        let config = self.config;
        let current = self.state.snapshot();
        let mut made = BTreeMap::new();
        for (name, settings) in &config.upstreams {
            let tls = match settings.scheme {
                Scheme::Http => None,
                Scheme::Https => match self.upstream_tls(settings) {
                    Some(tls) => Some(tls),
                    None => continue,
                },
            };
            let dialer = Dialer {
                tls_http2: tls.as_deref().map(tls::client_config_for_http2),
                tls,
                http2: settings.http2,
                proxy_protocol: settings.proxy_protocol,
                server_name: settings.tls.server_name.clone(),
                keepalive: Keepalive::from(config.tcp),
                timeout: settings.dial_timeout,
                metrics: Arc::clone(&self.state.metrics),
            };
            let previous = current.upstreams.get(name).map(|it| &**it);
            let roster = &self.state.roster;
            let upstream = Upstream::new(settings.clone(), dialer, roster, previous);
            made.insert(name.clone(), Arc::new(upstream));
        }
        made
    }

    /// A finding at the place that names `file`, or else at `place`.
    pub(super) fn find(&mut self, file: Option<&Path>, place: &Place, message: String) {
        let place = file
            .and_then(|file| self.config.files.place(file))
            .unwrap_or(place);
        self.findings.push(Diagnostic::new(place.clone(), message));
    }
}
