//! How a configuration becomes routable things, and the one handle that swaps
//! them.
//!
//! [`State::prepare`] does everything that can fail and is invisible to others;
//! [`State::commit`] cannot fail. Requests take the snapshot of the moment they
//! arrive and keep it to their end.

mod changes;
mod collector;
mod live;
mod names;
mod page;
mod passed;
mod prepare;
mod router;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

pub use changes::changes;
pub use live::{LastReload, Live};
pub use passed::PassedBy;
pub use prepare::{Prepared, Warning};

use crate::acme::Desk;
use crate::config::{
    BackendState, CertifiedOperators, Config, Diagnostics, ProxyProtocol, ServedCertificate,
};
use crate::exchange::{Refusal, Stack};
use crate::fetch::KeyFetch;
use crate::guard::Door;
use crate::identity::{Turns, Users};
use crate::metrics::{Metrics, Outcome};
use crate::otlp::Collector;
use crate::proxy;
use crate::route::Table;
use crate::spans::Spans;
use crate::tls::{Pairs, ServerTls, Staples, Tickets};
use crate::tunnel::Registry;
use crate::upstream::{Roster, Upstream};
use names::Seen;

/// What lives as long as the process, whatever the configuration.
#[derive(Debug)]
pub struct State {
    // Only `load_full`, no guard outlives a statement; so wherever else arc-swap
    // is used.
    current: ArcSwap<Snapshot>,
    pub roster: Arc<Roster>,
    pairs: Pairs,
    staples: Staples,
    tickets: Tickets,
    /// What waits to be sent to the collector.
    pub spans: Arc<Spans>,
    turns: Arc<Turns>,
    pub acme: Arc<Desk>,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    names: Seen,
    pub live: Live,
}

/// One generation of the configuration, ready for use. Immutable.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts from 1; 0 is the empty snapshot before the first.
    pub generation: u64,
    /// Of the texts of all config files.
    pub hash: u64,
    pub config: Config,
    pub listeners: BTreeMap<String, Arc<ListenerState>>,
    /// Those that the generation before had under other names, for connections
    /// that came by them before their accept loops heard of it.
    gone: BTreeMap<String, Arc<ListenerState>>,
    /// Turns for TLS handshakes; the same over reloads that do not change
    /// their number.
    pub tls_handshakes: Arc<Semaphore>,
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    pub table: Arc<Table<RouteEntry>>,
    /// By their URL.
    pub key_fetches: BTreeMap<String, Arc<KeyFetch>>,
    /// `None` where it speaks plain HTTP, or there is none.
    pub admin_tls: Option<Arc<AdminTls>>,
    /// Names of what some route's token may have in a query.
    pub token_queries: Vec<String>,
    /// Where spans are sent.
    pub collector: Option<Arc<Collector>>,
    /// By the path of their file, for the next generation.
    users: BTreeMap<PathBuf, Arc<Users>>,
}

/// What a connection of one listener needs.
#[derive(Debug)]
pub struct ListenerState {
    /// `Some`: a PROXY header is required of every connection.
    pub proxy_protocol: Option<ProxyProtocol>,
    pub tls: Option<ServerTls>,
    /// Whether its clients may speak HTTP/2.
    pub http2: bool,
    /// Whether they may open WebSockets over it.
    pub websocket_over_http2: bool,
    /// What is asked of each connection.
    pub door: Door,
    /// The layers around every request.
    pub stack: Stack<Infallible>,
}

/// How the admin API speaks TLS.
#[derive(Debug)]
pub struct AdminTls {
    pub tls: ServerTls,
    /// Of those who show a certificate.
    pub operators: CertifiedOperators,
}

/// One route: its own layers, and its facts for `check --explain`.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    pub stack: Stack<Refusal>,
    pub route: Arc<proxy::Route>,
}

/// There is no upstream, or no backend in it, of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such backend")]
pub struct NoSuchBackend;

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    pub snapshot: Arc<Snapshot>,
    pub previous: Arc<Snapshot>,
    pub warnings: Vec<Warning>,
    /// Certificates whose files have new content.
    pub renewed: Vec<PathBuf>,
}

