//! One moment by both clocks.
//!
//! Waits go by the clock that nobody sets, or a step of the calendar would end
//! them all at once or draw them out for years; certificates have dates.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) date: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            instant: Instant::now(),
            date: SystemTime::now(),
        }
    }

    /// Zero if that is past.
    pub(super) fn until(self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.instant)
    }

    /// Zero if that is past.
    pub(super) fn until_date(self, date: SystemTime) -> Duration {
        date.duration_since(self.date).unwrap_or_default()
    }
}
