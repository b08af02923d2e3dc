//! `proxy_protocol` of a listener and of an upstream: who says whose connection
//! it is, and how backends are told.

use std::time::Duration;

use ipnet::IpNet;

use super::model::ListenAddress;
use super::section::{Section, has_no_effect};
use super::value::{POSITIVE, SECOND, duration, network, one_of};
use crate::proxy_protocol::Version;

/// Every connection of a listener begins with a PROXY header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Who may connect and say it. Empty for a Unix socket, whose mode decides.
    pub from: Vec<IpNet>,
    /// For the whole header.
    pub timeout: Duration,
}

const VERSIONS: &[(&str, Option<Version>)] = &[
    ("off", None),
    ("v1", Some(Version::One)),
    ("v2", Some(Version::Two)),
];

/// `None` if there is no such table, or what it must have is not in it.
pub(super) fn of_listener(
    section: &Section<'_>,
    address: Option<&ListenAddress>,
) -> Option<ProxyProtocol> {
    let allowed = "a table such as { from = [\"10.0.0.0/8\"] }";
    let table = section.subsection("proxy_protocol", allowed)?;
    let networks = "an array of networks such as \"10.0.0.0/8\", or addresses";
    let from = table.list("from", networks, network);
    let timeout = table.or("timeout", SECOND * 5, duration(POSITIVE));
    match address {
        Some(ListenAddress::Unix { .. }) => {
            has_no_effect(
                &table,
                "from",
                "a TCP address: the mode of the socket decides",
            );
        }
        Some(ListenAddress::Tcp(_)) if table.value("from").is_none() => table.missing("from"),
        _ => {}
    }
    table.finish();
    Some(ProxyProtocol { from, timeout })
}

/// `None`: backends get no header.
pub(super) fn of_upstream(section: &Section<'_>, http2: bool) -> Option<Version> {
    let version = section.or("proxy_protocol", None, one_of(VERSIONS));
    version?;
    let title = &section.title;
    if http2 {
        let message = format!(
            "`proxy_protocol` and `http2 = true` in {title} exclude each other: a connection \
             that many clients share is nobody's"
        );
        section.report("proxy_protocol", message);
    }
    for key in ["max_idle_connections", "idle_connection_timeout"] {
        if section.value(key).is_some() {
            let message = format!(
                "`{key}` in {title} has no effect with `proxy_protocol`: a connection is one \
                 client's, and none is kept"
            );
            section.report(key, message);
        }
    }
    version
}
