//! What is right and all the same perhaps not what was meant.

use std::net::{IpAddr, Ipv4Addr};

use super::Warning;
use crate::config::{self, Config, ListenAddress};
use crate::net::is_in;

/// An admin API whose tokens anybody on the way can read.
pub(super) fn told_in_the_clear(config: &Config) -> Option<Warning> {
    let admin = config.admin.as_ref()?;
    let listen = admin.listen.filter(|it| !it.ip().is_loopback())?;
    admin.certificates.is_empty().then(|| Warning {
        message: format!(
            "the admin API at {listen} speaks plain HTTP: whoever is on the way can read its \
             tokens and then do what an operator may; give [admin] `certificates`, or keep it on \
             a loopback address"
        ),
        is_certificate_failure: false,
    })
}

/// Listeners whose clients no limit for each client counts.
pub(super) fn uncounted(config: &Config) -> impl Iterator<Item = Warning> {
    let counts = config.routes.iter().find(|it| it.limits.count_clients());
    // Whoever comes by a file is on this machine.
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let trusted = is_in(local, &config.trusted_proxies);
    let is_file = |it: &&config::Listener| {
        matches!(it.address, ListenAddress::Unix { .. }) && it.proxy_protocol.is_none()
    };
    let listeners = config.listeners.values().filter(is_file);
    let warning = move |listener: &config::Listener| {
        counts.filter(|_| !trusted).map(|route| Warning {
            message: format!(
                "limits for each client, as route `{}` has them, count nobody who comes by \
                 listener `{}`, a Unix socket: who speaks there for its clients is to be in \
                 trusted_proxies, as 127.0.0.1",
                route.name, listener.name
            ),
            is_certificate_failure: false,
        })
    };
    listeners
        .filter_map(warning)
        .collect::<Vec<_>>()
        .into_iter()
}
