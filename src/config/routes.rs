//! `[[routes]]`: which requests go where.
//!
//! Deliberately does not decide which of two matching routes wins: that is
//! `route`'s.

use http::{HeaderName, HeaderValue, Method};

use super::auth::auth;
use super::diagnostic::{Diagnostic, Place};
use super::message_limits::message_limits;
use super::model::{Clocks, PingSide, Pings, Route};
use super::nearest::nearest;
use super::networks::networks;
use super::origins::origins;
use super::pattern::{HostPattern, PathPattern};
use super::route_limits::{route_limits, without_upgrades};
use super::section::{Section, Value, Wrong, describe, has_no_effect};
use super::value::{
    POSITIVE, SECOND, duration, duration_or_off, label, one_of, share, text, wrong, wrong_near,
};

const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
];
const PING_SIDES: &[(&str, PingSide)] = &[
    ("client", PingSide::Client),
    ("backend", PingSide::Backend),
    ("both", PingSide::Both),
];
/// Upgrades that hand a client a second, unseen HTTP connection behind the
/// proxy, or a tunnel to anywhere.
const NEVER: [&str; 3] = ["h2c", "h2", "connect"];

/// A route, and what is needed to check it against the others.
pub(super) struct RouteDraft {
    pub(super) route: Route,
    /// Where its upstream is named.
    pub(super) upstream_at: Place,
    /// Where `name` is written, or the section if it is not.
    pub(super) name_at: Place,
}

/// `None` if it has no usable upstream, host or path.
pub(super) fn route(section: Section<'_>) -> Option<RouteDraft> {
    let name = section.optional("name", label);
    let host_written = section.optional("host", |v| text(v, HOST).map(str::to_owned));
    let path_written = section.optional("path", |v| text(v, PATH).map(str::to_owned));
    let host = pattern(&section, "host", HOST, "*");
    let path = pattern(&section, "path", PATH, "/*");
    let upstream = section.required("upstream", label);
    let written_at = section.written_at();
    let (upstream_at, name_at) = (
        section.value("upstream").map(|value| value.place()),
        section.place_of("name"),
    );
    let route = Route {
        name: String::new(),
        host: HostPattern::Any,
        path: PathPattern::any(),
        methods: section.list("methods", "an array of methods such as \"GET\"", method),
        headers: headers(&section),
        subprotocols: section.list(
            "subprotocols",
            "an array of WebSocket subprotocols such as \"mqtt\"",
            |value| token(value, "a WebSocket subprotocol such as \"mqtt\""),
        ),
        upstream: String::new(),
        auth: auth(&section),
        upgrades: upgrades(&section),
        networks: networks(&section),
        limits: route_limits(&section),
        messages: message_limits(&section),
        origins: origins(&section),
        response_timeout: section.or("response_timeout", SECOND * 120, duration(POSITIVE)),
        response_idle_timeout: section.or("response_idle_timeout", None, duration_or_off(POSITIVE)),
        clocks: clocks(&section),
        place: written_at,
    };
    if route.upgrades.is_empty() {
        has_no_effect(&section, "allowed_origins", "`upgrades`");
        without_upgrades(&section);
        has_no_effect(&section, "message_limits", "`upgrades`");
    }
    section.finish();
    let host_written = host_written.unwrap_or_else(|| "*".to_owned());
    let path_written = path_written.unwrap_or_else(|| "/*".to_owned());
    Some(RouteDraft {
        route: Route {
            name: name.unwrap_or_else(|| format!("{host_written} {path_written}")),
            host: host?,
            path: path?,
            upstream: upstream?,
            ..route
        },
        upstream_at: upstream_at?,
        name_at,
    })
}

const HOST: &str = "a host such as \"chat.example.com\", \"*.example.com\" or \"*\"";
const PATH: &str = "a path such as \"/chat\", \"/ws/*\" or \"/doc/*/live\"";

/// A host or path; `None` if it is wrong.
fn pattern<T>(section: &Section<'_>, key: &'static str, allowed: &str, any: &str) -> Option<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let Some(value) = section.value(key) else {
        return any.parse().ok();
    };
    // What is not a string has its finding already.
    let written = text(&value, allowed).ok()?;
    match written.parse() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            value.wrong(Wrong {
                found: format!("{written:?}: {error}"),
                allowed: allowed.to_owned(),
                nearest: None,
            });
            None
        }
    }
}

