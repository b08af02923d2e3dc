//! `[http2]`: what one HTTP/2 connection of a client may use and do.
//!
//! The values beside their reader; what is done with them is `server`'s.

use std::time::Duration;

use super::section::Section;
use super::value::{POSITIVE, SECOND, duration, duration_or_off, integer, share, size};

/// Bounds of each HTTP/2 connection of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Http2 {
    /// Requests and tunnels at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub max_streams: u32,
    /// Bytes that a client may send on a stream before they are passed on
    /// (SETTINGS_INITIAL_WINDOW_SIZE).
    pub stream_window: usize,
    /// Requests reset by the client before they were answered, in ten seconds.
    pub max_early_resets: u32,
    /// Streams that had to be reset for what the client did, in the
    /// connection's life.
    pub max_stream_errors: usize,
    /// Frames that ask for work and bring nothing, in ten seconds.
    pub max_control_frames: u32,
    /// Between two pings of longhaul's own; `None` is off.
    pub ping_interval: Option<Duration>,
    /// For the answer to one.
    pub ping_timeout: Duration,
    /// Until the client is asked to open another connection; `None` is off.
    pub max_connection_age: Option<Duration>,
    /// Share of `max_connection_age`, 0.0–1.0, that is taken off at random.
    pub max_connection_age_jitter: f64,
}

const SMALLEST_WINDOW: usize = 4 << 10;
const LARGEST_WINDOW: usize = 16 << 20;

pub(super) fn http2(section: Section<'_>) -> Http2 {
    let http2 = Http2 {
        max_streams: section.or("max_streams", 256, integer(1, 100_000)),
        stream_window: section.or(
            "stream_window",
            64 << 10,
            size(
                SMALLEST_WINDOW,
                LARGEST_WINDOW,
                "from \"4KiB\" to \"16MiB\"",
            ),
        ),
        max_early_resets: section.or("max_early_resets", 200, integer(1, 1_000_000)),
        max_stream_errors: section.or("max_stream_errors", 1000, integer(1, 1_000_000)),
        max_control_frames: section.or("max_control_frames", 1000, integer(10, 1_000_000)),
        ping_interval: section.or(
            "ping_interval",
            Some(SECOND * 60),
            duration_or_off(POSITIVE),
        ),
        ping_timeout: section.or("ping_timeout", SECOND * 20, duration(POSITIVE)),
        max_connection_age: section.or(
            "max_connection_age",
            Some(SECOND * 3600),
            duration_or_off(POSITIVE),
        ),
        max_connection_age_jitter: section.or("max_connection_age_jitter", 0.1, share),
    };
    section.finish();
    http2
}
