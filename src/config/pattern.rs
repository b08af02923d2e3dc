//! Host and path patterns, parsed. Matching and precedence are `route`'s.

use std::fmt;

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
