//! `health` of an upstream: how its backends are probed.
//!
//! The values beside their reader; what is done with them is `upstream`'s.
//!
//! Invariant: a key that has no effect with the chosen `type` is a mistake.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::diagnostic::Diagnostic;
use super::section::{Section, Value, Wrong};
use super::value::{
    POSITIVE, SECOND, boolean, duration, integer, one_of, share, text, wrong, wrong_near,
};

/// How each backend of an upstream is probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub probe: Probe,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// Share of `interval`, 0.0–1.0, that is taken off at random.
    pub jitter: f64,
    /// For one probe, from dialling to its verdict.
    pub timeout: Duration,
    /// Good probes in a row that bring a backend up.
    pub rise: u32,
    /// Failed probes in a row that take it down.
    pub fall: u32,
    /// What a backend counts as before its first verdict.
    pub initial: Initial,
}

/// What a probe does once it is connected, TLS included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing: being connected is all.
    Tcp,
    /// A GET whose answer is looked at.
    Http {
        request: ProbeRequest,
        /// A text that the body's first 64 KiB must contain.
        body: Option<String>,
    },
    /// An opening handshake (RFC 6455 section 4.1).
    WebSocket {
        request: ProbeRequest,
        /// Whether a Ping must be answered.
        ping: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Path and query.
    pub path: String,
    /// Beside what the probe itself sends; `host` replaces the backend's address.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Good statuses; empty is 2xx, or 101 for a handshake.
    pub status: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    Up,
    Down,
}

/// What becomes of the live tunnels of a backend that goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnhealthy {
    Keep,
    Drain,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    WebSocket,
}

const KINDS: &[(&str, Kind)] = &[
    ("tcp", Kind::Tcp),
    ("http", Kind::Http),
    ("websocket", Kind::WebSocket),
];
const INITIALS: &[(&str, Initial)] = &[("up", Initial::Up), ("down", Initial::Down)];
const POLICIES: &[(&str, OnUnhealthy)] =
    &[("keep", OnUnhealthy::Keep), ("drain", OnUnhealthy::Drain)];
/// What a probe says itself, and what would change what its answer means.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "content-length",
    "transfer-encoding",
    "expect",
];

/// `None` if there is no such table.
pub(super) fn health(section: &Section<'_>) -> Option<Health> {
    let allowed = "a table such as { type = \"websocket\", path = \"/ws\" }";
    let table = section.subsection("health", allowed)?;
    let kind = table.required("type", one_of(KINDS));
    let request = ProbeRequest {
        path: table.or("path", "/".to_owned(), request_path),
        headers: headers(&table),
        status: table.list("status", STATUS, integer(100, 599)),
    };
    let body = table.optional("body", body);
    let ping = table.or("ping", false, boolean);
    let health = Health {
        probe: match kind {
            Some(Kind::Http) => Probe::Http { request, body },
            Some(Kind::WebSocket) => Probe::WebSocket { request, ping },
            Some(Kind::Tcp) | None => Probe::Tcp,
        },
        interval: table.or("interval", SECOND * 5, duration(POSITIVE)),
        jitter: table.or("jitter", 0.2, share),
        timeout: table.or("timeout", SECOND * 2, duration(POSITIVE)),
        rise: table.or("rise", 2, integer(1, 1000)),
        fall: table.or("fall", 3, integer(1, 1000)),
        initial: table.or("initial", Initial::Up, one_of(INITIALS)),
    };
    for (key, kinds, needed) in [
        (
            "path",
            &[Kind::Http, Kind::WebSocket][..],
            "\"http\" or \"websocket\"",
        ),
        (
            "headers",
            &[Kind::Http, Kind::WebSocket],
            "\"http\" or \"websocket\"",
        ),
        (
            "status",
            &[Kind::Http, Kind::WebSocket],
            "\"http\" or \"websocket\"",
        ),
        ("body", &[Kind::Http], "\"http\""),
        ("ping", &[Kind::WebSocket], "\"websocket\""),
    ] {
        if table.value(key).is_some() && kind.is_some_and(|kind| !kinds.contains(&kind)) {
            let title = &table.title;
            let message = format!("`{key}` in {title} has no effect without `type = {needed}`");
            table.report(key, message);
        }
    }
    table.finish();
    Some(health)
}

pub(super) fn on_unhealthy(section: &Section<'_>) -> OnUnhealthy {
    section.or("on_unhealthy", OnUnhealthy::Keep, one_of(POLICIES))
}

const STATUS: &str = "an array of statuses such as 200";

/// Path and query of a request that longhaul itself makes.
pub(super) fn request_path(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "a path such as \"/ws\" or \"/health?full=1\"";
    let written = text(value, allowed)?;
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !written.starts_with('/') {
        return wrong_near(value, allowed, Some(format!("/{written}")));
    }
    match written.bytes().all(plain) && written.parse::<http::uri::PathAndQuery>().is_ok() {
        true => Ok(written.to_owned()),
        false => wrong(value, allowed),
    }
}

fn body(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "a text that the answer's body must contain, not empty";
    match text(value, allowed)? {
        "" => wrong(value, allowed),
        written => Ok(written.to_owned()),
    }
}

fn headers(section: &Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let allowed = "a table such as { host = \"chat.example.com\" }";
    let Some(table) = section.subsection("headers", allowed) else {
        return Vec::new();
    };
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, at, value) in table.entries() {
        let report = |message: String| table.findings.push(Diagnostic::new(at.clone(), message));
        let title = &table.title;
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            report(format!("{name:?} in {title} is not a header name"));
            continue;
        };
        if OWN_HEADERS.contains(&header.as_str()) {
            report(format!("`{name}` in {title} is what the probe itself says"));
            continue;
        }
        if headers.iter().any(|(other, _)| *other == header) {
            report(format!(
                "`{name}` is twice in {title}: header names ignore case"
            ));
            continue;
        }
        let read = |value: &Value<'_>| {
            let allowed = "the value of a header";
            let written = text(value, allowed)?;
            HeaderValue::from_str(written).or_else(|_| wrong(value, allowed))
        };
        match read(&value) {
            Ok(value) => headers.push((header, value)),
            Err(wrong) => value.wrong(wrong),
        }
    }
    headers
}
