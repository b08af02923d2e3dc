//! What trusted proxies say of the client, in `X-Forwarded-*` and in `Forwarded`
//! (RFC 7239).
//!
//! A proxy writes one of the two, or both, and passes on the other as the client
//! has sent it. Which one it is nobody can see; so where both are there and name
//! two clients, that is told too. It judges nobody's word: `forwarded` asks only
//! for peers that are trusted.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::config::ForwardedHeader;
use crate::net::is_in;
use crate::ws::handshake::tokens;

pub(super) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Longest chain of addresses that is read from a trusted peer.
const MAX_CHAIN: usize = 32;

pub(super) struct Told<'a> {
    headers: &'a HeaderMap,
    /// The only one that is read, if it is known which one they write.
    header: Option<ForwardedHeader>,
}

/// The way of a request as far as it is believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// From the first who is not trusted, or is the last one named, to the peer.
    pub(super) chain: Vec<IpAddr>,
    /// Beyond the chain there is somebody whom a trusted proxy has not named.
    pub(super) unnamed: bool,
    /// The other header says something else.
    pub(super) disputed: bool,
}

impl<'a> Told<'a> {
    pub(super) fn new(headers: &'a HeaderMap, header: Option<ForwardedHeader>) -> Self {
        Self { headers, header }
    }

    /// Who has sent it, through whom, to `peer`.
    pub(super) fn walk(&self, peer: Option<IpAddr>, trusted: &[IpNet]) -> Walk {
        let has = |name: &HeaderName| self.headers.contains_key(name);
        let older = || walk(self.older(), peer, trusted);
        let newer = || walk(self.newer(), peer, trusted);
        match self.header {
            Some(ForwardedHeader::XForwardedFor) => older(),
            Some(ForwardedHeader::Forwarded) => newer(),
            None if has(&FOR) && has(&FORWARDED) => {
                let (older, newer) = (older(), newer());
                let disputed = older.client() != newer.client();
                Walk { disputed, ..older }
            }
            None if has(&FOR) => older(),
            None => newer(),
        }
    }

    /// The addresses that `X-Forwarded-For` names; `None` for what is none.
    fn older(&self) -> Vec<Option<IpAddr>> {
        elements(self.headers, &FOR)
            .map(|element| address(element?))
            .collect()
    }

    /// Those that `Forwarded` names.
    fn newer(&self) -> Vec<Option<IpAddr>> {
        elements(self.headers, &FORWARDED)
            .map(|element| address(parameter(element?, "for")?))
            .collect()
    }

    pub(super) fn proto(&self) -> Option<&'static str> {
        let older = self.older_of(&PROTO).and_then(scheme);
        self.agreed(older, self.newest("proto").and_then(scheme))
    }

    pub(super) fn host(&self) -> Option<HeaderValue> {
        let told = self.agreed(self.older_of(&FORWARDED_HOST), self.newest("host"));
        HeaderValue::from_str(told?).ok()
    }

    /// `Forwarded` has no word for it.
    pub(super) fn port(&self) -> Option<HeaderValue> {
        let told = self.agreed(self.older_of(&PORT), None);
        HeaderValue::from_str(told?).ok()
    }

    /// What is said by the header that names the client, since the other may be the
    /// client's own; where both do, what both say.
    fn agreed<T: PartialEq>(&self, older: Option<T>, newer: Option<T>) -> Option<T> {
        let has = |name: &HeaderName| self.headers.contains_key(name);
        match (self.header, has(&FOR), has(&FORWARDED)) {
            (Some(ForwardedHeader::XForwardedFor), ..) => older,
            (Some(ForwardedHeader::Forwarded), ..) | (None, false, true) => newer,
            (None, true, true) if older == newer => older,
            (None, true, true) => None,
            (None, _, false) => older,
        }
    }

    /// The last value of a list: the nearest proxy's word.
    fn older_of(&self, name: &HeaderName) -> Option<&'a str> {
        tokens(self.headers, name).last()
    }

    /// What the nearest proxy says in `Forwarded`.
    fn newest(&self, name: &str) -> Option<&'a str> {
        parameter(tokens(self.headers, &FORWARDED).last()?, name)
    }
}

fn scheme(told: &str) -> Option<&'static str> {
    match told.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some("https"),
        "http" | "ws" => Some("http"),
        _ => None,
    }
}

impl Walk {
    /// Who it is, as far as it is known.
    fn client(&self) -> (Option<&IpAddr>, bool) {
        (self.chain.first(), self.unnamed)
    }
}

fn walk(hops: Vec<Option<IpAddr>>, peer: Option<IpAddr>, trusted: &[IpNet]) -> Walk {
    let mut chain: Vec<IpAddr> = peer.into_iter().collect();
    let mut unnamed = false;
    for hop in hops.into_iter().rev() {
        let before_first = chain.first().is_none_or(|ip| is_in(*ip, trusted));
        if !before_first || chain.len() >= MAX_CHAIN {
            break;
        }
        let Some(hop) = hop else {
            unnamed = true;
            break;
        };
        chain.insert(0, hop);
    }
    Walk {
        chain,
        unnamed,
        disputed: false,
    }
}

/// The elements of a list over all its lines, without empty ones; `None` for one
/// that is not text, which stands for somebody all the same.
fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Option<&'a str>> {
    let lines = headers.get_all(name).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let elements = elements.map(<[u8]>::trim_ascii);
    elements
        .filter(|element| !element.is_empty())
        .map(|element| std::str::from_utf8(element).ok())
}

/// An address as forwarded headers write it: with or without port, brackets
/// and quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

/// The value of one parameter of a `Forwarded` element.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(line).collect()
    }

    const OLDER: (&str, &str) = ("x-forwarded-for", "192.0.2.7");
    const NEWER: (&str, &str) = ("forwarded", "for=192.0.2.7;proto=https;host=evil");
    const HTTPS: (&str, &str) = ("x-forwarded-proto", "https");
    const HOST: (&str, &str) = ("x-forwarded-host", "evil");

    #[test]
    fn a_client_adds_nothing_by_the_header_that_its_proxy_does_not_write() {
        let plain = ("forwarded", "for=192.0.2.7;proto=http");
        for (lines, scheme, host) in [
            (&[OLDER, HTTPS, HOST][..], Some("https"), Some("evil")),
            (&[NEWER], Some("https"), Some("evil")),
            // Without an address, as some write it.
            (&[HTTPS], Some("https"), None),
            (&[plain, HTTPS, HOST], Some("http"), None),
            (&[OLDER, NEWER], None, None),
            (&[OLDER, HTTPS, plain], None, None),
            (&[OLDER, HTTPS, HOST, NEWER], Some("https"), Some("evil")),
        ] {
            let headers = headers(lines);
            let told = Told::new(&headers, None);
            assert_eq!(told.proto(), scheme, "{lines:?}");
            let named = told.host();
            let named = named.as_ref().map(|it| it.to_str().unwrap());
            assert_eq!(named, host, "{lines:?}");
        }
    }
}
