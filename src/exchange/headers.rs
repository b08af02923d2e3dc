//! Header hygiene: what is taken off before a message is passed on, and what only
//! longhaul may say.
//!
//! RFC 9110 section 7.6.1: hop-by-hop fields end here, those that `Connection`
//! names included.
//!
//! Invariant: a field that longhaul vouches for says what longhaul says or is not
//! there, whatever the client has written, wherever, in whichever spelling.

use http::Request;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Body;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Takes off what `Connection` names. Of a request that comes before longhaul has
/// added anything, or a client could take that off.
pub fn apply_connection(headers: &mut HeaderMap) {
    for name in connection_options(headers) {
        if !is_end_to_end(&name) {
            headers.remove(&name);
        }
    }
}

/// Removes the fields of the connection, after [`apply_connection`]. `TE: trailers`
/// and `Trailer` stay: longhaul passes trailers on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // A look at each name is cheaper than to hash all of these: most messages have
    // none of them, or one.
    let mut there = [false; HOP_BY_HOP.len()];
    for name in headers.keys() {
        if let Some(at) = HOP_BY_HOP.iter().position(|hop| hop == name) {
            there[at] = true;
        }
    }
    for (name, _) in HOP_BY_HOP.iter().zip(there).filter(|(_, there)| *there) {
        let trailers = *name == header::TE && wants_trailers(headers);
        headers.remove(name);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    crate::ws::handshake::tokens(headers, &header::TE)
        .any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// Both, of an answer.
pub fn strip_answer(headers: &mut HeaderMap) {
    apply_connection(headers);
    strip_hop_by_hop(headers);
}

/// [`strip_hop_by_hop`], and for an upgrade the two lines anew, in the spelling
/// that strict peers insist on.
pub fn renew_hop_by_hop(headers: &mut HeaderMap, upgrade: Option<&str>) {
    strip_hop_by_hop(headers);
    if let Some(value) = upgrade.and_then(|protocol| HeaderValue::from_str(protocol).ok()) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, value);
    }
}

/// Takes off whatever a request says in this field: in its head, in the trailers
/// to come, and in what servers of CGI's kind read as the same (RFC 3875 section
/// 4.1.18).
pub fn withdraw(request: &mut Request<Body>, name: &HeaderName) {
    remove(request.headers_mut(), name);
    request.body_mut().withhold(name.clone());
}

/// [`withdraw`] of the head alone.
pub fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    let same: Vec<_> = headers
        .keys()
        .filter(|it| is_same(it, name))
        .cloned()
        .collect();
    for name in same {
        headers.remove(name);
    }
}

/// Takes off the trailers of a request that have no business there (RFC 9110
/// section 6.5.1), and those that are withheld.
pub(super) fn strip_trailers(trailers: &mut HeaderMap, withheld: &[HeaderName]) {
    let goes = |name: &&HeaderName| {
        let folded = folded(name);
        let name = folded.as_ref().unwrap_or(name);
        HOP_BY_HOP.contains(name)
            || is_end_to_end(name)
            || *name == REQUEST_ID
            || withheld.iter().any(|withheld| is_same(withheld, name))
    };
    let gone: Vec<_> = trailers.keys().filter(goes).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether servers that read `_` as `-` take both for one.
fn is_same(one: &HeaderName, other: &HeaderName) -> bool {
    let (one, other) = (one.as_str().bytes(), other.as_str().bytes());
    let fold = |byte| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.map(fold).eq(other.map(fold))
}

fn folded(name: &HeaderName) -> Option<HeaderName> {
    let name = name.as_str();
    let folded = name.contains('_').then(|| name.replace('_', "-"))?;
    HeaderName::try_from(folded).ok()
}

/// The field names that `Connection` lists, without those that go anyway.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let goes_anyway = |token: &&str| {
        let usual = ["upgrade", "keep-alive"];
        usual.iter().any(|usual| token.eq_ignore_ascii_case(usual))
    };
    crate::ws::handshake::tokens(headers, &header::CONNECTION)
        .filter(|token| !goes_anyway(token))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .collect()
}

/// Fields that describe the message to its final recipient: a peer that names
/// them in `Connection` wants to change what the other side believes.
fn is_end_to_end(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::AUTHORIZATION
            | header::COOKIE
            | header::SET_COOKIE
            | header::ORIGIN
            | header::SEC_WEBSOCKET_ACCEPT
            | header::SEC_WEBSOCKET_EXTENSIONS
            | header::SEC_WEBSOCKET_KEY
            | header::SEC_WEBSOCKET_PROTOCOL
            | header::SEC_WEBSOCKET_VERSION
            | header::TE
            | header::TRAILER
            | header::FORWARDED
    ) || name.as_str().starts_with("x-forwarded-")
        || name == "x-real-ip"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn what_connection_names_goes_and_the_rest_stays() {
        let mut headers = map(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("x-public", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ]);
        strip_answer(&mut headers);
        assert_eq!(headers, map(&[("x-public", "2"), ("te", "trailers")]));
    }

    #[test]
    fn connection_cannot_take_off_what_identifies_the_message() {
        let mut headers = map(&[
            ("connection", "host, cookie, authorization, origin"),
            ("host", "a.example"),
            ("cookie", "sid=1"),
            ("authorization", "x"),
            ("origin", "https://a.example"),
        ]);
        strip_answer(&mut headers);
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn connection_cannot_take_off_what_comes_after_it() {
        let mut headers = map(&[("connection", "x-user"), ("x-user", "mallory")]);
        apply_connection(&mut headers);
        headers.insert("x-user", HeaderValue::from_static("ann"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-user", "ann")]));
    }

    #[test]
    fn every_spelling_of_a_field_is_withdrawn() {
        let (kept, name) = (("x-users", "3"), HeaderName::from_static("x-user-name"));
        let spellings = [
            ("x-user-name", "1"),
            ("x_user-name", "2"),
            ("x_user_name", "3"),
        ];
        let mut headers = map(&[&spellings[..], &[kept]].concat());
        remove(&mut headers, &name);
        assert_eq!(headers, map(&[kept]));
    }

    #[test]
    fn trailers_say_nothing_that_only_a_head_may_say() {
        let mut trailers = map(&[
            ("sum", "1"),
            ("x_user", "2"),
            ("x-forwarded-for", "3"),
            ("x_real-ip", "4"),
            ("authorization", "5"),
            ("x-request_id", "6"),
            ("transfer-encoding", "7"),
        ]);
        strip_trailers(&mut trailers, &[HeaderName::from_static("x-user")]);
        assert_eq!(trailers, map(&[("sum", "1")]));
    }
}
