//! One backend, and the counted use of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::health::{Changes, Health, LastProbe};
use super::http2::Http2Pool;
use super::pool::Pool;
use super::resolve::Resolver;
use crate::balance;
use crate::config;

/// One address of an upstream. Shared by every snapshot that lists it, and by
/// every lease.
#[derive(Debug)]
pub struct Backend {
    /// What is hashed.
    id: u64,
    /// What longhaul's own cookie says for it.
    cookie_value: String,
    upstream: Arc<str>,
    name: Arc<str>,
    address: config::BackendAddress,
    leases: AtomicU32,
    tunnels: AtomicU32,
    requests: AtomicU64,
    retired: AtomicBool,
    pub(super) health: Health,
    pub(super) pool: Pool,
    pub(super) http2: Http2Pool,
    pub(super) resolver: Resolver,
}

/// A counted use of a backend, to the end of the exchange or of the tunnel.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    tunnel: bool,
}

impl Backend {
    pub(super) fn new(upstream: &str, settings: &config::Backend, changes: Changes) -> Self {
        let id = balance::member_id(&settings.name);
        let group = balance::key_hash(upstream.as_bytes());
        let token = balance::key_hash(&(group ^ id).to_le_bytes());
        Self {
            id,
            cookie_value: format!("{token:016x}"),
            upstream: upstream.into(),
            name: settings.name.as_str().into(),
            address: settings.address.clone(),
            leases: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            health: Health::new(changes),
            pool: Pool::default(),
            http2: Http2Pool::default(),
            resolver: Resolver::default(),
        }
    }

    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn address(&self) -> &config::BackendAddress {
        &self.address
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn cookie_value(&self) -> &str {
        &self.cookie_value
    }

    /// Live tunnels and requests in flight.
    pub fn load(&self) -> u32 {
        self.leases.load(Ordering::Relaxed)
    }

    /// Live tunnels.
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Leases ever given.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The last probe of it; `None` if it is not probed.
    pub fn last_probe(&self) -> Option<LastProbe> {
        self.health.last_probe()
    }

    /// Called when a configuration takes the backend away or brings it back: a
    /// retired one keeps no idle connections.
    pub fn set_retired(&self, retired: bool) {
        self.retired.store(retired, Ordering::Release);
        if retired {
            self.pool.clear();
            self.http2.clear();
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Closes idle connections older than the limit.
    pub fn purge_idle(&self, timeout: std::time::Duration) {
        self.pool.purge(timeout);
        self.http2.purge(timeout);
    }
}

impl Lease {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        backend.leases.fetch_add(1, Ordering::Relaxed);
        backend.requests.fetch_add(1, Ordering::Relaxed);
        Self {
            backend,
            tunnel: false,
        }
    }

    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The exchange has become a tunnel.
    pub fn into_tunnel(mut self) -> Self {
        self.backend.tunnels.fetch_add(1, Ordering::Relaxed);
        self.tunnel = true;
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.leases.fetch_sub(1, Ordering::Relaxed);
        if self.tunnel {
            self.backend.tunnels.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
