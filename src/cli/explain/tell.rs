//! What is said about a request at the place of the router and the proxy.

use std::fmt::Write as _;
use std::sync::Arc;

use http::Request;

use super::request::Spelling;
use crate::config::{Balance, ClientCertificates, LimitedSide, MessageLimits, Rate, RouteLimits};
use crate::exchange::headers::renew_hop_by_hop;
use crate::exchange::{Body, Exchange, Refusal, Target};
use crate::guard;
use crate::proxy::{self, Affinity};
use crate::route::{self, PRECEDENCE};
use crate::state::Snapshot;
use crate::upstream::Upstream;
use crate::ws::handshake;

pub(super) fn tell(
    text: &mut String,
    snapshot: &Snapshot,
    mut request: Request<Body>,
) -> Result<(), Refusal> {
    tell_routes(text, snapshot, &request);
    let host = request
        .extensions()
        .get::<Target>()
        .map_or("", |target| target.host.as_str());
    let route = snapshot
        .table
        .lookup(&route::Request {
            host,
            path: request.uri().path(),
            method: request.method(),
            headers: request.headers(),
        })
        .map(|entry| Arc::clone(&entry.route))
        .ok_or(Refusal::NoRoute)?;
    line(text, "route", &route.name);
    let asked = proxy::asked_upgrade(&route, &request)?;
    if asked.as_deref() == Some(handshake::WEBSOCKET) {
        handshake::check_request(request.method(), request.version(), request.headers())?;
    }
    proxy::may_enter(&route, &request, asked.is_some())?;
    tell_limits(text, &route.settings.limits, asked.is_some());
    if let Some(limits) = route.settings.messages.filter(|_| asked.is_some()) {
        tell_messages(text, &limits);
    }
    tell_origin(text, &route, &request, asked.is_some());
    tell_identity(text, &route);
    tell_backend(text, &route, &request);
    renew_hop_by_hop(request.headers_mut(), asked.as_deref());
    tell_head(text, &request);
    Ok(())
}

fn tell_routes(text: &mut String, snapshot: &Snapshot, request: &Request<Body>) {
    let host = request
        .extensions()
        .get::<Target>()
        .map_or("", |target| target.host.as_str());
    let looked_up = route::Request {
        host,
        path: request.uri().path(),
        method: request.method(),
        headers: request.headers(),
    };
    line(text, "routes", "the first that matches, in this order:");
    for considered in snapshot.table.explain(&looked_up) {
        let verdict = if considered.matches() {
            "matches".to_owned()
        } else {
            let misses: Vec<String> = considered.misses.iter().map(ToString::to_string).collect();
            format!("not for this: {}", misses.join(", "))
        };
        line(
            text,
            "",
            &format!("- {}: {verdict}", considered.target.route.name),
        );
    }
    line(text, "order", PRECEDENCE);
}

/// What a request must show; whether this one does is not looked at.
fn tell_identity(text: &mut String, route: &proxy::Route) {
    let settings = &route.settings;
    if let Some(basic_auth) = &settings.basic_auth {
        let users = basic_auth.users.display();
        line(text, "shows", &format!("a password of {users}"));
    }
    if let Some(jwt) = &settings.jwt {
        let keys = &jwt.keys;
        line(text, "shows", &format!("a token signed by a key of {keys}"));
    }
    if let Some(auth) = &settings.auth {
        line(text, "asks", &format!("{} about it", auth.upstream));
    }
}

/// What the listener asks its clients for; this one is explained as if it had none.
pub(super) fn certificate(asked: &ClientCertificates) -> String {
    let mut text = format!("a certificate of {}", asked.ca.display());
    if !asked.required {
        text.push_str(", or none");
    }
    if let Some(header) = &asked.subject_header {
        // Writing to a String cannot fail.
        let _ = write!(text, "; the backend gets its subject in {header}");
    }
    text
}

/// What it would be counted against.
fn tell_limits(text: &mut String, limits: &RouteLimits, is_upgrade: bool) {
    let rate = |key: &str, rate: Option<Rate>| rate.map(|rate| format!("{key} {rate}"));
    let most = |key: &str, most: Option<usize>| most.map(|most| format!("{key} {most}"));
    let (handshakes, requests, tunnels) = (limits.handshakes, limits.requests, limits.tunnels);
    let counts: Vec<Option<String>> = match is_upgrade {
        true => vec![
            rate("handshake_rate", handshakes.all),
            rate("handshake_rate_per_client", handshakes.per_client),
            most("max_tunnels", tunnels.all),
            most("max_tunnels_per_client", tunnels.per_client),
            most("max_tunnels_per_sticky_key", tunnels.per_sticky_key),
        ],
        false => vec![
            rate("request_rate", requests.all),
            rate("request_rate_per_client", requests.per_client),
        ],
    };
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    if !counts.is_empty() {
        line(text, "limits", &counts.join(", "));
    }
}

