//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client_network;

/// The limits and what is taken of them.
#[derive(Debug)]
pub struct Limiter {
    open: AtomicUsize,
    most: AtomicUsize,
    most_per_address: AtomicUsize,
    // Only addresses with an open connection are in it, so `most` bounds it.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one open connection; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    network: Option<IpAddr>,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("max_connections are open")]
    Full,
    #[error("max_connections_per_address are open from this address")]
    AddressFull,
}

impl Refused {
    /// The word for it in log and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "max_connections",
            Self::AddressFull => "max_connections_per_address",
        }
    }
}

impl Limiter {
    /// Limits that a reload may change with [`Limiter::set`].
    pub fn new(most: usize, most_per_address: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            most_per_address: AtomicUsize::new(most_per_address.unwrap_or(usize::MAX)),
            by_address: Mutex::default(),
        })
    }

    /// New limits for new connections; open ones stay.
    pub fn set(&self, most: usize, most_per_address: Option<usize>) {
        self.most.store(most, Ordering::Relaxed);
        self.most_per_address
            .store(most_per_address.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// # Errors
    /// Which limit is reached.
    pub fn admit(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<Permit, Refused> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        // From here on the drop gives back what was taken.
        let mut permit = Permit {
            limiter: Arc::clone(self),
            network: None,
        };
        permit.count(ip)?;
        Ok(permit)
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Counts are changed in one step, so they hold after any panic.
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Counts under another address: who the client is may be known only when
    /// the proxy before it has said so.
    ///
    /// # Errors
    /// If as many are open from there as may be; it counts under none then.
    pub fn count(&mut self, ip: Option<IpAddr>) -> Result<(), Refused> {
        let network = ip.map(client_network);
        if network == self.network {
            return Ok(());
        }
        self.uncount();
        let Some(network) = network else {
            return Ok(());
        };
        let mut by_address = self.limiter.by_address();
        let most = self.limiter.most_per_address.load(Ordering::Relaxed);
        let open = by_address.get(&network).copied().unwrap_or(0);
        if open >= most {
            return Err(Refused::AddressFull);
        }
        by_address.insert(network, open + 1);
        self.network = Some(network);
        Ok(())
    }

    fn uncount(&mut self) {
        let Some(network) = self.network.take() else {
            return;
        };
        let mut by_address = self.limiter.by_address();
        if let Some(open) = by_address.get_mut(&network) {
            *open -= 1;
            if *open == 0 {
                by_address.remove(&network);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.open.fetch_sub(1, Ordering::Relaxed);
        self.uncount();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_are_given_back() {
        let limiter = Limiter::new(3, Some(2));
        let one: Option<IpAddr> = Some("2001:db8::1".parse().unwrap());
        let neighbour: Option<IpAddr> = Some("2001:db8::2".parse().unwrap());
        let other: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        let held = [
            limiter.admit(one).unwrap(),
            limiter.admit(neighbour).unwrap(),
        ];
        assert_eq!(limiter.admit(one).unwrap_err(), Refused::AddressFull);
        let third = limiter.admit(other).unwrap();
        assert_eq!(limiter.admit(None).unwrap_err(), Refused::Full);
        // Whose it is may be said later.
        let mut moved = third;
        assert_eq!(moved.count(one), Err(Refused::AddressFull));
        drop(held);
        assert_eq!(moved.count(one), Ok(()));
        assert_eq!(moved.count(neighbour), Ok(()), "the same network");
        assert_eq!(limiter.by_address().len(), 1);
        drop(moved);
        assert_eq!(limiter.open(), 0);
        assert!(limiter.by_address().is_empty());
    }
}
