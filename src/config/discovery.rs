//! `discovery` of an upstream: where its backends are found while it runs.
//!
//! The values beside their reader; what is done with them is `upstream`'s.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::backends::host_name;
use super::model::Config;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{POSITIVE, SECOND, duration, integer, one_of, path, text, wrong, wrong_near};

/// Where the backends of an upstream are found, and how often it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    pub source: Source,
    /// Not sooner than this, whatever an answer's time to live.
    pub min_ttl: Duration,
    /// Not later.
    pub max_ttl: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Dns(DnsQuery),
    /// A file in Prometheus' `file_sd` form.
    File(PathBuf),
}

impl Config {
    /// The files in which backends are found.
    pub fn discovery_files(&self) -> impl Iterator<Item = &Path> {
        let sources = self.upstreams.values();
        let sources = sources.filter_map(|upstream| Some(&upstream.discovery.as_ref()?.source));
        sources.filter_map(|source| match source {
            Source::File(path) => Some(path.as_path()),
            Source::Dns(_) => None,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuery {
    pub name: String,
    pub record: DnsRecord,
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsRecord {
    /// IPv4 addresses, and the port that is the same for all.
    A(u16),
    /// IPv6 addresses.
    Aaaa(u16),
    /// Names and ports.
    Srv,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    A,
    Aaaa,
    Srv,
}

const KINDS: &[(&str, Kind)] = &[("A", Kind::A), ("AAAA", Kind::Aaaa), ("SRV", Kind::Srv)];

/// `None` if there is no such table, or nothing usable in it.
pub(super) fn discovery(section: &Section<'_>) -> Option<Discovery> {
    let allowed = "a table such as { dns = \"chat.internal\", port = 9000 } or \
                   { file = \"backends.json\" }";
    let table = section.subsection("discovery", allowed)?;
    let source = source(&table);
    let min_ttl = table.or("min_ttl", SECOND * 5, duration(POSITIVE));
    let max_ttl = table.or("max_ttl", (SECOND * 3600).max(min_ttl), duration(POSITIVE));
    if max_ttl < min_ttl {
        let message = format!("`max_ttl` in {} is shorter than `min_ttl`", table.title);
        table.report("max_ttl", message);
    }
    table.finish();
    Some(Discovery {
        source: source?,
        min_ttl,
        max_ttl,
    })
}

fn source(table: &Section<'_>) -> Option<Source> {
    let name = table.optional("dns", dns_name);
    let file = table.optional("file", path);
    let kind = table.or("type", Kind::A, one_of(KINDS));
    let servers = "an array of addresses such as \"10.0.0.2\" or \"127.0.0.1:8600\"";
    let servers = table.list("servers", servers, server);
    let port = table.optional("port", integer(1, u16::MAX));
    let title = &table.title;
    match (table.mentions("dns"), table.mentions("file")) {
        (true, false) => {
            let record = record(table, kind, port);
            Some(Source::Dns(DnsQuery {
                name: name?,
                record: record?,
                servers,
            }))
        }
        (false, true) => {
            for key in ["type", "port", "servers"] {
                has_no_effect(table, key, "`dns`");
            }
            file.map(Source::File)
        }
        (true, true) => {
            table.report(
                "file",
                format!("`file` in {title} cannot stand beside `dns`"),
            );
            None
        }
        (false, false) => {
            table.report("dns", format!("missing key `dns` or `file` in {title}"));
            None
        }
    }
}

fn record(table: &Section<'_>, kind: Kind, port: Option<u16>) -> Option<DnsRecord> {
    if kind == Kind::Srv {
        has_no_effect(table, "port", "`type` \"A\" or \"AAAA\"");
        return Some(DnsRecord::Srv);
    }
    if table.value("port").is_none() {
        table.missing("port");
    }
    match kind {
        Kind::A => port.map(DnsRecord::A),
        _ => port.map(DnsRecord::Aaaa),
    }
}

fn dns_name(value: &Value<'_>) -> Result<String, Wrong> {
    let allowed = "a name such as \"chat.internal\" or \"_ws._tcp.chat.internal\"";
    let written = text(value, allowed)?;
    if written.parse::<IpAddr>().is_ok() || !host_name(written) {
        return wrong(value, allowed);
    }
    Ok(written.to_ascii_lowercase())
}

/// An address, on port 53 if it has none.
fn server(value: &Value<'_>) -> Result<SocketAddr, Wrong> {
    let allowed = "an address such as \"10.0.0.2\", \"127.0.0.1:8600\" or \"[fd00::2]:53\"";
    let written = text(value, allowed)?;
    if let Ok(ip) = written.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, 53));
    }
    match written.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(address) => wrong_near(value, allowed, Some(address.ip().to_string())),
        Err(_) => wrong(value, allowed),
    }
}
