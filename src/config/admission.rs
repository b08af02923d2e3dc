//! `admission` of an upstream: how many tunnels, and how many handshakes at
//! once, each of its backends is given.
//!
//! The values beside their reader; what is done with them is `upstream`'s.

use std::time::Duration;

use super::rate::{Rate, rate};
use super::section::Section;
use super::value::{POSITIVE, RETRY_AFTER, SECOND, duration, integer};

/// What each backend of an upstream is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Live tunnels; `None` is no limit.
    pub max_tunnels: Option<u32>,
    /// Handshakes that were sent and not yet answered.
    pub max_handshakes_in_flight: Option<usize>,
    pub handshake_rate: Option<Rate>,
    /// Handshakes that wait for one of those two.
    pub max_queued: usize,
    /// How long each may wait.
    pub queue_timeout: Duration,
    /// The least that a client is told to wait when no backend takes it.
    pub retry_after: Duration,
}

/// As many as the kernel has file descriptors for.
const MANY: u32 = 100_000_000;

/// `None` if there is no such table.
pub(super) fn admission(section: &Section<'_>) -> Option<Admission> {
    let allowed = "a table such as { max_tunnels = 20000, handshake_rate = \"200/s\" }";
    let table = section.subsection("admission", allowed)?;
    let admission = Admission {
        max_tunnels: table.optional("max_tunnels", integer(1, MANY)),
        max_handshakes_in_flight: table
            .optional("max_handshakes_in_flight", integer(1, MANY as usize)),
        handshake_rate: table.optional("handshake_rate", rate),
        max_queued: table.or("max_queued", 1000, integer(0, MANY as usize)),
        queue_timeout: table.or("queue_timeout", SECOND * 5, duration(POSITIVE)),
        retry_after: table.or("retry_after", SECOND * 5, duration(RETRY_AFTER)),
    };
    let queues = ["max_handshakes_in_flight", "handshake_rate"];
    let queues = queues.iter().any(|key| table.mentions(key));
    for key in ["max_queued", "queue_timeout"] {
        if table.value(key).is_some() && !queues {
            let title = &table.title;
            let message = format!(
                "`{key}` in {title} has no effect without `max_handshakes_in_flight` or \
                 `handshake_rate`"
            );
            table.report(key, message);
        }
    }
    table.finish();
    Some(admission)
}
