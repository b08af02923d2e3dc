//! Nobody's web page may ask: a browser is a way in for every page that it shows.
//!
//! Requests that a page of another origin has made are refused, and on the Unix
//! socket, which `ssh -L` may have brought before a browser and where nothing is
//! shown, also those to a name, which another's DNS may point here (DNS rebinding).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::fields::Wrong;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Browsers say in one of these which page a request comes from; nothing else
/// sends them.
pub(super) fn not_from_another(headers: &HeaderMap, is_tls: bool) -> Result<(), Wrong> {
    let scheme = if is_tls { "https://" } else { "http://" };
    let refused = || forbidden("requests of pages of another origin are refused");
    let host = only(headers, &header::HOST).ok().flatten();
    // Of several, nobody knows which a page has to do with.
    let Ok(origin) = only(headers, &header::ORIGIN) else {
        return Err(refused());
    };
    if origin.is_some_and(|it| it.strip_prefix(scheme).is_none_or(|it| Some(it) != host)) {
        return Err(refused());
    }
    match only(headers, &SEC_FETCH_SITE) {
        Ok(None | Some("same-origin" | "none")) => Ok(()),
        _ => Err(refused()),
    }
}

/// On a Unix socket, where programs give any word: one without a dot and a port
/// is no name that a browser had to look up elsewhere.
pub(super) fn to_this_socket(headers: &HeaderMap) -> Result<(), Wrong> {
    match only(headers, &header::HOST) {
        Ok(None) => Ok(()),
        Ok(Some(host)) if is_address(host) || !host.contains(['.', ':']) => Ok(()),
        _ => Err(forbidden(
            "`Host` must be an IP address, localhost, or one word",
        )),
    }
}

/// What the one line of this name says; an error if there are several.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, ()> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next().map(|line| line.to_str().map_err(|_| ()));
    match lines.next() {
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
