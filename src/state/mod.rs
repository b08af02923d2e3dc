//! How a configuration becomes routable things, and the one handle that swaps
//! them.
//!
//! [`State::prepare`] does everything that can fail and is invisible to others;
//! [`State::commit`] cannot fail. Requests take the snapshot of the moment they
//! arrive and keep it to their end.

mod changes;
mod live;
mod prepare;
mod router;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::Semaphore;

pub use changes::changes;
pub use live::{LastReload, Live};
pub use prepare::{Prepared, Warning};

use crate::config::{Config, Diagnostics, OnRemoved};
use crate::exchange::{Refusal, Stack};
use crate::metrics::{Metrics, OfBackend};
use crate::proxy;
use crate::route::Table;
use crate::tls::{Pairs, Tickets};
use crate::tunnel::Registry;
use crate::upstream::{Backend, Roster, Standing, Upstream};

/// What lives as long as the process, whatever the configuration.
#[derive(Debug)]
pub struct State {
    // The only user of arc-swap, so that it can be replaced here alone; only
    // `load_full`, no guard outlives a statement.
    current: ArcSwap<Snapshot>,
    pub roster: Roster,
    pairs: Pairs,
    tickets: Tickets,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
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
    /// Turns for TLS handshakes; the same over reloads that do not change
    /// their number.
    pub tls_handshakes: Arc<Semaphore>,
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    pub table: Arc<Table<RouteEntry>>,
}

/// What a connection of one listener needs.
#[derive(Debug)]
pub struct ListenerState {
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether its clients may speak HTTP/2.
    pub http2: bool,
    /// Whether they may open WebSockets over it.
    pub websocket_over_http2: bool,
    /// The layers around every request.
    pub stack: Stack<Infallible>,
}

/// One route: its own layers, and its facts for `check --explain`.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    pub stack: Stack<Refusal>,
    pub route: Arc<proxy::Route>,
}

/// What a commit did.
#[derive(Debug)]
pub struct Committed {
    pub snapshot: Arc<Snapshot>,
    pub previous: Arc<Snapshot>,
    /// Backends that are gone and whose tunnels are to be drained.
    pub to_drain: Vec<Arc<Backend>>,
    pub warnings: Vec<Warning>,
    /// Certificates whose files have new content.
    pub renewed: Vec<PathBuf>,
}

impl State {
    /// Holds the empty configuration: no listeners, no routes.
    pub fn new() -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::empty()),
            roster: Roster::default(),
            pairs: Pairs::default(),
            tickets: Tickets::default(),
            registry: Registry::new(),
            metrics: Arc::default(),
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
        } = prepared;
        let previous = self.snapshot();
        snapshot.generation = previous.generation + 1;
        let snapshot = Arc::new(snapshot);
        self.current.store(Arc::clone(&snapshot));
        self.metrics.config_generation.set(snapshot.generation);
        self.pairs.retain(|pair| snapshot.names_pair(pair));
        let to_drain = retire(&previous, &snapshot);
        Committed {
            snapshot,
            previous,
            to_drain,
            warnings,
            renewed,
        }
    }

    /// The metrics page, with what is only true at this moment.
    pub fn metrics_page(&self) -> String {
        self.metrics.backend_up.clear();
        for upstream in self.snapshot().upstreams.values() {
            for (index, backend) in upstream.backends().iter().enumerate() {
                let labels = OfBackend {
                    upstream: upstream.name().to_string(),
                    backend: backend.name().to_string(),
                };
                let up = i64::from(upstream.standing(index) == Standing::Up);
                self.metrics.backend_up.get_or_create(&labels).set(up);
            }
        }
        self.metrics.text()
    }

    /// Closes pooled connections that have been idle too long.
    pub fn purge_idle(&self) {
        for upstream in self.snapshot().upstreams.values() {
            for backend in upstream.backends() {
                backend.purge_idle(upstream.settings().idle_connection_timeout);
            }
        }
    }
}

/// Tells the backends that are gone, and says whose tunnels are to be drained.
fn retire(previous: &Snapshot, next: &Snapshot) -> Vec<Arc<Backend>> {
    for upstream in next.upstreams.values() {
        for backend in upstream.backends() {
            backend.set_retired(false);
        }
    }
    let mut to_drain = Vec::new();
    for (name, upstream) in &previous.upstreams {
        let kept = next.upstreams.get(name);
        // What the new file says decides, while it still has the upstream.
        let policy = kept.unwrap_or(upstream).settings().on_removed;
        for backend in upstream.backends() {
            let stays =
                kept.is_some_and(|kept| kept.backends().iter().any(|b| Arc::ptr_eq(b, backend)));
            if stays {
                continue;
            }
            backend.set_retired(true);
            if policy == OnRemoved::Drain {
                to_drain.push(Arc::clone(backend));
            }
        }
    }
    to_drain
}

impl Snapshot {
    fn names_pair(&self, pair: &crate::config::CertificatePair) -> bool {
        let of_listeners = self
            .config
            .listeners
            .values()
            .flat_map(|listener| &listener.certificates);
        let of_upstreams = self
            .config
            .upstreams
            .values()
            .filter_map(|upstream| upstream.tls.client_certificate.as_ref());
        of_listeners.chain(of_upstreams).any(|named| named == pair)
    }
}
