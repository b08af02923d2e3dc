//! The buckets of one thing that is counted: one for all, and one for each client
//! once there is a limit for that.

use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::pace::{Kept, Moment, Pace, nanoseconds};
use super::sketch::Sketch;
use crate::config::RateLimits;

#[derive(Debug)]
pub struct Buckets {
    began: Instant,
    all: Mutex<Bucket>,
    /// A table for each family of addresses: of IPv6 a single person can have so
    /// many that nobody of IPv4 shall share one with them.
    v4: OnceLock<Sketch>,
    v6: OnceLock<Sketch>,
}

#[derive(Debug, Default)]
struct Bucket {
    full: Moment,
    pace: Kept,
}

/// Which rate is passed, and how long until one more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    All(Duration),
    Client(Duration),
}

impl Buckets {
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            all: Mutex::default(),
            v4: OnceLock::new(),
            v6: OnceLock::new(),
        }
    }

    /// Counts one. What one client has too much of counts for nobody else; `client` is
    /// as `net::client_network` says it.
    ///
    /// # Errors
    /// If it is one too many.
    pub fn take(
        &self,
        limits: RateLimits,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Over> {
        let now = nanoseconds(now.saturating_duration_since(self.began));
        if let (Some(rate), Some(client)) = (limits.per_client, client) {
            let clients = match client {
                IpAddr::V4(_) => &self.v4,
                IpAddr::V6(_) => &self.v6,
            };
            let clients = clients.get_or_init(Sketch::default);
            clients
                .take(client, rate.into(), now)
                .map_err(Over::Client)?;
        }
        if let Some(rate) = limits.all {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.take(rate.into(), now).map_err(Over::All)?;
        }
        Ok(())
    }
}

impl Bucket {
    fn take(&mut self, pace: Pace, now: Moment) -> Result<(), Duration> {
        if let Some(before) = self.pace.change(pace) {
            self.full = pace.take_over(before, self.full, now);
        }
        self.full = pace.take(self.full, now)?;
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

    #[test]
    fn a_raised_rate_counts_from_the_next_one_on() {
        let began = Instant::now();
        let buckets = Buckets::new(began);
        let client = "192.0.2.1".parse().ok();
        let take = |all: &str, per_client: &str| {
            let limits = RateLimits {
                all: Some(all.parse().unwrap()),
                per_client: Some(per_client.parse().unwrap()),
            };
            buckets.take(limits, client, began)
        };
        assert_eq!([(); 2].map(|()| take("2/h", "2/h")), [Ok(()); 2]);
        assert!(matches!(take("2/h", "2/h"), Err(Over::Client(_))));
        assert!(matches!(take("2/h", "1000/s"), Err(Over::All(_))));
        assert_eq!(take("1000/s", "1000/s"), Ok(()));
        // What was taken is not forgotten.
        let passed = (0..2000).filter(|_| take("1000/s", "1000/s").is_ok());
        assert_eq!(passed.count(), 996);
    }
}
