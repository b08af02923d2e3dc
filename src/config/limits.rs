//! `[limits]` and `[tcp]`.

use super::model::{Limits, Tcp};
use super::section::Section;
use super::value::{KEEPALIVE, POSITIVE, SECOND, USER_TIMEOUT, duration, integer, size};

/// More than the kernel has file descriptors for.
const MANY: usize = 100_000_000;
/// hyper refuses to read with less.
const SMALLEST_HEAD: usize = 8 << 10;
const LARGEST_HEAD: usize = 1 << 20;

pub(super) fn limits(section: Section<'_>) -> Limits {
    let time = |key, seconds: u32| section.or(key, SECOND * seconds, duration(POSITIVE));
    let limits = Limits {
        max_connections: section.optional("max_connections", integer(1, MANY)),
        max_connections_per_address: section
            .optional("max_connections_per_address", integer(1, MANY)),
        max_tls_handshakes: section.or("max_tls_handshakes", 1024, integer(1, MANY)),
        max_request_head: section.or(
            "max_request_head",
            32 << 10,
            size(SMALLEST_HEAD, LARGEST_HEAD, "from \"8KiB\" to \"1MiB\""),
        ),
        max_request_headers: section.or("max_request_headers", 100, integer(1, 10_000)),
        first_byte_timeout: time("first_byte_timeout", 10),
        tls_handshake_timeout: time("tls_handshake_timeout", 10),
        request_head_timeout: time("request_head_timeout", 10),
        keepalive_timeout: time("keepalive_timeout", 75),
        request_body_timeout: time("request_body_timeout", 60),
    };
    section.finish();
    limits
}

pub(super) fn tcp(section: Section<'_>) -> Tcp {
    let tcp = Tcp {
        keepalive_idle: section.or("keepalive_idle", SECOND * 30, duration(KEEPALIVE)),
        keepalive_interval: section.or("keepalive_interval", SECOND * 10, duration(KEEPALIVE)),
        // TCP_KEEPCNT goes up to 127 (tcp(7), net/ipv4/tcp.c).
        keepalive_probes: section.or("keepalive_probes", 3, integer(1, 127)),
        user_timeout: section.or("user_timeout", SECOND * 60, duration(USER_TIMEOUT)),
    };
    section.finish();
    tcp
}