impl State {
    /// Holds the empty configuration: no listeners, no routes.
    pub fn new() -> Self {
        let metrics = Arc::<Metrics>::default();
        let dropped = metrics.spans.get(&Outcome { result: "dropped" });
        Self {
            spans: Arc::new(Spans::new(dropped)),
            current: ArcSwap::from_pointee(Snapshot::empty()),
            roster: Arc::default(),
            pairs: Pairs::default(),
            staples: Staples::default(),
            tickets: Tickets::default(),
            turns: Arc::default(),
            acme: Arc::default(),
            registry: Registry::new(),
            metrics,
            names: Seen::default(),
            live: Live::default(),
        }
    }

    /// The snapshot of this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes a snapshot of a configuration; reads certificates, so it blocks.
    ///
    /// # Errors
    /// Everything that stands in the way, at once.
    pub fn prepare(&self, config: Config, hash: u64) -> Result<Prepared, Diagnostics> {
        prepare::prepare(self, config, hash)
    }

    /// Puts a prepared snapshot in force. One caller at a time: the reload.
    pub fn commit(&self, prepared: Prepared) -> Committed {
        let Prepared {
            mut snapshot,
            warnings,
            renewed,
            stored,
        } = prepared;
        for (name, pair) in stored {
            self.acme.issued.put_missing(name, pair);
        }
        let previous = self.snapshot();
        snapshot.generation = previous.generation + 1;
        let gone = previous.listeners.iter();
        let gone = gone.filter(|(name, _)| !snapshot.listeners.contains_key(*name));
        snapshot.gone = gone.map(|(name, it)| (name.clone(), it.clone())).collect();
        let snapshot = Arc::new(snapshot);
        self.spans.switch(snapshot.collector.is_some());
        self.current.store(Arc::clone(&snapshot));
        self.metrics.config_generation.set(snapshot.generation);
        self.pairs.retain(|pair| snapshot.names_pair(pair));
        self.staples.retain(|it| snapshot.shows(it));
        retire(&previous, &snapshot);
        Committed {
            snapshot,
            previous,
            warnings,
            renewed,
        }
    }

    /// Overrides the state of a backend, or takes that back: see
    /// [`Backend::say`](crate::upstream::Backend::say).
    ///
    /// # Errors
    /// If the configuration in force has no such backend.
    pub fn set_backend_state(
        &self,
        upstream: &str,
        backend: &str,
        state: Option<BackendState>,
    ) -> Result<(), NoSuchBackend> {
        let snapshot = self.snapshot();
        let upstream = snapshot.upstreams.get(upstream).ok_or(NoSuchBackend)?;
        let backends = upstream.backends();
        let found = backends.each().find(|one| &**one.name() == backend);
        found.ok_or(NoSuchBackend)?.say(state);
        Ok(())
    }

    /// Whether a certificate that was read too early may be loaded by now, or its
    /// OCSP response has begun or ended; said once.
    pub fn certificate_is_due(&self) -> bool {
        let now = SystemTime::now();
        self.pairs.take_due(now) | self.staples.take_due(now)
    }

    /// Closes pooled connections that have been idle too long.
    pub fn purge_idle(&self) {
        for upstream in self.snapshot().upstreams.values() {
            for backend in upstream.backends().each() {
                backend.purge_idle(upstream.settings().idle_connection_timeout);
            }
        }
    }
}

/// Tells the backends that are in force, and those that are no longer.
fn retire(previous: &Snapshot, next: &Snapshot) {
    for (name, upstream) in &previous.upstreams {
        let kept = next.upstreams.get(name).map(|kept| kept.backends());
        for backend in upstream.backends().each() {
            let stays = kept
                .as_ref()
                .is_some_and(|kept| kept.position(backend).is_some());
            if !stays {
                backend.retire();
                backend.say(None);
            }
        }
    }
    for upstream in next.upstreams.values() {
        upstream.join_backends();
    }
}

impl Snapshot {
    /// Routes whose limits for each client count what looks like a proxy.
    pub fn proxies_counted(&self) -> Vec<&str> {
        let routes = self.table.iter().map(|(_, entry)| &entry.route);
        let founded = routes.filter(|route| route.suspicion.is_founded());
        founded.map(|route| &*route.name).collect()
    }

    /// The listener that a connection has come by, even if this generation no
    /// longer has it.
    pub fn came_by(&self, listener: &str) -> Option<&Arc<ListenerState>> {
        let serving = self.listeners.get(listener);
        serving.or_else(|| self.gone.get(listener))
    }

