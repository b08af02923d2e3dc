//! Host and path patterns, parsed. Matching and precedence are `route`'s.
//!
//! Invariant: a pattern prints as the text that parses to it.

use std::fmt;
use std::str::FromStr;

/// `chat.example.com`, `*.example.com`, or any host.
///
/// Lower case, without port and trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Any,
    /// The suffix behind `*`, with its dot: `.example.com`. It stands for one
    /// or more labels.
    Wildcard(String),
    Exact(String),
}

/// A path as segments: `/doc/*/live` or `/ws/*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    pub segments: Vec<PathSegment>,
    /// Whether the pattern ended in `/*`: it matches the path before it and
    /// everything below. `/*` alone is any path.
    pub prefix: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathSegment {
    Literal(String),
    /// `*` in the middle: exactly one segment, not empty.
    Any,
}

impl PathPattern {
    /// `/*`: any path.
    pub fn any() -> Self {
        Self {
            segments: Vec::new(),
            prefix: true,
        }
    }
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("it is empty")]
    Empty,
    #[error("a scheme is no part of a host")]
    Scheme,
    #[error("a path is no part of a host")]
    PathInHost,
    #[error("a port is no part of a host: routes are the same on every port")]
    Port,
    #[error("`*` may only be the whole first label, as in \"*.example.com\"")]
    HostWildcard,
    #[error("a host name beyond ASCII is written in its xn-- form, as clients send it")]
    HostNotAscii,
    #[error("not a host name or address")]
    NotAHost,
    #[error("it does not begin with `/`")]
    NoLeadingSlash,
    #[error("`*` may only be a whole segment, as in \"/ws/*\" or \"/doc/*/live\"")]
    WildcardInSegment,
    #[error("a query or fragment is no part of a path")]
    NotPath,
    #[error("an empty segment")]
    EmptySegment,
    #[error("`.` and `..` are no segments of a path")]
    DotSegment,
    #[error(
        "blanks, control characters and what is beyond ASCII are written as %XX, as clients send them"
    )]
    PathNotAscii,
}

impl FromStr for HostPattern {
    type Err = PatternError;

    /// Lower-cases, and drops a trailing dot.
    fn from_str(written: &str) -> Result<Self, PatternError> {
        if written == "*" {
            return Ok(Self::Any);
        }
        if written.is_empty() {
            return Err(PatternError::Empty);
        }
        if written.contains("://") {
            return Err(PatternError::Scheme);
        }
        if written.contains('/') {
            return Err(PatternError::PathInHost);
        }
        if !written.is_ascii() {
            return Err(PatternError::HostNotAscii);
        }
        let host = written.to_ascii_lowercase();
        if let Some(inner) = host.strip_prefix('[') {
            return match inner
                .strip_suffix(']')
                .map(str::parse::<std::net::Ipv6Addr>)
            {
                Some(Ok(address)) => Ok(Self::Exact(format!("[{address}]"))),
                _ if inner.contains("]:") => Err(PatternError::Port),
                _ => Err(PatternError::NotAHost),
            };
        }
        if let Ok(address) = host.parse::<std::net::Ipv6Addr>() {
            return Ok(Self::Exact(format!("[{address}]")));
        }
        if host.contains(':') {
            return Err(PatternError::Port);
        }
        let host = host.strip_suffix('.').unwrap_or(&host);
        let (name, wildcard) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (host, false),
        };
        if name.contains('*') {
            return Err(PatternError::HostWildcard);
        }
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(PatternError::NotAHost);
        }
        if wildcard {
            return Ok(Self::Wildcard(format!(".{name}")));
        }
        Ok(Self::Exact(name.to_owned()))
    }
}

/// Underscores are no part of a host name, but clients send them.
fn is_label(label: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(is_part)
}

impl FromStr for PathPattern {
    type Err = PatternError;

