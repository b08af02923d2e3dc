//! `auth` of a route: whom to ask before a request goes to its backend.
//!
//! The values beside their reader; the asking is `proxy`'s.

use std::time::Duration;

use http::HeaderName;

use super::diagnostic::WrittenAt;
use super::drain::close_code;
use super::health::request_path;
use super::section::{Section, Value, Wrong};
use super::value::{POSITIVE, SECOND, duration, label, text, wrong};

/// Who decides about the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Where the question goes.
    pub upstream: String,
    /// Path and query of the question.
    pub path: String,
    /// For the question and its answer.
    pub timeout: Duration,
    /// Headers that the backend gets as the answer has them, and from nobody
    /// else.
    pub set_headers: Vec<HeaderName>,
    /// The status code of the Close frame when what was granted has ended;
    /// `None` closes without one.
    pub close_code: Option<u16>,
    pub place: WrittenAt,
}

/// The default of `close_code`: "policy violation" (RFC 6455, 7.4.1).
const POLICY: u16 = 1008;

/// What a message is made of, and what longhaul itself says.
const NEVER_SET: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `None` if there is no such table, or no upstream in it.
pub(super) fn auth(section: &Section<'_>) -> Option<Auth> {
    let allowed = "a table such as { upstream = \"auth\", path = \"/verify\" }";
    let table = section.subsection("auth", allowed)?;
    let upstream = table.required("upstream", label);
    let place = WrittenAt(table.place_of("upstream"));
    let auth = Auth {
        upstream: String::new(),
        path: table.or("path", "/".to_owned(), request_path),
        timeout: table.or("timeout", SECOND * 5, duration(POSITIVE)),
        set_headers: table.list(
            "set_headers",
            "an array of header names such as \"x-user\"",
            settable,
        ),
        close_code: table.or("close_code", Some(POLICY), close_code),
        place,
    };
    table.finish();
    Some(Auth {
        upstream: upstream?,
        ..auth
    })
}

pub(super) fn settable(value: &Value<'_>) -> Result<HeaderName, Wrong> {
    let allowed = "the name of a header that is not about the message or the connection itself";
    let written = text(value, allowed)?;
    match settable_name(written) {
        Some(name) => Ok(name),
        None => wrong(value, allowed),
    }
}

pub(super) fn settable_name(written: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(written.as_bytes()).ok()?;
    let text = name.as_str();
    let never = NEVER_SET.contains(&text) || text.starts_with("sec-websocket-");
    (!never).then_some(name)
}
