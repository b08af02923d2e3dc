//! What is known of a request that comes back: the one that opened a tunnel, as
//! far as it was kept.
//!
//! Headers were not, nor the values of a query. Of the sources of a sticky key
//! it is known which one was the first that was there, and so that those before
//! it were not.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Method;

use super::outline::Outline;
use crate::balance::key_hash;
use crate::config::StickySource;
use crate::exchange::Words;
use crate::net::client_network;
use crate::route::normalise_host;
use crate::tunnel::Tunnel;

/// The word for a request that had no source of a key.
const NO_SOURCE: &str = "none";

/// The request of a tunnel's client.
pub struct Visit<'a> {
    tunnel: &'a Tunnel,
    words: Words<'a>,
    host: Cow<'a, str>,
    method: Method,
    /// What its upstream says of sticky keys.
    sticky: &'a [String],
}

/// The sticky key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// It has none.
    Absent,
    Known(u64),
    /// Longhaul's own cookie says where it belongs.
    Bound,
    /// What it has was not kept.
    Unknown,
}

impl<'a> Visit<'a> {
    /// `upstream`: the tunnel's, in force.
    pub fn new(tunnel: &'a Tunnel, upstream: Option<&'a Outline>) -> Self {
        let words = tunnel.facts().opening.words();
        Self {
            tunnel,
            words,
            host: normalise_host(words.host).unwrap_or(Cow::Borrowed("")),
            // A handshake over HTTP/2 is one of HTTP/1.1 to routes.
            method: match words.method.parse() {
                Ok(method) if method != Method::CONNECT => method,
                _ => Method::GET,
            },
            sticky: upstream.map_or(&[], |it| &it.sticky),
        }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn path(&self) -> &str {
        let path = self.words.path;
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its key at an upstream that it comes to.
    pub fn key(&self, upstream: &str, outline: &Outline) -> Key {
        for source in &outline.sticky {
            if *source == StickySource::OwnCookie.to_string() {
                if self.has_cookie(upstream) {
                    return Key::Bound;
                }
                continue;
            }
            match self.value(source) {
                Key::Absent => {}
                found => return found,
            }
        }
        Key::Absent
    }

    /// Whether the client has longhaul's own cookie, or was given it.
    fn has_cookie(&self, upstream: &str) -> bool {
        let own = StickySource::OwnCookie.to_string();
        let by = self.words.sticky;
        // Who says who it is gets none; an address says it only until it changes.
        let is_given = [&*own, NO_SOURCE, &StickySource::ClientIp.to_string()].contains(&by);
        is_given && *self.tunnel.facts().labels.upstream == *upstream && self.sticky.contains(&own)
    }

    /// What the client has of a source that is not longhaul's own cookie.
    fn value(&self, source: &str) -> Key {
        let key = self.tunnel.facts().key;
        let by = self.words.sticky;
        if source == by && key != 0 {
            return Key::Known(key);
        }
        if source == StickySource::ClientIp.to_string() {
            return self.address();
        }
        if let Some(number) = source.strip_prefix("path:") {
            return self.segment(number);
        }
        let place = |wanted: &str| self.sticky.iter().position(|one| one == wanted);
        let was_there = match by {
            NO_SOURCE => Some(self.sticky.len()),
            by => place(by),
        };
        match (place(source), was_there) {
            (Some(place), Some(first)) if place < first => Key::Absent,
            _ => Key::Unknown,
        }
    }

    fn address(&self) -> Key {
        match self.tunnel.client().parse::<IpAddr>() {
            Ok(ip) => Key::Known(key_hash(client_network(ip).to_string().as_bytes())),
            // A Unix socket's.
            Err(_) => Key::Absent,
        }
    }

    fn segment(&self, number: &str) -> Key {
        let number = number.parse().unwrap_or(usize::MAX);
        match self.path().split('/').nth(number) {
            None | Some("") => Key::Absent,
            Some(segment) => Key::Known(key_hash(segment.as_bytes())),
        }
    }
}