    /// A trailing slash counts: `/ws/` ends in an empty literal segment.
    fn from_str(written: &str) -> Result<Self, PatternError> {
        if written.is_empty() {
            return Err(PatternError::Empty);
        }
        let Some(rest) = written.strip_prefix('/') else {
            return Err(PatternError::NoLeadingSlash);
        };
        if written.contains(['?', '#']) {
            return Err(PatternError::NotPath);
        }
        if !written.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(PatternError::PathNotAscii);
        }
        if rest.is_empty() {
            return Ok(Self {
                segments: Vec::new(),
                prefix: false,
            });
        }
        let mut parts: Vec<&str> = rest.split('/').collect();
        let prefix = parts.last() == Some(&"*");
        if prefix {
            parts.pop();
        }
        let last = parts.len().saturating_sub(1);
        let mut segments = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            segments.push(match part {
                "*" => PathSegment::Any,
                "." | ".." => return Err(PatternError::DotSegment),
                "" if index < last || prefix || index == 0 => {
                    return Err(PatternError::EmptySegment);
                }
                part if part.contains('*') => return Err(PatternError::WildcardInSegment),
                part => PathSegment::Literal(part.to_owned()),
            });
        }
        Ok(Self { segments, prefix })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
            Self::Exact(host) => f.write_str(host),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                PathSegment::Literal(text) => write!(f, "/{text}")?,
                PathSegment::Any => f.write_str("/*")?,
            }
        }
        match (self.prefix, self.segments.is_empty()) {
            (true, _) => f.write_str("/*"),
            (false, true) => f.write_str("/"),
            (false, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        use PatternError::*;
        for (written, expected) in [
            ("*", Ok("*")),
            ("Chat.Example.COM.", Ok("chat.example.com")),
            ("*.example.com", Ok("*.example.com")),
            ("localhost", Ok("localhost")),
            ("10.0.0.1", Ok("10.0.0.1")),
            ("[::1]", Ok("[::1]")),
            ("0:0::1", Ok("[::1]")),
            ("a_b.example", Ok("a_b.example")),
            ("", Err(Empty)),
            ("https://a.example", Err(Scheme)),
            ("a.example/ws", Err(PathInHost)),
            ("a.example:443", Err(Port)),
            ("[::1]:443", Err(Port)),
            ("[::g]", Err(NotAHost)),
            ("*example.com", Err(HostWildcard)),
            ("a.*.example.com", Err(HostWildcard)),
            ("*.*.example.com", Err(HostWildcard)),
            ("*.", Err(HostWildcard)),
            ("a..b", Err(NotAHost)),
            ("a b", Err(NotAHost)),
            (".example.com", Err(NotAHost)),
            ("bücher.example", Err(HostNotAscii)),
        ] {
            let parsed = written.parse::<HostPattern>();
            assert_eq!(
                parsed.map(|host| host.to_string()),
                expected.map(str::to_owned),
                "{written:?}"
            );
        }
    }

    #[test]
    fn paths_print_as_written() {
        for written in [
            "/",
            "/*",
            "/ws",
            "/ws/",
            "/ws/*",
            "/*/live",
            "/*/*",
            "/doc/*/live",
            "/a/*/b/*",
            "/%C3%BC",
            "/a/*/",
        ] {
            let pattern: PathPattern = written.parse().unwrap();
            assert_eq!(pattern.to_string(), written);
        }
        assert_eq!("/*".parse(), Ok(PathPattern::any()));
    }

    #[test]
    fn paths_refused() {
        use PatternError::*;
        for (written, expected) in [
            ("", Empty),
            ("ws", NoLeadingSlash),
            ("*", NoLeadingSlash),
            ("/ws*", WildcardInSegment),
            ("/a*/b", WildcardInSegment),
            ("/**", WildcardInSegment),
            ("/a?b=c", NotPath),
            ("/a#b", NotPath),
            ("//", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//*", EmptySegment),
            ("/a/../b", DotSegment),
            ("/ü", PathNotAscii),
            ("/a b", PathNotAscii),
        ] {
            assert_eq!(written.parse::<PathPattern>(), Err(expected), "{written:?}");
        }
    }
}
