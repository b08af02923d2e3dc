//! Nobody's web page may ask: a browser is a way in for every page that it shows.
//!
//! Requests that a page of another origin has made are refused, and where no
//! token is asked for also those to a name, which another's DNS may point here
//! (DNS rebinding). The same on the Unix socket, which `ssh -L` may have brought
//! before a browser.

use std::net::IpAddr;

use http::{HeaderMap, StatusCode, header};

use super::fields::Wrong;

/// Browsers say in one of these which page a request comes from; nothing else
/// sends them.
pub(super) fn not_from_another(headers: &HeaderMap, is_tls: bool) -> Result<(), Wrong> {
    let scheme = if is_tls { "https://" } else { "http://" };
    let refused = || forbidden("requests of pages of another origin are refused");
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|it| it.strip_prefix(scheme));
        if origin.is_none() || origin != host {
            return Err(refused());
        }
    }
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(refused()),
    }
}

/// Over TCP.
pub(super) fn to_this_machine(headers: &HeaderMap) -> Result<(), Wrong> {
    match only_host(headers) {
        Ok(Some(host)) if is_address(host) => Ok(()),
        _ => Err(forbidden(
            "without a token, `Host` must be an IP address or localhost",
        )),
    }
}

/// On a Unix socket, where programs give any word: one without a dot and a port
/// is no name that a browser had to look up elsewhere.
pub(super) fn to_this_socket(headers: &HeaderMap) -> Result<(), Wrong> {
    match only_host(headers) {
        Ok(None) => Ok(()),
        Ok(Some(host)) if is_address(host) || !host.contains(['.', ':']) => Ok(()),
        _ => Err(forbidden(
            "`Host` must be an IP address, localhost, or one word",
        )),
    }
}

/// Several are nobody's.
fn only_host(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next().map(|host| host.to_str().map_err(|_| ()));
    match hosts.next() {
        None => first.transpose(),
        Some(_) => Err(()),
    }
}

fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || inner.unwrap_or(name).parse::<IpAddr>().is_ok()
}

pub(super) fn forbidden(message: &str) -> Wrong {
    Wrong {
        status: StatusCode::FORBIDDEN,
        message: message.to_owned(),
    }
}
