//! Session tickets: stateless, with keys that rotate, shared by generations.
//!
//! A ticket carries the client's certificate (or that there was none), and a
//! resumed handshake asks for it no more (RFC 8446 section 2.2; rustls checks
//! neither the CA nor whether one is required). So tickets belong to the
//! policy about client certificates under which they were issued, not to the
//! listener and not to the process.
//!
//! Keys live in memory only and are replaced every six hours; a ticket is good
//! for twelve at most. Nothing is kept per session.
//!
//! Invariant: a ticket is accepted only under the very policy it was issued
//! under: the same CA certificates, and the same answer to "is one required".

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;

use crate::exchange::CaDigest;

/// The ticket keys of the process, by client certificate policy.
///
/// Make one and pass it to every [`super::server_config`]: then tickets stay
/// good over reloads. Keys of a policy end with its last configuration.
#[derive(Default)]
pub struct Tickets {
    by_policy: Mutex<HashMap<Policy, Weak<Shared>>>,
}

/// Which clients a listener lets in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Policy {
    /// Client certificates are not asked for.
    Anyone,
    /// Sorted and without duplicates: order does not change who is let in.
    Certified {
        cas: Vec<CertificateDer<'static>>,
        required: bool,
    },
}

impl Policy {
    pub(super) fn certified(mut cas: Vec<CertificateDer<'static>>, required: bool) -> Self {
        cas.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        cas.dedup();
        Self::Certified { cas, required }
    }

    /// Of the CAs, sorted; `None` if any client is let in.
    pub(super) fn digests(&self) -> Option<Arc<[CaDigest]>> {
        let Self::Certified { cas, .. } = self else {
            return None;
        };
        let mut digests: Vec<CaDigest> = cas.iter().map(of_ca).collect();
        digests.sort_unstable();
        Some(digests.into())
    }
}

fn of_ca(ca: &CertificateDer<'static>) -> CaDigest {
    let mut bytes = CaDigest::default();
    bytes.copy_from_slice(digest(&SHA256, ca).as_ref());
    bytes
}

impl Tickets {
    /// The keys of `policy`, made if no live configuration has them.
    pub(super) fn of(&self, policy: Policy) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        // A map of weak handles is sound whatever its holder died of.
        let mut by_policy = self
            .by_policy
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = by_policy.get(&policy).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        let shared = Arc::new(Shared(Ticketer::new()?));
        by_policy.retain(|_, weak| weak.strong_count() > 0);
        by_policy.insert(policy, Arc::downgrade(&shared));
        Ok(shared)
    }
}

/// A sized handle, because the maker of tickets is handed out unsized.
struct Shared(Arc<dyn ProducesTickets>);

impl ProducesTickets for Shared {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::certificates::Ca;

    fn opens(tickets: &Tickets, sealed: &[u8], policy: Policy) -> bool {
        tickets.of(policy).unwrap().decrypt(sealed).is_some()
    }

    #[test]
    fn tickets_open_under_their_own_policy_only() {
        let tickets = Tickets::default();
        let (a, b) = (Ca::new("a").certificate(), Ca::new("b").certificate());
        let required = Policy::certified(vec![a.clone(), b.clone()], true);
        let keys = tickets.of(required).unwrap();
        let sealed = keys.encrypt(b"session").unwrap();
        let same = Policy::certified(vec![b, a.clone(), a.clone()], true);
        assert!(opens(&tickets, &sealed, same.clone()));
        let Policy::Certified { cas, .. } = same else {
            unreachable!()
        };
        assert!(!opens(&tickets, &sealed, Policy::certified(cas, false)));
        assert!(!opens(&tickets, &sealed, Policy::certified(vec![a], true)));
        assert!(!opens(&tickets, &sealed, Policy::Anyone));
    }

    /// Each key seals for half of it, and opens for all of it.
    #[test]
    fn tickets_live_for_twelve_hours() {
        let keys = Tickets::default().of(Policy::Anyone).unwrap();
        assert_eq!(keys.lifetime(), 12 * 60 * 60);
    }

    #[test]
    fn keys_end_with_their_last_user() {
        let tickets = Tickets::default();
        let policy = || Policy::certified(vec![Ca::new("a").certificate()], true);
        for _ in 0..3 {
            drop(tickets.of(policy()).unwrap());
        }
        let kept = tickets.of(Policy::Anyone).unwrap();
        assert_eq!(tickets.by_policy.lock().unwrap().len(), 1);
        drop(kept);
    }
}
