//! Header hygiene: what is taken off before a message is passed on.
//!
//! RFC 9110 section 7.6.1: hop-by-hop fields end here, those that `Connection`
//! names included, except that a `Connection` of the client can never take off
//! what longhaul itself adds (it is applied first).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes all hop-by-hop fields. `TE: trailers` and `Trailer` stay: longhaul
/// passes trailers on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in connection_options(headers) {
        if !is_end_to_end(&name) {
            headers.remove(&name);
        }
    }
    let wants_trailers = crate::ws::handshake::tokens(headers, &header::TE)
        .any(|token| token.eq_ignore_ascii_case("trailers"));
    for name in [
        header::CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
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

/// Makes `name` say `value`, or nothing: what longhaul knows takes the place of
/// whatever the client says under that name, and its `Connection` cannot take it
/// off again.
pub fn vouch(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>) {
    remove_folded(headers, name);
    let Some(value) = value else {
        return;
    };
    if connection_options(headers).contains(name) {
        let tokens = crate::ws::handshake::tokens(headers, &header::CONNECTION);
        let others = tokens.filter(|token| !token.eq_ignore_ascii_case(name.as_str()));
        let others = others.collect::<Vec<_>>().join(", ");
        if let Ok(others) = HeaderValue::try_from(others) {
            headers.insert(header::CONNECTION, others);
        }
    }
    headers.insert(name, value);
}

/// Removes `name`, and what some servers read as the same because they take `_`
/// for `-` (RFC 3875 section 4.1.18).
pub fn remove_folded(headers: &mut HeaderMap, name: &HeaderName) {
    let same = |other: &&HeaderName| {
        let (one, other) = (name.as_str().bytes(), other.as_str().bytes());
        let fold = |byte| if byte == b'_' { b'-' } else { byte };
        one.map(fold).eq(other.map(fold))
    };
    while let Some(found) = headers.keys().find(same).cloned() {
        headers.remove(found);
    }
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
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-public", "2"), ("te", "trailers")]));
    }

    #[test]
    fn what_is_vouched_for_is_said_once_and_stays() {
        let name = HeaderName::from_static("x-subject");
        let lines = [
            ("connection", "close, X-Subject, x-private"),
            ("x-subject", "forged"),
            ("x_subject", "forged"),
            ("x-private", "1"),
        ];
        let mut headers = map(&lines);
        headers.append("x-subject", HeaderValue::from_static("twice"));
        let value = HeaderValue::from_static("CN=a");
        vouch(&mut headers, &name, Some(value));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-subject", "CN=a")]));
        let mut headers = map(&lines);
        vouch(&mut headers, &name, None);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, HeaderMap::new());
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
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 4);
    }
}
