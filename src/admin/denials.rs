//! What was refused before anybody was let in: counted, and told in the log as often
//! as strangers cannot fill it.
//!
//! Who is let in `access`, `dress` and `listen` decide.
//!
//! Invariant: each is counted; lines of the log are bounded, those that one address
//! causes and all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::StatusCode;
use http::request::Parts;

use super::endpoints::{Endpoint, changes};
use super::fields::Wrong;
use super::person::{Caller, Peer};
use crate::config::{Rate, RateLimits};
use crate::guard::Buckets;
use crate::metrics::{Metrics, Refused};
use crate::net;
use crate::tls::AcceptError;

/// Lines about those who come by TCP, and about those of one address.
const OF_ADDRESSES: RateLimits = RateLimits {
    all: Some(Rate::each_minute(60)),
    per_client: Some(Rate::each_minute(10)),
};
/// Lines about users of this machine, whom nobody from elsewhere may hide.
const OF_USERS: RateLimits = RateLimits {
    all: Some(Rate::each_minute(60)),
    per_client: None,
};

/// The words for answers in the metrics.
const UNAUTHORIZED: &str = "unauthorized";
const FORBIDDEN: &str = "forbidden";

#[derive(Debug)]
pub(super) struct Denials {
    metrics: Arc<Metrics>,
    addresses: Buckets,
    users: Buckets,
    /// Lines that were left out since the last one.
    suppressed: AtomicU64,
}

impl Denials {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        // There from the start, so that the first is an increase.
        let words = [net::Refused::AddressFull.label(), UNAUTHORIZED, FORBIDDEN];
        for refusal in words {
            metrics.admin_refusals.get(&Refused { refusal });
        }
        let began = Instant::now();
        Self {
            metrics,
            addresses: Buckets::new(began),
            users: Buckets::new(began),
            suppressed: AtomicU64::new(0),
        }
    }

    /// A connection is closed unheard.
    pub(super) fn closed(&self, peer: Peer, refused: net::Refused) {
        self.count(refused.label());
        tracing::debug!(%peer, %refused, "admin connection refused");
    }

    /// No certificate, none that is good, or no TLS. Whoever shows one means to come
    /// in; the rest is what every port hears.
    pub(super) fn undressed(&self, peer: Peer, error: &AcceptError) {
        let refusal = error.label();
        self.count(refusal);
        match error {
            AcceptError::BadClientCertificate(_) | AcceptError::NoClientCertificate => {
                if let Some(suppressed) = self.tells(peer, Instant::now()) {
                    tracing::warn!(%peer, refusal, %error, suppressed, "admin tls handshake failed");
                }
            }
            _ => tracing::debug!(%peer, refusal, %error, "admin tls handshake failed"),
        }
    }

    /// Somebody had no right to what they asked for, which is not even read. In the log
    /// is what would have changed something.
    pub(super) fn denied(&self, caller: &Caller, head: &Parts, wrong: &Wrong) {
        self.count(match wrong.status {
            StatusCode::UNAUTHORIZED => UNAUTHORIZED,
            _ => FORBIDDEN,
        });
        let (peer, path) = (caller.peer, head.uri.path());
        if !changes(&head.method, path) {
            return;
        }
        let Some(suppressed) = self.tells(peer, Instant::now()) else {
            return;
        };
        let who = match (&caller.certificate, wrong.status) {
            (Some(certificate), _) => certificate.who(),
            (None, StatusCode::UNAUTHORIZED) => "unknown".to_owned(),
            (None, _) => "not an operator".to_owned(),
        };
        let action = Endpoint::action_at(path).unwrap_or("unknown");
        let (status, reason) = (wrong.status.as_u16(), &*wrong.message);
        tracing::warn!(
            %who, %peer, action, outcome = "refused", status, reason, suppressed,
            "operator action"
        );
    }

    fn count(&self, refusal: &'static str) {
        self.metrics.admin_refusals.get(&Refused { refusal }).inc();
    }

    /// Whether the log is to have one more line, and how many it did not have since
    /// the last.
    fn tells(&self, peer: Peer, now: Instant) -> Option<u64> {
        let taken = match peer.ip().map(net::client_network) {
            None => self.users.take(OF_USERS, None, now),
            client => self.addresses.take(OF_ADDRESSES, client, now),
        };
        match taken {
            Ok(()) => Some(self.suppressed.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.suppressed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn denials() -> Denials {
        Denials::new(Arc::default())
    }

    fn from(address: &str) -> Peer {
        Peer::Address(address.parse().unwrap())
    }

    #[test]
    fn one_address_hides_nobody_else_and_no_stranger_a_user() {
        let (denials, now) = (denials(), Instant::now());
        let told = |peer: Peer| {
            let lines = (0..1000).filter(|_| denials.tells(peer, now).is_some());
            lines.count()
        };
        assert_eq!(told(from("192.0.2.1:1")), 10);
        // By its port nobody is another.
        assert_eq!(told(from("192.0.2.1:2")), 0);
        assert_eq!(told(from("192.0.2.2:1")), 10);
        assert_eq!(told(from("[2001:db8::1]:1")), 10);
        assert_eq!(told(from("[2001:db8::2]:1")), 0);
        // However many there are.
        let strangers = (3..250).map(|host| from(&format!("192.0.2.{host}:1")));
        assert_eq!(strangers.map(told).sum::<usize>(), 30);
        assert_eq!(told(Peer::User { uid: 7, gid: 8 }), 60);
    }

    #[test]
    fn the_next_line_says_how_many_were_left_out() {
        let (denials, now) = (denials(), Instant::now());
        let stranger = from("192.0.2.1:1");
        for _ in 0..10 {
            assert_eq!(denials.tells(stranger, now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(denials.tells(stranger, now), None);
        }
        let later = now + Duration::from_secs(6);
        assert_eq!(denials.tells(stranger, later), Some(7));
        assert_eq!(denials.tells(stranger, later), None);
        let other = from("192.0.2.2:1");
        assert_eq!(denials.tells(other, later), Some(1));
        assert_eq!(denials.tells(other, later), Some(0));
    }
}
