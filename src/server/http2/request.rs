//! What a stream carries, as the ordinary request that the layers, the routes
//! and the backends know.
//!
//! An extended CONNECT (RFC 8441 section 5) becomes the opening handshake of
//! HTTP/1.1 with a key of longhaul's own, so that everything behind is shared.

use h2::ext::Protocol;
use http::header::{CONNECTION, COOKIE, HOST, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use crate::ws::handshake;

/// Whether the stream is to become a tunnel if all goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Tunnel,
}

pub(super) fn normalise(request: &mut Request<()>) -> Kind {
    name_host(request);
    join_cookies(request.headers_mut());
    let protocol = request.extensions_mut().remove::<Protocol>();
    let Some(protocol) = protocol else {
        return Kind::Plain;
    };
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    // What is no token is refused where every `Upgrade` is looked at.
    let protocol = HeaderValue::from_str(protocol.as_str());
    headers.insert(UPGRADE, protocol.unwrap_or(HeaderValue::from_static("/")));
    let key = handshake::key(rand::random());
    if let Ok(key) = HeaderValue::from_bytes(&key) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    Kind::Tunnel
}

/// What `:authority` says, as Host says it everywhere else. A Host that says
/// something else stays beside it and makes the request ambiguous (RFC 9113
/// section 8.3.1).
fn name_host(request: &mut Request<()>) {
    let authority = request.uri().authority();
    let Some(authority) = authority.and_then(|a| HeaderValue::from_str(a.as_str()).ok()) else {
        return;
    };
    let headers = request.headers_mut();
    let same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
    if !headers.get(HOST).is_some_and(same) {
        headers.append(HOST, authority);
    }
}

/// One line again of what HTTP/2 may split (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_joined_in_their_order() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2", "c=3; d=4"] {
            headers.append(COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
        assert_eq!(headers[COOKIE], "a=1; b=2; c=3; d=4");
    }

    #[test]
    fn an_extended_connect_is_a_handshake() {
        let mut request = Request::connect("https://a.example/ws?x=1")
            .version(Version::HTTP_2)
            .header("sec-websocket-version", "13")
            .extension(Protocol::from_static("websocket"))
            .body(())
            .unwrap();
        assert_eq!(normalise(&mut request), Kind::Tunnel);
        let offer =
            handshake::check_request(request.method(), request.version(), request.headers());
        assert!(offer.is_ok(), "{offer:?}");
        assert_eq!(request.uri().path(), "/ws");
    }
}
