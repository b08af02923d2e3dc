//! The listener that the explained request comes in by.
//!
//! A URL does not name one. It is the one of the URL's kind, with or without TLS,
//! that listens on the URL's port; or else, because ports are often mapped on the
//! way, the first of that kind.

use std::fmt;

use http::Uri;

use crate::config::{ClientCertificates, Config, ListenAddress, Listener, Networks};
use crate::server::Incumbent;

pub(super) struct ChosenListener {
    /// Name and address, if there is one of the kind.
    named: Option<(String, String)>,
    pub(super) secure: bool,
    /// As `X-Forwarded-Port` tells it; none for Unix sockets.
    pub(super) port: Option<u16>,
    /// Where connections may come from.
    pub(super) asked: Networks,
    /// What its clients must show of themselves, if anything.
    pub(super) client_certificates: Option<ClientCertificates>,
    /// The port of the redirect, if all that it does is redirect.
    pub(super) redirects: Option<u16>,
}

impl ChosenListener {
    pub(super) fn name(&self) -> &str {
        self.named.as_ref().map_or("", |(name, _)| name)
    }
}

impl fmt::Display for ChosenListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.named, self.secure) {
            (Some((name, address)), _) => write!(f, "{name} at {address}"),
            (None, true) => f.write_str("none speaks TLS; explained as if one did"),
            (None, false) => f.write_str("none is without TLS; explained as if one were"),
        }
    }
}

pub(super) fn of(url: &Uri, config: &Config, incumbent: &Incumbent) -> ChosenListener {
    let secure = matches!(url.scheme_str(), Some("https" | "wss"));
    let wanted = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let bound = |listener: &Listener| bound(listener, incumbent);
    let of_kind = || {
        let listeners = config.listeners.values();
        listeners.filter(move |listener| listener.is_tls() == secure)
    };
    let chosen = of_kind()
        .find(|listener| port(&bound(listener)) == Some(wanted))
        .or_else(|| of_kind().next());
    ChosenListener {
        named: chosen.map(|listener| (listener.name.clone(), bound(listener))),
        secure,
        port: match chosen {
            // Port 0 that nobody has bound yet.
            Some(listener) => port(&bound(listener)).map(|port| match port {
                0 => wanted,
                port => port,
            }),
            None => Some(wanted),
        },
        asked: chosen.map_or_else(Networks::default, |it| it.networks.clone()),
        client_certificates: chosen.and_then(|it| it.client_certificates.clone()),
        redirects: chosen.and_then(|listener| listener.redirect_to_https),
    }
}

/// Where it listens: as configured, or as the running process says if that
/// leaves it open.
fn bound(listener: &Listener, incumbent: &Incumbent) -> String {
    let open = matches!(&listener.address, ListenAddress::Tcp(address) if address.port() == 0);
    let live = match incumbent {
        Incumbent::Known { listeners, .. } if open => listeners.get(&listener.name),
        _ => None,
    };
    live.cloned()
        .unwrap_or_else(|| listener.address.to_string())
}

fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}
