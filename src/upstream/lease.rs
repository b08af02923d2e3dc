//! The counted use of a backend, to the end of the exchange or of the tunnel.
//!
//! It counts and decides nothing but whether one more tunnel is too many.
//!
//! Invariant: the counts are those of the leases that live, whatever becomes of
//! them and in whatever order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Backend;

/// What uses one backend at the moment.
#[derive(Debug, Default)]
pub(super) struct Counts {
    leases: AtomicU32,
    tunnels: AtomicU32,
    /// Tunnels, and handshakes that may become one.
    places: AtomicU32,
    /// Leases ever given.
    given: AtomicU64,
}

/// A counted use of a backend.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    used_for: Use,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Request,
    Handshake,
    Tunnel,
}

impl Counts {
    pub(super) fn leases(&self) -> u32 {
        self.leases.load(Ordering::Relaxed)
    }

    pub(super) fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Tunnels, and handshakes that may become one.
    pub(super) fn places(&self) -> u32 {
        self.places.load(Ordering::Relaxed)
    }

    pub(super) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Takes a place; whether there were fewer than `most`.
    fn take_place(&self, most: Option<u32>) -> bool {
        let more = |places: u32| (most.is_none_or(|most| places < most)).then_some(places + 1);
        self.places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

impl Lease {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        backend.counts.leases.fetch_add(1, Ordering::Relaxed);
        backend.counts.given.fetch_add(1, Ordering::Relaxed);
        Self {
            backend,
            used_for: Use::Request,
        }
    }

    /// One for what may become a tunnel; `None` if there are `most` already.
    pub(super) fn for_handshake(backend: Arc<Backend>, most: Option<u32>) -> Option<Self> {
        backend.counts.take_place(most).then(|| {
            let mut lease = Self::new(backend);
            lease.used_for = Use::Handshake;
            lease
        })
    }

    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The exchange has become a tunnel.
    pub fn into_tunnel(mut self) -> Self {
        let counts = &self.backend.counts;
        if self.used_for == Use::Request {
            counts.take_place(None);
        }
        counts.tunnels.fetch_add(1, Ordering::Relaxed);
        self.used_for = Use::Tunnel;
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let counts = &self.backend.counts;
        counts.leases.fetch_sub(1, Ordering::Relaxed);
        if self.used_for == Use::Tunnel {
            counts.tunnels.fetch_sub(1, Ordering::Relaxed);
        }
        if self.used_for != Use::Request {
            counts.places.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{self, BackendState};
    use crate::upstream::Changes;

    fn backend() -> Arc<Backend> {
        let settings = config::Backend {
            name: "a".to_owned(),
            address: config::BackendAddress::Tcp {
                host: "a".to_owned(),
                port: 1,
            },
            weight: 1,
            state: BackendState::Active,
        };
        Arc::new(Backend::new("app", &settings, Changes::default()))
    }

    const MOST: u32 = 20;

    proptest! {
        /// Against a plain list of what lives.
        #[test]
        fn the_counts_are_exact(steps in proptest::collection::vec((0..4, any::<usize>()), 0..2000)) {
            let backend = backend();
            let mut live: Vec<Lease> = Vec::new();
            for (step, at) in steps {
                let index = (!live.is_empty()).then(|| at % live.len());
                let places = live.iter().filter(|lease| lease.used_for != Use::Request).count();
                match (step, index) {
                    (0, _) => live.push(Lease::new(Arc::clone(&backend))),
                    (1, _) => {
                        let lease = Lease::for_handshake(Arc::clone(&backend), Some(MOST));
                        prop_assert_eq!(lease.is_some(), places < MOST as usize);
                        live.extend(lease);
                    }
                    (2, Some(index)) if live[index].used_for == Use::Handshake => {
                        let lease = live.swap_remove(index);
                        live.push(lease.into_tunnel());
                    }
                    (3, Some(index)) => drop(live.swap_remove(index)),
                    _ => {}
                }
                let of = |used_for| live.iter().filter(|lease| lease.used_for == used_for).count();
                let (tunnels, handshakes) = (of(Use::Tunnel), of(Use::Handshake));
                prop_assert_eq!(backend.load() as usize, live.len());
                prop_assert_eq!(backend.tunnels() as usize, tunnels);
                prop_assert_eq!(backend.handshakes() as usize, handshakes);
            }
            drop(live);
            prop_assert!(backend.load() == 0 && !backend.has_tunnels());
        }
    }

    /// A million events from several threads leave nothing behind, and the bound
    /// is never passed.
    #[test]
    fn the_counts_are_exact_from_many_threads() {
        let backend = backend();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let backend = &backend;
                scope.spawn(move || {
                    for event in 0..125_000_u32 {
                        let Some(lease) = Lease::for_handshake(Arc::clone(backend), Some(3)) else {
                            continue;
                        };
                        assert!(backend.counts.places() <= 3);
                        if (event + thread).is_multiple_of(2) {
                            drop(lease.into_tunnel());
                        }
                    }
                });
            }
        });
        assert_eq!((backend.load(), backend.tunnels()), (0, 0));
        assert_eq!((backend.handshakes(), backend.has_tunnels()), (0, false));
    }
}
