//! `allowed_origins` and `missing_origin` of a route: whose pages may open
//! tunnels there.
//!
//! The values beside their reader; who is let in is `guard`'s.

use super::pattern::HostPattern;
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{one_of, text, wrong, wrong_near};

/// The pages whose upgrades are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    /// At least one.
    pub allowed: Vec<AllowedOrigin>,
    /// Whether a client that names no origin is let in.
    pub missing: bool,
}

/// One or many origins (RFC 6454), as the `Origin` header writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Pages of the host that the request is for, on any port.
    SameHost,
    /// `https://chat.example.com`, or `null`; lower case.
    Exact(String),
    /// What stands before and behind one or more labels: `https://` and
    /// `.example.com:8443`.
    Wildcard { before: String, behind: String },
}

const ALLOWED: &str = "\"same_host\", or an origin such as \"https://chat.example.com\" or \
                       \"https://*.example.com:8443\"";
const MISSING: &[(&str, bool)] = &[("allow", true), ("refuse", false)];

/// `None` if every origin is allowed.
pub(super) fn origins(section: &Section<'_>) -> Option<Origins> {
    let allowed = section.list("allowed_origins", ALLOWED, origin);
    let missing = section.or("missing_origin", true, one_of(MISSING));
    if section.value("allowed_origins").is_none() {
        has_no_effect(section, "missing_origin", "`allowed_origins`");
        return None;
    }
    Some(Origins { allowed, missing })
}

fn origin(value: &Value<'_>) -> Result<AllowedOrigin, Wrong> {
    let written = text(value, ALLOWED)?;
    match written {
        "same_host" => return Ok(AllowedOrigin::SameHost),
        // What browsers send for pages without an origin (RFC 6454, 6.2).
        "null" => return Ok(AllowedOrigin::Exact(written.to_owned())),
        "*" => {
            return wrong(
                value,
                format!("{ALLOWED}; without `allowed_origins` all are"),
            );
        }
        _ => {}
    }
    let Some((scheme, place)) = written.split_once("://") else {
        let near = place(written).map(|_| format!("https://{written}"));
        return wrong_near(value, ALLOWED, near);
    };
    let scheme = scheme.to_ascii_lowercase();
    let page = match &*scheme {
        "ws" => "http",
        "wss" => "https",
        same => same,
    };
    if page != scheme {
        // The origin is the page's, not the socket's.
        return wrong_near(value, ALLOWED, Some(format!("{page}://{place}")));
    }
    if let Some(bare) = place.strip_suffix('/') {
        return wrong_near(value, ALLOWED, Some(format!("{scheme}://{bare}")));
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let Some((host, port)) = self::place(place).filter(|_| scheme.chars().all(is_part)) else {
        return wrong(value, ALLOWED);
    };
    if matches!((&*scheme, port), ("http", Some(80)) | ("https", Some(443))) {
        // Browsers leave it out (RFC 6454, 6.2).
        return wrong_near(value, ALLOWED, Some(format!("{scheme}://{host}")));
    }
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    match host {
        HostPattern::Exact(host) => Ok(AllowedOrigin::Exact(format!("{scheme}://{host}{port}"))),
        HostPattern::Wildcard(suffix) => Ok(AllowedOrigin::Wildcard {
            before: format!("{scheme}://"),
            behind: format!("{suffix}{port}"),
        }),
        HostPattern::Any => wrong(value, ALLOWED),
    }
}

/// A host, and the port behind it.
fn place(written: &str) -> Option<(HostPattern, Option<u16>)> {
    let (host, port) = match written.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (written, None),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
        None => None,
    };
    Some((host.parse().ok()?, port))
}

impl std::fmt::Display for AllowedOrigin {
    /// As the config writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SameHost => f.write_str("same_host"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Wildcard { before, behind } => write!(f, "{before}*{behind}"),
        }
    }
}
