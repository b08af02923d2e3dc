//! `backends` of an upstream: names and addresses.
//!
//! Invariant: within one upstream neither a name nor an address comes twice.

use super::diagnostic::{Diagnostic, Place};
use super::model::{Backend, BackendAddress, BackendState};
use super::section::{Section, Value, Wrong};
use super::value::{integer, label, one_of, socket_path, text, wrong, wrong_near};

const BACKENDS: &str = "an array of { name = \"NAME\", address = \"HOST:PORT\" }";
const ADDRESS: &str = "a host and port such as \"10.0.0.11:9000\" or \"[fd00::1]:9000\", \
                       or \"unix:\" and a path";

pub(super) fn backends(section: &Section<'_>) -> Vec<Backend> {
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
    let state = table.or("state", BackendState::Active, one_of(BackendState::WORDS));
    table.finish();
    Some(Backend {
        name: name.or(written)?,
        address: address?,
        weight,
        state,
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
pub(super) fn host_name(host: &str) -> bool {
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
