//! The buckets of one thing that is counted: one for all, and one for each client
//! once there is a limit for that.

use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::pace::{Moment, Pace, nanoseconds};
use super::sketch::Sketch;
use crate::config::RateLimits;

#[derive(Debug)]
pub(super) struct Buckets {
    began: Instant,
    all: Mutex<Moment>,
    clients: OnceLock<Sketch>,
}

/// Which rate is passed, and how long until one more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    All(Duration),
    Client(Duration),
}

impl Buckets {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            all: Mutex::default(),
            clients: OnceLock::new(),
        }
    }

    /// Counts one. What one client has too much of counts for nobody else.
    ///
    /// # Errors
    /// If it is one too many.
    pub(super) fn take(
        &self,
        limits: RateLimits,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Over> {
        let now = nanoseconds(now.saturating_duration_since(self.began));
        if let (Some(rate), Some(client)) = (limits.per_client, client) {
            let clients = self.clients.get_or_init(Sketch::default);
            clients
                .take(&client, rate.into(), now)
                .map_err(Over::Client)?;
        }
        if let Some(rate) = limits.all {
            let mut full = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            *full = Pace::from(rate).take(*full, now).map_err(Over::All)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clients_flood_leaves_the_others_their_share() {
        let began = Instant::now();
        let buckets = Buckets::new(began);
        let limits = RateLimits {
            all: Some("10/s".parse().unwrap()),
            per_client: Some("4/s".parse().unwrap()),
        };
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|it| it.parse().ok());
        let take = |client| buckets.take(limits, client, began);
        let passed = |client| (0..100).filter(|_| take(client).is_ok()).count();
        assert_eq!(passed(a), 4);
        assert_eq!(passed(b), 4);
        assert_eq!(passed(c), 2);
        assert!(matches!(take(a), Err(Over::Client(_))));
        assert!(matches!(take(None), Err(Over::All(_))));
        let later = began + Duration::from_millis(100);
        assert_eq!(buckets.take(limits, None, later), Ok(()));
    }
}