fn clocks(section: &Section<'_>) -> Clocks {
    Clocks {
        handshake_timeout: section.or("handshake_timeout", SECOND * 10, duration(POSITIVE)),
        idle_timeout: section.or("idle_timeout", None, duration_or_off(POSITIVE)),
        half_close_timeout: section.or("half_close_timeout", SECOND * 30, duration(POSITIVE)),
        max_lifetime: section.or("max_lifetime", None, duration_or_off(POSITIVE)),
        max_lifetime_jitter: section.or("max_lifetime_jitter", 0.1, share),
        pings: pings(section),
    }
}

fn pings(section: &Section<'_>) -> Option<Pings> {
    let interval = section.or("ping_interval", None, duration_or_off(POSITIVE));
    let timeout = section.or("ping_timeout", SECOND * 20, duration(POSITIVE));
    let side = section.or("ping_side", PingSide::Both, one_of(PING_SIDES));
    interval.map(|interval| Pings {
        interval,
        timeout,
        side,
    })
}

fn method(value: &Value<'_>) -> Result<Method, Wrong> {
    let allowed = "a method in capitals, such as \"GET\"";
    let written = text(value, allowed)?;
    if written == "CONNECT" {
        return wrong(value, "any method but CONNECT, which is always refused");
    }
    if written.is_empty() || written.chars().any(|c| c.is_ascii_lowercase()) {
        let upper = written.to_ascii_uppercase();
        return wrong_near(value, allowed, nearest(&upper, METHODS));
    }
    Method::from_bytes(written.as_bytes()).or_else(|_| wrong(value, allowed))
}

fn headers(section: &Section<'_>) -> Vec<(HeaderName, Option<HeaderValue>)> {
    let allowed = "a table such as { x-tenant = \"a\" }, where \"*\" is any value";
    let Some(table) = section.subsection("headers", allowed) else {
        return Vec::new();
    };
    let mut headers: Vec<(HeaderName, Option<HeaderValue>)> = Vec::new();
    for (name, at, value) in table.entries() {
        let report = |message: String| table.findings.push(Diagnostic::new(at.clone(), message));
        let title = &table.title;
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            report(format!("{name:?} in {title} is not a header name"));
            continue;
        };
        if header == http::header::HOST {
            report(format!("`{name}` in {title} cannot be matched: use `host`"));
            continue;
        }
        if headers.iter().any(|(other, _)| *other == header) {
            report(format!(
                "`{name}` is twice in {title}: header names ignore case"
            ));
            continue;
        }
        match header_value(&value) {
            Ok(wanted) => headers.push((header, wanted)),
            Err(wrong) => value.wrong(wrong),
        }
    }
    headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    headers
}

/// `None` is any value.
fn header_value(value: &Value<'_>) -> Result<Option<HeaderValue>, Wrong> {
    let allowed = "the value that the header must have, or \"*\" for any";
    let written = text(value, allowed)?;
    if written == "*" {
        return Ok(None);
    }
    // Blanks around a value are no part of it (RFC 9110, 5.5).
    if written.trim() != written {
        return wrong_near(value, allowed, Some(written.trim().to_owned()));
    }
    match HeaderValue::from_str(written) {
        Ok(value) => Ok(Some(value)),
        Err(_) => wrong(value, allowed),
    }
}

/// Absent: WebSocket. Empty: none.
fn upgrades(section: &Section<'_>) -> Vec<String> {
    let allowed = "an array of upgrade protocols such as \"websocket\", or [] for none";
    let Some(value) = section.value("upgrades") else {
        return vec!["websocket".to_owned()];
    };
    let mut upgrades = Vec::new();
    for element in value.elements(allowed).unwrap_or_default() {
        match upgrade(&element) {
            Ok(name) if upgrades.contains(&name) => {}
            Ok(name) => upgrades.push(name),
            Err(wrong) => element.wrong(wrong),
        }
    }
    upgrades
}

fn upgrade(value: &Value<'_>) -> Result<String, Wrong> {
    let name = token(value, "an upgrade protocol such as \"websocket\"")?.to_ascii_lowercase();
    if NEVER.contains(&name.as_str()) {
        return wrong(value, "any upgrade protocol but h2c, h2 and connect");
    }
    Ok(name)
}

/// A token, with or without a version (RFC 9110, 5.6.2 and 7.8).
fn token(value: &Value<'_>, allowed: &str) -> Result<String, Wrong> {
    let written = text(value, allowed)?;
    let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    if written.is_empty() || !written.chars().all(is_tchar) {
        return Err(Wrong {
            found: describe(value.node()),
            allowed: allowed.to_owned(),
            nearest: None,
        });
    }
    Ok(written.to_owned())
}
