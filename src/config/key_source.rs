//! `keys` of `jwt`: where the keys of tokens come from, and how often they are
//! fetched if that is a URL.
//!
//! The values beside their readers; the fetching is `fetch`'s.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::backends::host_name;
use super::diagnostic::WrittenAt;
use super::named_files::NamedFiles;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{POSITIVE, REFRESH, SECOND, duration, path, text, wrong};

/// A JWK set (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    Url(KeysUrl),
}

/// A JWK set that is fetched, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysUrl {
    pub url: Url,
    /// Between two fetches.
    pub refresh: Duration,
    /// For all that a fetch takes.
    pub timeout: Duration,
    /// The only CAs to trust; `None`: the system's.
    pub ca: Option<PathBuf>,
    pub place: WrittenAt,
}

/// Of `https` or `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// As it is written.
    pub text: String,
    pub is_https: bool,
    /// A name or an address, the latter without brackets.
    pub host: String,
    pub port: u16,
    /// Host and port as `Host` says them.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(&url.url.text),
        }
    }
}

impl Url {
    /// `None` if keys cannot be had from there in safety.
    fn parse(written: &str) -> Option<Self> {
        let (url, is_near) = Self::split(written)?;
        (url.is_https || is_near).then_some(url)
    }

    /// The same for what need not be secret.
    pub(super) fn parse_anywhere(written: &str) -> Option<Self> {
        Self::split(written).map(|(url, _)| url)
    }

    /// And whether it is on this machine.
    fn split(written: &str) -> Option<(Self, bool)> {
        // A fragment is no part of a request, and `Uri` forgets it.
        let uri: Uri = written.parse().ok().filter(|_| !written.contains('#'))?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host();
        let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let address = inner.unwrap_or(host).parse::<IpAddr>().ok();
        let is_good = match address {
            Some(_) => true,
            None => inner.is_none() && host_name(host),
        };
        let is_near = address.map_or(host == "localhost", |it| it.is_loopback());
        // Of `a:b@host` the host is what follows, and a password would be in the log.
        let is_bare = !authority.as_str().contains('@');
        let has_port = authority.as_str() != host;
        let port = match (authority.port_u16(), has_port) {
            (None, false) => match is_https {
                true => 443,
                false => 80,
            },
            (port, _) => port.filter(|port| *port > 0)?,
        };
        let url = || Self {
            text: written.to_owned(),
            is_https,
            host: inner.unwrap_or(host).to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            target: uri
                .path_and_query()
                .map_or("/", |it| it.as_str())
                .to_owned(),
        };
        (is_good && is_bare).then(|| (url(), is_near))
    }
}

/// What `keys` says, and the keys that say how a URL is fetched.
pub(super) fn key_source(table: &Section<'_>, files: &mut NamedFiles) -> Option<KeySource> {
    let source = table.required("keys", source);
    let refresh = table.or("refresh", SECOND * 300, duration(REFRESH));
    let timeout = table.or("timeout", SECOND * 5, duration(POSITIVE));
    let ca = table.optional("ca", path);
    let place = table.value("keys").map(|value| value.place());
    match source? {
        Written::File(path) => {
            for key in ["refresh", "timeout", "ca"] {
                has_no_effect(table, key, "a URL in `keys`");
            }
            files.add(&path, place?);
            Some(KeySource::File(path))
        }
        Written::Url(url) => {
            if !url.is_https {
                has_no_effect(table, "ca", "https in `keys`");
            }
            if let (Some(ca), Some(value)) = (&ca, table.value("ca")) {
                files.add(ca, value.place());
            }
            Some(KeySource::Url(KeysUrl {
                url,
                refresh,
                timeout,
                ca,
                place: WrittenAt(place?),
            }))
        }
    }
}

enum Written {
    File(PathBuf),
    Url(Url),
}

fn source(value: &Value<'_>) -> Result<Written, Wrong> {
    let allowed = "the path of a file, or a URL such as \"https://login.example.com/jwks.json\"";
    let written = text(value, allowed)?;
    if !written.contains("://") {
        return path(value).map(Written::File);
    }
    match Url::parse(written) {
        Some(url) => Ok(Written::Url(url)),
        None => wrong(
            value,
            "a URL of https, or of http on a loopback address, without a user and a fragment",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (written, host, port, authority, target) in [
            ("https://a.test/k", "a.test", 443, "a.test", "/k"),
            ("https://a.test", "a.test", 443, "a.test", "/"),
            (
                "https://a.test:8443/k?x=1",
                "a.test",
                8443,
                "a.test:8443",
                "/k?x=1",
            ),
            (
                "https://[fd00::1]:8443/",
                "fd00::1",
                8443,
                "[fd00::1]:8443",
                "/",
            ),
            ("https://10.0.0.1/k", "10.0.0.1", 443, "10.0.0.1", "/k"),
            (
                "http://127.0.0.1:81/k",
                "127.0.0.1",
                81,
                "127.0.0.1:81",
                "/k",
            ),
            ("http://[::1]/k", "::1", 80, "[::1]", "/k"),
            ("http://localhost/k", "localhost", 80, "localhost", "/k"),
        ] {
            let url = Url::parse(written).unwrap_or_else(|| panic!("{written}"));
            assert_eq!(url.is_https, written.starts_with("https"));
            let parts = (&*url.host, url.port, &*url.authority, &*url.target);
            assert_eq!(parts, (host, port, authority, target), "{written}");
        }
    }

    #[test]
    fn what_is_no_safe_place_for_keys_is_refused() {
        for written in [
            "http://a.test/k",
            "http://10.0.0.1/k",
            "http://localhost.a.test/k",
            "http://127.0.0.1@a.test/k",
            "https://ann:secret@a.test/k",
            "https://a.test/k#part",
            "https://a.test:0/k",
            "https://a.test:/k",
            "https://a.test:99999/k",
            "https:///k",
            "https://",
            "https://a b/k",
            "https://[a.test]/k",
            "https://a..test/k",
            "ftp://a.test/k",
            "file:///k",
            "://k",
        ] {
            assert_eq!(Url::parse(written), None, "{written}");
        }
    }
}
