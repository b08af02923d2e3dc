//! Where a request belongs: the sticky key, or the backend that longhaul's own
//! cookie names.
//!
//! The key is what the first present source of the upstream's list says, as
//! bytes on the wire: no decoding, so that every longhaul sees the same. Only
//! the value is hashed, not where it came from.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Uri, header};

use crate::balance::key_hash;
use crate::config::{SameSite, StickyCookie, StickySource};
use crate::exchange::Exchange;
use crate::net::client_network;
use crate::upstream::{Backend, Upstream};

/// Where a request belongs, and how that is known.
#[derive(Clone, Debug)]
pub struct Affinity {
    /// The hash of the sticky key, if there is one.
    pub key: Option<u64>,
    /// The backend of longhaul's own cookie.
    pub backend: Option<Arc<Backend>>,
    /// The source's name, as in the config; `none` if none is present.
    pub source: Arc<str>,
    /// Whether the answer is to set longhaul's own cookie if the backend picked
    /// is another than [`Affinity::backend`].
    pub sets_cookie: bool,
}

/// Looks for the key.
pub fn affinity(
    upstream: &Upstream,
    exchange: &Exchange,
    uri: &Uri,
    headers: &HeaderMap,
) -> Affinity {
    let mut affinity = Affinity {
        key: None,
        backend: None,
        source: Arc::clone(upstream.no_sticky_label()),
        sets_cookie: false,
    };
    let backends = upstream.backends();
    let sources = upstream.settings().sticky.iter();
    for (source, label) in sources.zip(upstream.sticky_labels()) {
        if *source == StickySource::OwnCookie {
            let name = &upstream.settings().cookie.name;
            affinity.sets_cookie = true;
            affinity.backend =
                cookie(headers, name).and_then(|value| backends.of_cookie(value).cloned());
            if affinity.backend.is_some() {
                affinity.source = Arc::clone(label);
                return affinity;
            }
        } else if let Some(key) = key(source, exchange, uri, headers) {
            affinity.key = Some(key_hash(&key));
            affinity.source = Arc::clone(label);
            // A client that says who it is needs no cookie; an address says it
            // only until it changes.
            affinity.sets_cookie &= *source == StickySource::ClientIp;
            return affinity;
        }
    }
    affinity
}

/// The sticky key itself, for whoever explains the pick.
pub fn sticky_key(
    upstream: &Upstream,
    exchange: &Exchange,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<Vec<u8>> {
    let mut sources = upstream.settings().sticky.iter();
    let key = sources.find_map(|source| key(source, exchange, uri, headers));
    key.map(Cow::into_owned)
}

fn key<'a>(
    source: &StickySource,
    exchange: &Exchange,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Option<Cow<'a, [u8]>> {
    let value: &[u8] = match source {
        StickySource::OwnCookie => return None,
        StickySource::ClientIp => {
            let network = client_network(exchange.client_ip?).to_string();
            return Some(Cow::Owned(network.into_bytes()));
        }
        StickySource::Cookie(name) => cookie(headers, name)?.as_bytes(),
        StickySource::Header(name) => headers.get(name)?.as_bytes(),
        StickySource::Query(name) => query(uri, name)?.as_bytes(),
        StickySource::PathSegment(number) => uri.path().split('/').nth(*number)?.as_bytes(),
    };
    (!value.is_empty()).then_some(Cow::Borrowed(value))
}

/// The value of a cookie, over all `Cookie` lines (RFC 6265 section 4.2).
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// The value of a parameter of the query, as it is on the wire.
pub(crate) fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// `Set-Cookie` for longhaul's own cookie. `secure`: the client came over TLS.
pub(super) fn set_cookie(
    settings: &StickyCookie,
    value: &str,
    secure: bool,
) -> Option<HeaderValue> {
    let mut text = format!("{}={value}; Path=/; HttpOnly; SameSite=", settings.name);
    text.push_str(match settings.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    });
    if secure || settings.secure {
        text.push_str("; Secure");
    }
    if let Some(age) = settings.max_age {
        text.push_str(&format!("; Max-Age={}", age.as_secs()));
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_over_lines_and_pairs() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; xsid=no"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2;sid=yes=1"));
        assert_eq!(cookie(&headers, "sid"), Some("yes=1"));
        assert_eq!(cookie(&headers, "c"), None);
    }

    #[test]
    fn queries_are_found_by_whole_name() {
        let uri = Uri::from_static("/x?aroom=1&room=7&room=8");
        assert_eq!(query(&uri, "room"), Some("7"));
        assert_eq!(query(&uri, "oom"), None);
    }
}
