//! A configuration to a snapshot: certificates read and matched, routes
//! compiled, upstreams and backends carried over.
//!
//! Nothing here is seen by others until the commit, and everything that can
//! fail fails here, all findings at once.

mod certificates;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tower::Layer;

use super::router::Router;
use super::{ListenerState, RouteEntry, Snapshot, State};
use crate::config::{
    self, BasicAuth, Config, Diagnostic, Diagnostics, Jwt, KeySource, KeysUrl, ListenAddress,
    Place, Scheme,
};
use crate::exchange::Stack;
use crate::fetch::KeyFetch;
use crate::guard::{Counted, Door, Suspicion};
use crate::identity::{IdentityError, KeySet, Keys, Tokens, Users};
use crate::layers;
use crate::layers::record::RecordLayer;
use crate::layers::redirect::Redirect;
use crate::net::Keepalive;
use crate::proxy::{self, Identity, Proxy};
use crate::route::Table;
use crate::tls;
use crate::upstream::{Dialer, Upstream};

/// Certificates closer to their end than this are warned about.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A snapshot that only waits to be committed.
#[derive(Debug)]
pub struct Prepared {
    pub(super) snapshot: Snapshot,
    pub warnings: Vec<Warning>,
    /// Certificates whose files have new content.
    pub renewed: Vec<PathBuf>,
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
        users: BTreeMap::new(),
        key_fetches: BTreeMap::new(),
    };
    let upstreams = work.upstreams();
    let tls = work.listeners_tls();
    let identities = work.identities();
    let collector = work.collector();
    let Work {
        findings,
        warnings,
        renewed,
        users,
        key_fetches,
        ..
    } = work;
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut warnings = warnings;
    warnings.extend(uncounted(&config));
    let table = Arc::new(routes(state, &config, &upstreams, identities));
    let listeners = config
        .listeners
        .iter()
        .map(|(name, listener)| {
            let tls = tls.get(name).cloned();
            let stack = stack(state, &config, listener, &table);
            let state = ListenerState {
                proxy_protocol: listener.proxy_protocol.clone(),
                tls,
                http2: listener.http2,
                websocket_over_http2: listener.websocket_over_http2,
                door: door(state, &config, listener),
                stack,
            };
            (name.clone(), Arc::new(state))
        })
        .collect();
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
        collector,
        users,
    };
    Ok(Prepared {
        snapshot,
        warnings,
        renewed,
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
            token_queries: Vec::new(),
            collector: None,
            users: BTreeMap::new(),
        }
    }
}

/// Listeners whose clients no limit for each client counts.
fn uncounted(config: &Config) -> impl Iterator<Item = Warning> {
    let counts = config.routes.iter().find(|it| it.limits.count_clients());
    // Whoever comes by a file is on this machine.
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let trusted = config
        .trusted_proxies
        .iter()
        .any(|net| net.contains(&local));
    let is_file = |it: &&config::Listener| {
        matches!(it.address, ListenAddress::Unix { .. }) && it.proxy_protocol.is_none()
    };
    let listeners = config.listeners.values().filter(is_file);
    let warning = move |listener: &config::Listener| {
        counts.filter(|_| !trusted).map(|route| Warning {
            message: format!(
                "limits for each client, as route `{}` has them, count nobody who comes by \
                 listener `{}`, a Unix socket: who speaks there for its clients is to be in \
                 trusted_proxies, as 127.0.0.1",
                route.name, listener.name
            ),
            is_certificate_failure: false,
        })
    };
    listeners
        .filter_map(warning)
        .collect::<Vec<_>>()
        .into_iter()
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
    listener: &config::Listener,
    table: &Arc<Table<RouteEntry>>,
) -> Stack<Infallible> {
    // Outermost, so that every refusal below gets its line.
    let record = RecordLayer {
        metrics: Arc::clone(&state.metrics),
        sample: config.log.sample_requests,
    };
    let settled = layers::Settled::by(config, Some(listener), &state.spans);
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

    /// Of each route, in their order.
    fn identities(&mut self) -> Vec<Option<Identity>> {
        let config = self.config;
        let each = config.routes.iter().map(|route| {
            let made = match (&route.basic_auth, &route.jwt) {
                (Some(settings), _) => self.password(settings).map(Some),
                (None, Some(settings)) => self.token(settings),
                (None, None) => Ok(None),
            };
            made.unwrap_or_else(|error| {
                let file = route.basic_auth.as_ref().map(|it| &*it.users);
                let file = file.or_else(|| match &route.jwt.as_ref()?.keys {
                    KeySource::File(path) => Some(path),
                    KeySource::Url(_) => None,
                });
                self.find(file, &route.place.0, error.to_string());
                None
            })
        });
        each.collect()
    }

    fn password(&mut self, settings: &BasicAuth) -> Result<Identity, IdentityError> {
        let (file, current) = (&settings.users, self.state.snapshot());
        let before = self.users.get(file).or_else(|| current.users.get(file));
        let users = Users::load(file, &self.state.turns, before)?;
        self.users.insert(file.clone(), Arc::clone(&users));
        Ok(Identity::Password(settings.clone(), users))
    }

    /// `None`, with a finding, if a URL's CA is of no use.
    fn token(&mut self, settings: &Jwt) -> Result<Option<Identity>, IdentityError> {
        let keys = match &settings.keys {
            KeySource::File(path) => KeySet::Fixed(Keys::load(path, &settings.algorithms)?),
            KeySource::Url(url) => match self.key_fetch(url) {
                Some(fetch) => KeySet::Fetched(Arc::clone(&fetch.keyring), url.timeout),
                None => return Ok(None),
            },
        };
        let tokens = Box::new(Tokens::new(settings, keys));
        Ok(Some(Identity::Token(Box::new(settings.clone()), tokens)))
    }

    /// One for each URL, with the keys that were fetched before.
    fn key_fetch(&mut self, settings: &KeysUrl) -> Option<Arc<KeyFetch>> {
        let url = &settings.url.text;
        if let Some(made) = self.key_fetches.get(url) {
            return Some(Arc::clone(made));
        }
        let ca = settings.ca.as_deref();
        let tls = match settings.url.is_https {
            true => {
                let made = tls::client_config(ca, None);
                let place = &settings.place.0;
                let found = made.map_err(|error| self.find(ca, place, error.to_string()));
                Some(found.ok()?)
            }
            false => None,
        };
        let current = self.state.snapshot();
        let before = current.key_fetches.get(url);
        let fetch = Arc::new(KeyFetch {
            settings: settings.clone(),
            tls,
            keyring: before.map_or_else(Arc::default, |it| Arc::clone(&it.keyring)),
        });
        self.key_fetches.insert(url.clone(), Arc::clone(&fetch));
        Some(fetch)
    }

    fn upstream_tls(&mut self, settings: &config::Upstream) -> Option<Arc<ClientConfig>> {
        let own = match &settings.tls.client_certificate {
            Some(pair) => Some(self.pair(pair)?),
            None => None,
        };
        let ca = settings.tls.ca.as_deref();
        tls::client_config(ca, own.as_deref())
            .map_err(|error| self.find(ca, &settings.place, error.to_string()))
            .ok()
    }

    /// A finding at the place that names `file`, or else at `place`.
    pub(super) fn find(&mut self, file: Option<&Path>, place: &Place, message: String) {
        let place = file
            .and_then(|file| self.config.files.place(file))
            .unwrap_or(place);
        self.findings.push(Diagnostic::new(place.clone(), message));
    }
}