/// What its tunnel could carry.
fn tell_messages(text: &mut String, limits: &MessageLimits) {
    let bytes = |key: &str, most: Option<u64>| most.map(|most| format!("{key} {most}B"));
    let side = match limits.side {
        LimitedSide::Client => "client",
        LimitedSide::Backend => "backend",
        LimitedSide::Both => "both",
    };
    let words = [
        bytes("max_frame", limits.max_frame),
        bytes("max_message", limits.max_message),
        limits.message_rate.map(|it| format!("message_rate {it}")),
        limits
            .byte_rate
            .map(|it| format!("byte_rate {}B in {}s", it.bytes, it.per)),
        Some(format!("side {side}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    line(text, "messages", &words.join(", "));
}

/// Why a page may open a tunnel, where not all may.
fn tell_origin(text: &mut String, route: &proxy::Route, request: &Request<Body>, is_upgrade: bool) {
    let Some(origins) = route.settings.origins.as_ref().filter(|_| is_upgrade) else {
        return;
    };
    let why = match guard::letting_in(origins, request.headers()) {
        Some(allowed) => format!("let in by {:?}", allowed.to_string()),
        None => "none told, which missing_origin allows".to_owned(),
    };
    line(text, "origin", &why);
}

fn tell_backend(text: &mut String, route: &proxy::Route, request: &Request<Body>) {
    let Some(exchange) = request.extensions().get::<Exchange>() else {
        return;
    };
    let upstream = &route.upstream;
    let affinity = proxy::affinity(upstream, exchange, request.uri(), request.headers());
    line(
        text,
        "sticky",
        &sticky(upstream, exchange, request, &affinity),
    );
    line(text, "upstream", upstream.name());
    let backends = upstream.backends();
    let own = affinity.backend.as_ref();
    let own = own.and_then(|backend| backends.position(backend));
    let Some(index) = own
        .filter(|index| backends.may_use(*index))
        .or_else(|| backends.pick(affinity.key, &[]))
    else {
        let none = match upstream.settings().discovery {
            Some(_) => "one of those that are discovered when it runs",
            None => "none can be tried",
        };
        line(text, "backend", none);
        return;
    };
    let by_key = affinity.backend.is_some()
        || affinity.key.is_some() && upstream.settings().balance == Balance::Hash;
    let note = if by_key {
        ""
    } else {
        " (this time: the pick does not depend on a key)"
    };
    let backend = backends.get(index);
    line(
        text,
        "backend",
        &format!("{} at {}{note}", backend.name(), backend.address()),
    );
    if affinity.sets_cookie && own != Some(index) {
        let (cookie, value) = (&upstream.settings().cookie, backend.cookie_value());
        line(text, "cookie", &format!("set to {}={value}", cookie.name));
    }
}

/// The source, the key itself and its hash.
fn sticky(
    upstream: &Upstream,
    exchange: &Exchange,
    request: &Request<Body>,
    affinity: &Affinity,
) -> String {
    let mut text = affinity.source.to_string();
    if let Some(hash) = affinity.key {
        let (uri, headers) = (request.uri(), request.headers());
        if let Some(key) = proxy::sticky_key(upstream, exchange, uri, headers) {
            // Writing to a String cannot fail.
            let _ = write!(text, " {:?}", String::from_utf8_lossy(&key));
        }
        let _ = write!(text, ", key hash {hash:016x}");
    }
    text
}

/// Byte for byte as it goes on the wire, but for line ends.
fn tell_head(text: &mut String, request: &Request<Body>) {
    text.push_str("\nthe backend would get:\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} {} HTTP/1.1", request.method(), request.uri());
    let spelling = request.extensions().get::<Spelling>().cloned();
    let spelling = spelling.unwrap_or_default();
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).iter();
        for (index, value) in values.enumerate() {
            let value = String::from_utf8_lossy(value.as_bytes());
            let _ = writeln!(text, "{}: {value}", spelling.of(name, index));
        }
    }
}

pub(super) fn line(text: &mut String, what: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{what:<9} {value}");
}
