//! `[upstreams.*]`: groups of backends.

use super::admission::admission;
use super::backends::{backends, host_name};
use super::discovery::discovery;
use super::drain::backend_drain;
use super::ejection::ejection;
use super::health::{health, on_unhealthy};
use super::listeners::pair;
use super::model::{
    Backend, BackendAddress, Balance, OnRemoved, SameSite, Scheme, StickyCookie, StickySource,
    Upstream, UpstreamTls,
};
use super::named_files::NamedFiles;
use super::proxy_protocol;
use super::rebalance::rebalance;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::sticky;
use super::value::{
    COOKIE_AGE, POSITIVE, SECOND, boolean, duration, duration_or_off, integer, one_of, path, share,
    text, times_or_off, wrong,
};

const SCHEMES: &[(&str, Scheme)] = &[("http", Scheme::Http), ("https", Scheme::Https)];
const BALANCES: &[(&str, Balance)] = &[
    ("hash", Balance::Hash),
    ("least_connections", Balance::LeastConnections),
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
];
const REMOVALS: &[(&str, OnRemoved)] = &[("keep", OnRemoved::Keep), ("drain", OnRemoved::Drain)];
const SAME_SITES: &[(&str, SameSite)] = &[
    ("lax", SameSite::Lax),
    ("strict", SameSite::Strict),
    ("none", SameSite::None),
];
pub(super) fn upstream(name: &str, section: Section<'_>, files: &mut NamedFiles) -> Upstream {
    let scheme = section.or("scheme", Scheme::Http, one_of(SCHEMES));
    let (http2, websocket_over_http2) = http2(&section);
    let proxy_protocol = proxy_protocol::of_upstream(&section, http2);
    let balance = section.or("balance", Balance::Hash, one_of(BALANCES));
    let max_load = section.or("max_load", None, times_or_off);
    if balance != Balance::Hash {
        has_no_effect(&section, "max_load", "`balance = \"hash\"`");
    }
    let sticky = sticky::sources(&section, balance);
    let cookie = cookie(&section);
    if !sticky.contains(&StickySource::OwnCookie) {
        has_no_effect(&section, "cookie", "\"cookie\" in `sticky`");
    }
    let tls = tls(&section, files);
    if scheme == Scheme::Http {
        has_no_effect(&section, "tls", "`scheme = \"https\"`");
    }
    let tls = tls.unwrap_or_default();
    let backends = backends(&section);
    let discovery = discovery(&section);
    if section.value("backends").is_some() && section.value("discovery").is_some() {
        let title = &section.title;
        let message = format!("`discovery` in {title} cannot stand beside `backends`");
        section.report("discovery", message);
    }
    needs_server_name(&section, scheme, &tls, &backends);
    let upstream = Upstream {
        name: name.to_owned(),
        scheme,
        proxy_protocol,
        http2,
        websocket_over_http2,
        tls,
        balance,
        max_load,
        sticky,
        cookie,
        backends,
        discovery,
        dial_timeout: section.or("dial_timeout", SECOND * 3, duration(POSITIVE)),
        max_attempts: section.or("max_attempts", 3, integer(1, 100)),
        on_removed: section.or("on_removed", OnRemoved::Keep, one_of(REMOVALS)),
        drain: backend_drain(&section),
        max_idle_connections: section.or("max_idle_connections", 32, integer(0, 100_000)),
        idle_connection_timeout: section.or(
            "idle_connection_timeout",
            SECOND * 4,
            duration(POSITIVE),
        ),
        health: health(&section),
        on_unhealthy: on_unhealthy(&section),
        panic_threshold: section.or("panic_threshold", 0.0, share),
        admission: admission(&section),
        ejection: ejection(&section),
        slow_start: section.or("slow_start", None, duration_or_off(POSITIVE)),
        rebalance: rebalance(&section),
        place: section.written_at(),
    };
    section.finish();
    upstream
}

fn http2(section: &Section<'_>) -> (bool, bool) {
    let http2 = section.or("http2", false, boolean);
    let websocket_over_http2 = section.optional("websocket_over_http2", boolean);
    if !http2 && websocket_over_http2.is_some() {
        section.report(
            "websocket_over_http2",
            format!(
                "`websocket_over_http2` in {} has no effect without `http2 = true`",
                section.title
            ),
        );
    }
    (http2, websocket_over_http2.unwrap_or(false))
}

/// A finding if there is no name by which to verify a backend.
fn needs_server_name(
    section: &Section<'_>,
    scheme: Scheme,
    tls: &UpstreamTls,
    backends: &[Backend],
) {
    if scheme == Scheme::Http || tls.server_name.is_some() {
        return;
    }
    let is_unix = |backend: &Backend| matches!(backend.address, BackendAddress::Unix(_));
    let reason = if section.value("discovery").is_some() {
        "a backend that is discovered has only an address"
    } else if backends.iter().any(is_unix) {
        "a backend at a `unix:` address has no host name to verify"
    } else {
        return;
    };
    let title = &section.title;
    let message = format!("`scheme = \"https\"` in {title} needs `tls.server_name`: {reason}");
    section.report("scheme", message);
}

fn cookie(section: &Section<'_>) -> StickyCookie {
    let defaults = StickyCookie {
        name: "longhaul".to_owned(),
        same_site: SameSite::Lax,
        max_age: None,
        secure: false,
    };
    let allowed = "a table such as { name = \"longhaul\", same_site = \"lax\" }";
    let Some(table) = section.subsection("cookie", allowed) else {
        return defaults;
    };
    let cookie = StickyCookie {
        name: table.or("name", defaults.name, sticky::cookie_name),
        same_site: table.or("same_site", defaults.same_site, one_of(SAME_SITES)),
        max_age: table.or("max_age", None, duration_or_off(COOKIE_AGE)),
        secure: table.or("secure", false, boolean),
    };
    table.finish();
    cookie
}

/// `None` if there is no such table.
fn tls(section: &Section<'_>, files: &mut NamedFiles) -> Option<UpstreamTls> {
    let allowed = "a table such as { ca = \"FILE\", server_name = \"chat.internal\" }";
    let table = section.subsection("tls", allowed)?;
    let ca = table.optional("ca", path);
    if let (Some(ca), Some(value)) = (&ca, table.value("ca")) {
        files.add(ca, value.place());
    }
    let certificate =
        table.subsection("client_certificate", "{ chain = \"FILE\", key = \"FILE\" }");
    let client_certificate = certificate.and_then(|table| {
        let pair = pair(&table, files);
        table.finish();
        pair
    });
    let tls = UpstreamTls {
        ca,
        client_certificate,
        server_name: table.optional("server_name", server_name),
    };
    table.finish();
    Some(tls)
}

fn server_name(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "the name in the backend's certificate, such as \"chat.internal\"";
    let written = text(value, allowed)?;
    if !host_name(written) && written.parse::<std::net::IpAddr>().is_err() {
        return wrong(value, allowed);
    }
    Ok(written.to_ascii_lowercase())
}
