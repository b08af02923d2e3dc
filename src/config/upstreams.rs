//! `[upstreams.*]`: groups of backends.

use super::diagnostic::{Diagnostic, Place};
use super::health::{health, on_unhealthy};
use super::listeners::pair;
use super::model::{
    Backend, BackendAddress, Balance, OnRemoved, SameSite, Scheme, StickyCookie, StickySource,
    Upstream, UpstreamTls,
};
use super::named_files::NamedFiles;
use super::section::{Section, Value, Wrong};
use super::sticky;
use super::value::{
    COOKIE_AGE, POSITIVE, SECOND, boolean, duration, duration_or_off, integer, label, one_of, path,
    share, socket_path, text, wrong, wrong_near,
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
const BACKENDS: &str = "an array of { name = \"NAME\", address = \"HOST:PORT\" }";
const ADDRESS: &str = "a host and port such as \"10.0.0.11:9000\" or \"[fd00::1]:9000\", \
                       or \"unix:\" and a path";

pub(super) fn upstream(name: &str, section: Section<'_>, files: &mut NamedFiles) -> Upstream {
    let scheme = section.or("scheme", Scheme::Http, one_of(SCHEMES));
    let (http2, websocket_over_http2) = http2(&section);
    let balance = section.or("balance", Balance::Hash, one_of(BALANCES));
    let sticky = sticky::sources(&section, balance);
    let cookie = cookie(&section);
    if section.value("cookie").is_some() && !sticky.contains(&StickySource::OwnCookie) {
        section.report(
            "cookie",
            format!(
                "`cookie` in {} has no effect without \"cookie\" in `sticky`",
                section.title
            ),
        );
    }
    let tls = tls(&section, files);
    if tls.is_some() && scheme == Scheme::Http {
        section.report(
            "tls",
            format!(
                "`tls` in {} has no effect without `scheme = \"https\"`",
                section.title
            ),
        );
    }
    let tls = tls.unwrap_or_default();
    let backends = backends(&section);
    let unnamed = backends
        .iter()
        .any(|backend| matches!(backend.address, BackendAddress::Unix(_)))
        && tls.server_name.is_none();
    if scheme == Scheme::Https && unnamed {
        section.report(
            "scheme",
            format!(
                "`scheme = \"https\"` in {} needs `tls.server_name`: \
                 a backend at a `unix:` address has no host name to verify",
                section.title
            ),
        );
    }
    let upstream = Upstream {
        name: name.to_owned(),
        scheme,
        http2,
        websocket_over_http2,
        tls,
        balance,
        sticky,
        cookie,
        backends,
        dial_timeout: section.or("dial_timeout", SECOND * 3, duration(POSITIVE)),
        max_attempts: section.or("max_attempts", 3, integer(1, 100)),
        on_removed: section.or("on_removed", OnRemoved::Keep, one_of(REMOVALS)),
        max_idle_connections: section.or("max_idle_connections", 32, integer(0, 100_000)),
        idle_connection_timeout: section.or(
            "idle_connection_timeout",
            SECOND * 30,
            duration(POSITIVE),
        ),
        health: health(&section),
        on_unhealthy: on_unhealthy(&section),
        panic_threshold: section.or("panic_threshold", 0.0, share),
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
    let tls = UpstreamTls {
        ca,
        client_certificate: certificate.and_then(|table| pair(table, files)),
        server_name: table.optional("server_name", server_name),
    };
    table.finish();
    Some(tls)
}

fn backends(section: &Section<'_>) -> Vec<Backend> {
    let Some(value) = section.value("backends") else {
        section.missing("backends");
        return Vec::new();
    };
    let elements = value.elements(BACKENDS).unwrap_or_default();
    if elements.is_empty() && value.node().is_array() {
        value.wrong(Wrong {
            found: "an empty array".to_owned(),
            allowed: format!("{BACKENDS}, at least one"),
            nearest: None,
        });
    }
    let mut backends: Vec<(Backend, (Place, Place))> = Vec::new();
    for element in elements {
        let title = format!("`backends` of {}", section.title);
        let Some(table) = element.section(title, "{ name = \"NAME\", address = \"HOST:PORT\" }")
        else {
            continue;
        };
        let places = (table.place_of("name"), table.place_of("address"));
        let Some(backend) = backend(table) else {
            continue;
        };
        let title = &section.title;
        for (other, (name_at, address_at)) in &backends {
            if other.name == backend.name {
                let message = format!("two backends named `{}` in {title}", other.name);
                section.findings.push(
                    Diagnostic::new(places.0.clone(), message).see("the first is", name_at.clone()),
                );
            }
            if other.address == backend.address {
                let message = format!(
                    "`{}` has the address of `{}` in {title}",
                    backend.name, other.name
                );
                section.findings.push(
                    Diagnostic::new(places.1.clone(), message)
                        .see("the first is", address_at.clone()),
                );
            }
        }
        backends.push((backend, places));
    }
    backends.into_iter().map(|(backend, _)| backend).collect()
}

/// Without a `name` it is called by its address as written.
fn backend(table: Section<'_>) -> Option<Backend> {
    let name = table.optional("name", label);
    let written = table.required("address", |v| text(v, ADDRESS).map(str::to_owned));
    let address = written
        .is_some()
        .then(|| table.optional("address", address))
        .flatten();
    let weight = table.or("weight", 1, integer(1, 1000));
    table.finish();
    Some(Backend {
        name: name.or(written)?,
        address: address?,
        weight,
    })
}

fn address(value: &Value<'_>) -> Result<BackendAddress, Wrong> {
    let written = text(value, ADDRESS)?;
    if let Some(path) = written.strip_prefix("unix:") {
        return Ok(BackendAddress::Unix(socket_path(value, path)?));
    }
    if let Some((_, rest)) = written.split_once("://") {
        let allowed = format!("{ADDRESS}; whether it is https says `scheme` of the upstream");
        let near = rest.trim_end_matches('/');
        return wrong_near(value, allowed, Some(near.to_owned()));
    }
    if written.starts_with('/') {
        return wrong_near(value, ADDRESS, Some(format!("unix:{written}")));
    }
    let Some((host, port)) = written.rsplit_once(':') else {
        return wrong(value, ADDRESS);
    };
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 && port_digits(written) => port,
        _ => return wrong(value, ADDRESS),
    };
    if let Some(v6) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return match v6.parse::<std::net::Ipv6Addr>() {
            Ok(address) => Ok(BackendAddress::Tcp {
                host: address.to_string(),
                port,
            }),
            Err(_) => wrong(value, ADDRESS),
        };
    }
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return wrong_near(value, ADDRESS, Some(format!("[{host}]:{port}")));
    }
    if !host_name(host) {
        return wrong(value, ADDRESS);
    }
    Ok(BackendAddress::Tcp {
        host: host.to_ascii_lowercase(),
        port,
    })
}

/// `u16::from_str` also takes a sign.
fn port_digits(written: &str) -> bool {
    !written.contains('+')
}

/// A name or IPv4 address. Underscores are no part of a host name, but of
/// many names that container tools hand out.
fn host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn server_name(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "the name in the backend's certificate, such as \"chat.internal\"";
    let written = text(value, allowed)?;
    if !host_name(written) && written.parse::<std::net::IpAddr>().is_err() {
        return wrong(value, allowed);
    }
    Ok(written.to_ascii_lowercase())
}
