//! What one route asks of a request, how two such are ordered, and why one
//! does not match.
//!
//! It compares one route at a time; finding the right one among many is the
//! table's and its trees'.
//!
//! Invariant: of two criteria that match the same request, the one with the
//! lower rank has precedence.

use std::cmp::Reverse;
use std::fmt;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::host::canonical_host;
use super::path::{canonical_segment, segments};
use crate::config::Route;
use crate::config::pattern::{HostPattern, PathPattern, PathSegment};
use crate::ws::handshake::tokens;

/// What a request must have for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criteria {
    pub host: HostPattern,
    pub path: PathPattern,
    /// One of these; empty: any.
    pub methods: Vec<Method>,
    /// All of these; `None` is any value.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// One of these offered, in this spelling; empty: any or none.
    pub subprotocols: Vec<String>,
}

impl From<&Route> for Criteria {
    fn from(route: &Route) -> Self {
        Self {
            host: route.host.clone(),
            path: route.path.clone(),
            methods: route.methods.clone(),
            headers: route.headers.clone(),
            subprotocols: route.subprotocols.clone(),
        }
    }
}

/// What a route is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As [`normalise_host`](super::normalise_host) gives it.
    pub host: &'a str,
    /// As sent, without the query.
    pub path: &'a str,
    pub method: &'a Method,
    /// Offered subprotocols are read from here.
    pub headers: &'a HeaderMap,
}

/// One thing that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    Host,
    Path,
    Method,
    /// The first header that is not there or has no such value.
    Header(HeaderName),
    Subprotocol,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host differs"),
            Self::Path => f.write_str("path differs"),
            Self::Method => f.write_str("method is not among its methods"),
            Self::Header(name) => write!(f, "header {name} is missing or has another value"),
            Self::Subprotocol => f.write_str("none of its subprotocols is offered"),
        }
    }
}

/// Sorts routes by precedence, the first one first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    host: HostRank,
    path: Vec<Step>,
    lacks_subprotocols: bool,
    headers: Reverse<usize>,
    exact_headers: Reverse<usize>,
    lacks_methods: bool,
    subprotocols: usize,
    methods: usize,
    /// Says nothing about precedence, but keeps it from depending on files.
    text: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Exact(String),
    Wildcard {
        labels: Reverse<usize>,
        suffix: String,
    },
    Any,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Literal(Vec<u8>),
    Any,
    End,
    Prefix,
}

impl Criteria {
    pub(super) fn rank(&self) -> Rank {
        let exact = self.headers.iter().filter(|(_, value)| value.is_some());
        Rank {
            host: host_rank(&self.host),
            path: steps(&self.path),
            lacks_subprotocols: self.subprotocols.is_empty(),
            headers: Reverse(self.headers.len()),
            exact_headers: Reverse(exact.count()),
            lacks_methods: self.methods.is_empty(),
            subprotocols: self.subprotocols.len(),
            methods: self.methods.len(),
            text: self.text(),
        }
    }

    /// Method, headers and subprotocols; host and path are the table's.
    pub(super) fn conditions_hold(&self, request: &Request<'_>) -> bool {
        self.method_fits(request)
            && self.header_missed(request).is_none()
            && self.subprotocol_fits(request)
    }

    pub(super) fn misses(&self, request: &Request<'_>) -> Vec<Miss> {
        let mut misses = Vec::new();
        let mut note = |fits: bool, miss: Miss| {
            if !fits {
                misses.push(miss);
            }
        };
        note(host_fits(&self.host, request.host), Miss::Host);
        note(path_fits(&self.path, request.path), Miss::Path);
        note(self.method_fits(request), Miss::Method);
        note(self.subprotocol_fits(request), Miss::Subprotocol);
        if let Some(name) = self.header_missed(request) {
            note(false, Miss::Header(name.clone()));
        }
        misses
    }

    fn method_fits(&self, request: &Request<'_>) -> bool {
        self.methods.is_empty() || self.methods.contains(request.method)
    }

    fn subprotocol_fits(&self, request: &Request<'_>) -> bool {
        self.subprotocols.is_empty()
            || tokens(request.headers, &SEC_WEBSOCKET_PROTOCOL)
                .any(|offered| self.subprotocols.iter().any(|wanted| wanted == offered))
    }

    fn header_missed(&self, request: &Request<'_>) -> Option<&HeaderName> {
        let missed = self.headers.iter().find(|(name, wanted)| {
            let mut lines = request.headers.get_all(name).iter();
            match wanted {
                Some(wanted) => !lines.any(|line| line == wanted),
                None => lines.next().is_none(),
            }
        });
        missed.map(|(name, _)| name)
    }

    fn text(&self) -> Vec<String> {
        let methods = self.methods.iter().map(ToString::to_string);
        let headers = self.headers.iter().map(|(name, value)| {
            let value = value.as_ref().map(|value| value.as_bytes().escape_ascii());
            format!(
                "{name}: {}",
                value.map_or_else(String::new, |v| v.to_string())
            )
        });
        let subprotocols = self.subprotocols.iter().cloned();
        let mut text: Vec<String> = methods.chain(headers).chain(subprotocols).collect();
        text.sort();
        text
    }
}

fn host_rank(pattern: &HostPattern) -> HostRank {
    match pattern {
        HostPattern::Exact(host) => HostRank::Exact(canonical_host(host)),
        HostPattern::Wildcard(suffix) => HostRank::Wildcard {
            labels: Reverse(suffix.matches('.').count()),
            suffix: suffix.to_ascii_lowercase(),
        },
        HostPattern::Any => HostRank::Any,
    }
}

fn steps(pattern: &PathPattern) -> Vec<Step> {
    let segments = pattern.segments.iter().map(|segment| match segment {
        PathSegment::Literal(text) => Step::Literal(canonical_segment(text).into_owned()),
        PathSegment::Any => Step::Any,
    });
    let end = if pattern.prefix {
        Step::Prefix
    } else {
        Step::End
    };
    segments.chain([end]).collect()
}

fn host_fits(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(exact) => canonical_host(exact) == host,
        HostPattern::Wildcard(suffix) => host.ends_with(&suffix.to_ascii_lowercase()),
    }
}

fn path_fits(pattern: &PathPattern, path: &str) -> bool {
    let mut given = segments(path);
    for wanted in steps(pattern) {
        let fits = match (wanted, given.next()) {
            (Step::Prefix, _) => return true,
            (Step::End, given) => given.is_none(),
            (Step::Any, given) => given.is_some_and(|segment| !segment.is_empty()),
            (Step::Literal(text), given) => {
                given.is_some_and(|segment| *canonical_segment(segment) == *text)
            }
        };
        if !fits {
            return false;
        }
    }
    true
}
