use http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use longhaul::ws::handshake::{self, Offer, Upgrade};

use super::lines::headers;

/// The handshake, from both sides: the data are the fields of a request. What it
/// takes asks for a WebSocket and nothing else, and an answer is taken that
/// names what was offered, and only such a one.
pub fn handshake(data: &[u8]) {
    let headers = headers(data);
    lists(&headers);
    let asked = handshake::upgrade_protocol(&headers);
    let judge = |method, version| handshake::check_request(&method, version, &headers);
    let Ok(offer) = judge(Method::GET, Version::HTTP_11) else {
        return;
    };
    assert_eq!(asked, Upgrade::One("websocket".to_owned()));
    assert!(judge(Method::POST, Version::HTTP_11).is_err());
    assert!(judge(Method::GET, Version::HTTP_10).is_err());
    answers(&offer);
}

fn answers(offer: &Offer) {
    let mut answer = HeaderMap::new();
    assert!(handshake::check_response(offer, &answer).is_err());
    handshake::complete(offer, &mut answer);
    assert_eq!(handshake::check_response(offer, &answer), Ok(()));
    let with = |name: HeaderName, value: &str| {
        let mut answer = answer.clone();
        answer.insert(name, HeaderValue::from_str(value).ok()?);
        Some(handshake::check_response(offer, &answer).is_ok())
    };
    for name in offer.subprotocols() {
        assert_ne!(with(SEC_WEBSOCKET_PROTOCOL, name), Some(false), "{name:?}");
    }
    for name in offer.extensions() {
        assert_ne!(
            with(SEC_WEBSOCKET_EXTENSIONS, name),
            Some(false),
            "{name:?}"
        );
    }
    let nobodys = "nobody-offers-this";
    if offer.subprotocols().all(|name| name != nobodys) {
        assert_eq!(with(SEC_WEBSOCKET_PROTOCOL, nobodys), Some(false));
    }
    if offer.extensions().all(|name| name != nobodys) {
        assert_eq!(with(SEC_WEBSOCKET_EXTENSIONS, nobodys), Some(false));
    }
    let mut twice = answer.clone();
    for (name, value) in &answer {
        twice.append(name, value.clone());
    }
    assert!(
        handshake::check_response(offer, &twice).is_err(),
        "two keys"
    );
}

/// A list over several lines is the list of all of them (RFC 9110 section 5.3).
fn lists(headers: &HeaderMap) {
    for name in headers.keys() {
        let found: Vec<&str> = handshake::tokens(headers, name).collect();
        for token in &found {
            assert!(!token.contains(',') && !token.is_empty());
            let upper = token.to_ascii_uppercase();
            assert!(handshake::has_token(headers, name, &upper));
        }
        let values = headers.get_all(name).iter();
        let lines: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
        let joined = HeaderValue::from_bytes(&lines.join(&b", "[..])).expect("a value");
        let joined = HeaderMap::from_iter([(name.clone(), joined)]);
        let again: Vec<&str> = handshake::tokens(&joined, name).collect();
        assert_eq!(found, again, "lines and one line differ");
    }
}
