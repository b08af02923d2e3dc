//! Tells of lines of the log that nobody will read: as metrics, and in the log
//! itself, which may be read where its access lines are not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::logging::{Logging, LostLines};
use crate::metrics::{LostFrom, Metrics};

/// From one warning to the next at least.
const QUIET: Duration = Duration::from_secs(60);

pub(super) struct Lost {
    logging: Logging,
    metrics: Arc<Metrics>,
    warned: Option<Instant>,
    /// Of which somebody was warned.
    told: u64,
}

impl Lost {
    pub(super) fn new(logging: Logging, metrics: Arc<Metrics>) -> Self {
        let lost = Self {
            logging,
            metrics,
            warned: None,
            told: 0,
        };
        // There from the start, so that the first loss is an increase.
        lost.count();
        lost
    }

    pub(super) fn look(&mut self, now: Instant) {
        let all = self.count();
        let is_quiet = |warned| now.saturating_duration_since(warned) < QUIET;
        if all == self.told || self.warned.is_some_and(is_quiet) {
            return;
        }
        let lost = self.logging.lost();
        tracing::warn!(
            lines = all - self.told,
            access_write_failed = lost.access.write_failed,
            access_queue_full = lost.access.queue_full,
            log_write_failed = lost.log.write_failed,
            log_queue_full = lost.log.queue_full,
            "lines of the log are lost: their place cannot be written, or is too slow"
        );
        (self.told, self.warned) = (all, Some(now));
    }

    /// Brings the metrics up to date; how many it is in all.
    fn count(&self) -> u64 {
        let lost = self.logging.lost();
        self.of("log", lost.log) + self.of("access", lost.access)
    }

    fn of(&self, log: &'static str, lost: LostLines) -> u64 {
        let reasons = [
            ("queue_full", lost.queue_full),
            ("write_failed", lost.write_failed),
        ];
        for (reason, lines) in reasons {
            let counter = self.metrics.log_lines_lost.get(&LostFrom { log, reason });
            counter.inc_by(lines.saturating_sub(counter.get()));
        }
        lost.queue_full + lost.write_failed
    }
}