    fn names_pair(&self, pair: &crate::config::CertificatePair) -> bool {
        let of_listeners = self
            .config
            .listeners
            .values()
            .flat_map(|listener| &listener.certificates)
            .map(|certificate| &certificate.pair);
        let of_upstreams = self
            .config
            .upstreams
            .values()
            .filter_map(|upstream| upstream.tls.client_certificate.as_ref());
        let admin = self.config.admin.iter();
        let of_admin = admin
            .flat_map(|admin| &admin.certificates)
            .map(|it| &it.pair);
        let mut all = of_listeners.chain(of_upstreams).chain(of_admin);
        all.any(|named| named == pair)
    }

    fn shows(&self, certificate: &ServedCertificate) -> bool {
        let mut listeners = self.config.listeners.values();
        let mut admin = self.config.admin.iter();
        listeners.any(|listener| listener.certificates.contains(certificate))
            || admin.any(|admin| admin.certificates.contains(certificate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Puts a config in force whose backend `a` is in this state.
    fn load(state: &State, backends: &str) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("longhaul.toml");
        let text = format!(
            "[listeners.main]\naddress = '127.0.0.1:1'\n[[routes]]\nupstream = 'app'\n\
             [upstreams.app]\nbackends = [{backends}]\n"
        );
        std::fs::write(&file, text).unwrap();
        let config = config::load(&file).result.unwrap();
        let prepared = state.prepare(config, 0).unwrap();
        state.commit(prepared);
    }

    #[test]
    fn a_renamed_listener_answers_to_its_old_name_for_one_generation() {
        let state = State::new();
        let a = "{ name = 'a', address = 'a:1' }";
        load(&state, a);
        let before = state.snapshot();
        let renamed = || {
            let mut config = before.config.clone();
            let mut main = config.listeners.remove("main").unwrap();
            main.name = "other".to_owned();
            config.listeners.insert("other".to_owned(), main);
            state.commit(state.prepare(config, 0).unwrap());
            state.snapshot()
        };
        let after = renamed();
        let serving = after.came_by("main").unwrap();
        assert!(Arc::ptr_eq(serving, &before.listeners["main"]));
        assert!(after.came_by("other").is_some());
        assert!(renamed().came_by("main").is_none());
    }

    fn of_a(state: &State) -> (BackendState, &'static str) {
        let backends = state.snapshot().upstreams["app"].backends();
        let listed = &backends.list()[0];
        (listed.state(), listed.state_by())
    }

    #[test]
    fn a_persons_word_outlives_reloads_until_the_file_says_otherwise() {
        use BackendState::{Active, Disabled, Draining};
        let state = State::new();
        let a = |word: &str| format!("{{ name = 'a', address = 'a:1', state = '{word}' }}");
        let b = "{ name = 'b', address = 'b:1' }";
        let say = |said| state.set_backend_state("app", "a", said).unwrap();
        load(&state, &a("active"));
        say(Some(Draining));
        assert_eq!(of_a(&state), (Draining, "operator"));
        load(&state, &format!("{}, {b}", a("active")));
        assert_eq!(of_a(&state), (Draining, "operator"));
        load(&state, &a("disabled"));
        assert_eq!(of_a(&state), (Disabled, "config"));
        say(Some(Active));
        assert_eq!(of_a(&state), (Active, "operator"));
        say(None);
        assert_eq!(of_a(&state), (Disabled, "config"));
        // Taken away and brought back is also a word of the file's.
        say(Some(Active));
        let held = state.snapshot().upstreams["app"].backends();
        load(&state, b);
        load(&state, &a("disabled"));
        assert_eq!(of_a(&state), (Disabled, "config"));
        drop(held);
        let missing = state.set_backend_state("app", "c", None);
        assert_eq!(missing, Err(NoSuchBackend));
        assert_eq!(state.set_backend_state("x", "a", None), Err(NoSuchBackend));
    }

    #[test]
    fn nobody_is_sent_to_a_backend_that_is_not_active() {
        let state = State::new();
        load(
            &state,
            "{ name = 'a', address = 'a:1' }, { name = 'b', address = 'b:1' }",
        );
        let backends = state.snapshot().upstreams["app"].backends();
        let key = (0..)
            .find(|key| backends.pick(Some(*key), &[]) == Some(0))
            .unwrap();
        state
            .set_backend_state("app", "a", Some(BackendState::Draining))
            .unwrap();
        assert_eq!(backends.pick(Some(key), &[]), Some(1));
        state
            .set_backend_state("app", "b", Some(BackendState::Disabled))
            .unwrap();
        assert_eq!(backends.pick(Some(key), &[]), None);
        assert!(!backends.in_panic() && !backends.may_use(0));
    }
}
