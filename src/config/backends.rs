//! `backends` of an upstream: names and addresses.
//!
//! Invariant: within one upstream neither a name nor an address comes twice.

use std::net::Ipv6Addr;

use super::diagnostic::{Diagnostic, Place};
use super::model::{Backend, BackendAddress, BackendState};
use super::section::{Section, Value, Wrong};
use super::value::{integer, label, one_of, socket_path, text, wrong, wrong_near};

const BACKENDS: &str = "an array of { name = \"NAME\", address = \"HOST:PORT\" }";
const ADDRESS: &str = "a host and port such as \"10.0.0.11:9000\" or \"[fd00::1]:9000\", \
                       or \"unix:\" and a path";

pub(super) fn backends(section: &Section<'_>) -> Vec<Backend> {
    let Some(value) = section.value("backends") else {
        if !section.mentions("discovery") {
            section.missing("backends");
        }
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
    if let Some(address) = BackendAddress::tcp(written) {
        return Ok(address);
    }
    match written.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && is_port(port) => {
            wrong_near(value, ADDRESS, Some(format!("[{host}]:{port}")))
        }
        _ => wrong(value, ADDRESS),
    }
}

impl BackendAddress {
    /// A host and port as the config writes them.
    pub fn tcp(written: &str) -> Option<Self> {
        let (host, port) = written.rsplit_once(':').filter(|(_, port)| is_port(port))?;
        let port = port.parse().ok()?;
        if let Some(v6) = host.strip_prefix('[') {
            let v6 = v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
            let host = v6.to_string();
            return Some(Self::Tcp { host, port });
        }
        let host = host_name(host).then(|| host.to_ascii_lowercase())?;
        Some(Self::Tcp { host, port })
    }
}

/// `u16::from_str` also takes a sign.
fn is_port(written: &str) -> bool {
    written.bytes().all(|byte| byte.is_ascii_digit())
        && written.parse::<u16>().is_ok_and(|port| port > 0)
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
