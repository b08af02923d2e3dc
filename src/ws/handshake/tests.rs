//! Handshakes as clients in use send them, and as they must not be sent.
//!
//! The heads are modelled on what each client writes (spelling, order, lists,
//! extra headers), not captured. Keys are made up, except that of RFC 6455.

use super::*;
use proptest::prelude::*;

mod clients;
mod libraries;

use clients::{BROWSERS, BY_WAY_OF_PROXIES, TOOLS};
use libraries::LIBRARIES;

struct Head {
    method: Method,
    version: Version,
    headers: HeaderMap,
}

/// Reads a head written one header a line; blanks around lines do not count.
fn head(text: &str) -> Head {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut start = lines.next().expect("a request line").split(' ');
    let method = start.next().expect("a method").parse().expect("a method");
    let version = match start.next_back().expect("a version") {
        "HTTP/1.0" => Version::HTTP_10,
        "HTTP/1.1" => Version::HTTP_11,
        other => panic!("version {other}"),
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').expect("a header");
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a header name"),
            HeaderValue::from_bytes(value.trim().as_bytes()).expect("a header value"),
        );
    }
    Head {
        method,
        version,
        headers,
    }
}

fn checked(text: &str) -> Result<Offer, Mistake> {
    let head = head(text);
    check_request(&head.method, head.version, &head.headers)
}

fn upgrade_of(text: &str) -> Upgrade {
    upgrade_protocol(&head(text).headers)
}

/// Client, head, offered subprotocols, offered extensions.
type Accepted = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
fn handshakes_of_clients_in_use_are_accepted() {
    let tables = [BROWSERS, LIBRARIES, TOOLS, BY_WAY_OF_PROXIES];
    assert!(tables.iter().map(|table| table.len()).sum::<usize>() >= 40);
    for (client, text, subprotocols, extensions) in tables.into_iter().flatten() {
        let offer = checked(text).unwrap_or_else(|mistake| panic!("{client}: {mistake}"));
        let found: Vec<&str> = offer.subprotocols().collect();
        assert_eq!(&found, subprotocols, "{client}");
        let found: Vec<&str> = offer.extensions().collect();
        assert_eq!(&found, extensions, "{client}");
        assert_eq!(
            upgrade_of(text),
            Upgrade::One("websocket".into()),
            "{client}"
        );
    }
}

const GOOD: &str = "GET /ws HTTP/1.1
    Host: backend
    Upgrade: websocket
    Connection: Upgrade
    Sec-WebSocket-Version: 13
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// What to replace in `GOOD`, with what, and the mistake it makes.
fn mistakes() -> Vec<(&'static str, &'static str, Mistake)> {
    use Mistake::*;
    vec![
        ("GET", "POST", Method(http::Method::POST)),
        ("GET", "CONNECT", Method(http::Method::CONNECT)),
        ("GET", "get", Method("get".parse().expect("a method"))),
        ("HTTP/1.1", "HTTP/1.0", HttpVersion(Version::HTTP_10)),
        ("Upgrade: websocket", "X: y", Upgrade),
        ("Upgrade: websocket", "Upgrade: h2c", Upgrade),
        ("Upgrade: websocket", "Upgrade: h2c, websocket", Upgrade),
        ("Upgrade: websocket", "Upgrade: websocket/13", Upgrade),
        ("Upgrade: websocket", "Upgrade: web socket", Upgrade),
        ("Upgrade: websocket", "Upgrade: websocket, \u{e9}", Upgrade),
        ("Connection: Upgrade", "X: y", Connection),
        ("Connection: Upgrade", "Connection: keep-alive", Connection),
        ("Connection: Upgrade", "Connection: upgraded", Connection),
        ("Sec-WebSocket-Version: 13", "X: y", VersionMissing),
        (": 13", ": 8", VersionUnknown),
        (": 13", ": 13, 8", VersionUnknown),
        (": 13", ": 013", VersionUnknown),
        (": 13", ":", VersionUnknown),
        (": 13", ": 13\nSec-WebSocket-Version: 13", VersionTwice),
        (KEY, "X: y", KeyMissing),
        (KEY, "Sec-WebSocket-Key:", KeyMalformed),
        // In many curl recipes; it decodes to 13 bytes.
        (KEY, "Sec-WebSocket-Key: SGVsbG8sIHdvcmxkIQ==", KeyMalformed),
        (
            KEY,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
            KeyMalformed,
        ),
        (
            KEY,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=",
            KeyMalformed,
        ),
        (
            KEY,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j_Q==",
            KeyMalformed,
        ),
        (
            KEY,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===",
            KeyMalformed,
        ),
        (
            "Host: backend",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            KeyTwice,
        ),
        (
            "Host: backend",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            KeyTwice,
        ),
        ("Host: backend", "Content-Length: 5", Body),
        ("Host: backend", "Content-Length: 0, 5", Body),
        ("Host: backend", "Transfer-Encoding: chunked", Body),
    ]
}

#[test]
fn wrong_handshakes_are_told_what_is_wrong() {
    assert!(checked(GOOD).is_ok());
    for (from, to, mistake) in mistakes() {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from} is there to be replaced");
        assert_eq!(checked(&text).err(), Some(mistake), "{to}");
    }
}

#[test]
fn an_unknown_version_is_426_and_all_else_400() {
    for (_, _, mistake) in mistakes() {
        let version = matches!(mistake, Mistake::VersionUnknown);
        assert_eq!(
            mistake.status(),
            if version { 426 } else { 400 },
            "{mistake}"
        );
    }
}

#[test]
fn an_upgrade_counts_only_with_its_connection_option() {
    let cases: &[(&str, Upgrade)] = &[
        ("", Upgrade::None),
        ("Connection: keep-alive", Upgrade::None),
        ("Connection: Upgrade", Upgrade::None),
        ("Connection: Upgrade\nUpgrade:", Upgrade::None),
        ("Upgrade: websocket", Upgrade::None),
        ("Upgrade: websocket\nConnection: close", Upgrade::None),
        (
            // What curl --http2 and Java's HttpClient send in clear text.
            "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMA",
            Upgrade::One("h2c".into()),
        ),
        (
            "Connection: upgrade\nUpgrade: TLS/1.2",
            Upgrade::One("tls/1.2".into()),
        ),
        (
            "Connection: upgrade\nUpgrade: SPDY/3.1",
            Upgrade::One("spdy/3.1".into()),
        ),
        (
            "Connection: upgrade\nUpgrade: h2c\nUpgrade: websocket",
            Upgrade::Several,
        ),
        ("Connection: upgrade\nUpgrade: a, b, a", Upgrade::Several),
        (
            "Connection: upgrade\nUpgrade: websocket;q=1",
            Upgrade::Malformed,
        ),
        ("Connection: upgrade\nUpgrade: /1", Upgrade::Malformed),
        ("Connection: upgrade\nUpgrade: a/", Upgrade::Malformed),
        ("Connection: upgrade\nUpgrade: a/b/c", Upgrade::Malformed),
        ("Connection: upgrade\nUpgrade: \"x\"", Upgrade::Malformed),
    ];
    for (lines, expected) in cases {
        let text = format!("GET / HTTP/1.1\n{lines}");
        assert_eq!(&upgrade_of(&text), expected, "{lines}");
    }
}

#[test]
fn the_key_of_the_rfc_gives_the_accept_of_the_rfc() {
    assert_eq!(
        &accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
        b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_eq!(&base64(b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(&base64(&[0xff; 16]), b"/////////////////////w==");
}

fn offer(extra: &str) -> Offer {
    checked(&format!("{GOOD}\n{extra}")).expect("a good handshake")
}

fn answered(offer: &Offer, lines: &str) -> Result<(), BadAnswer> {
    check_response(offer, &head(&format!("- - HTTP/1.1\n{lines}")).headers)
}

const ANSWER: &str = "Upgrade: websocket
    Connection: Upgrade
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[test]
fn right_answers_pass() {
    let offer = offer(
        "Sec-WebSocket-Protocol: mqtt, chat
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, foo",
    );
    for extra in [
        "",
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Protocol:",
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover",
        "Sec-WebSocket-Extensions: foo\nSec-WebSocket-Extensions: Permessage-Deflate",
        "Sec-WebSocket-Version: 13\nServer: x",
    ] {
        assert_eq!(answered(&offer, &format!("{ANSWER}\n{extra}")), Ok(()));
    }
    let other_spelling = "upgrade: WebSocket
        connection: keep-alive, upgrade
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    assert_eq!(answered(&offer, other_spelling), Ok(()));
}

#[test]
fn wrong_answers_do_not_pass() {
    use BadAnswer::*;
    let offered = offer("Sec-WebSocket-Protocol: mqtt\nSec-WebSocket-Extensions: foo");
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let cases = [
        ("Upgrade: websocket", "X: y".to_owned(), Upgrade),
        ("websocket", "h2c".to_owned(), Upgrade),
        ("Connection: Upgrade", "X: y".to_owned(), Connection),
        (
            "Connection: Upgrade",
            "Connection: close".to_owned(),
            Connection,
        ),
        (accept, "X: y".to_owned(), AcceptMissing),
        ("s3pP", "S3PP".to_owned(), AcceptWrong),
        ("xOo=", "xOo".to_owned(), AcceptWrong),
        ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", String::new(), AcceptWrong),
        (accept, format!("{accept}\n{accept}"), AcceptTwice),
        (
            accept,
            format!("{accept}\nSec-WebSocket-Protocol: chat"),
            SubprotocolNotOffered,
        ),
        (
            accept,
            format!("{accept}\nSec-WebSocket-Protocol: MQTT"),
            SubprotocolNotOffered,
        ),
        (
            accept,
            format!("{accept}\nSec-WebSocket-Protocol: \u{e9}"),
            SubprotocolNotOffered,
        ),
        (
            accept,
            format!("{accept}\nSec-WebSocket-Protocol: mqtt, mqtt"),
            SubprotocolTwice,
        ),
        (
            accept,
            format!("{accept}\nSec-WebSocket-Extensions: bar"),
            ExtensionNotOffered,
        ),
        (
            accept,
            format!("{accept}\nSec-WebSocket-Extensions: foo, \u{e9}"),
            ExtensionNotOffered,
        ),
    ];
    for (from, to, expected) in cases {
        let lines = ANSWER.replacen(from, &to, 1);
        assert_eq!(answered(&offered, &lines), Err(expected), "{to}");
    }
    let bare = offer("");
    for (line, expected) in [
        ("Sec-WebSocket-Protocol: mqtt", SubprotocolNotOffered),
        ("Sec-WebSocket-Extensions: foo", ExtensionNotOffered),
    ] {
        let answer = format!("{ANSWER}\n{line}");
        assert_eq!(answered(&bare, &answer), Err(expected));
    }
}

#[test]
fn an_offer_does_not_print_its_subprotocols() {
    let offer = offer("Sec-WebSocket-Protocol: bearer.s3cret");
    assert!(!format!("{offer:?}").contains("s3cret"));
    assert_eq!(offer.subprotocols().count(), 1);
}

proptest! {
    #[test]
    fn any_16_bytes_make_a_key_that_is_accepted(random: [u8; 16]) {
        let key: [u8; 24] = base64(&random);
        prop_assert!(is_base64_of_16_bytes(&key));
        let mut headers = head(GOOD).headers;
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_bytes(&key).expect("base64"));
        let offer = check_request(&Method::GET, Version::HTTP_11, &headers).expect("good");
        let answer = |value: &[u8]| {
            let mut headers = head(&format!("- - HTTP/1.1\n{ANSWER}")).headers;
            let value = HeaderValue::from_bytes(value).expect("a header value");
            headers.insert(SEC_WEBSOCKET_ACCEPT, value);
            headers
        };
        let mut right = accept(&key);
        prop_assert_eq!(check_response(&offer, &answer(&right)), Ok(()));
        right[3] = if right[3] == b'A' { b'B' } else { b'A' };
        prop_assert_eq!(check_response(&offer, &answer(&right)), Err(BadAnswer::AcceptWrong));
    }

    #[test]
    fn arbitrary_header_values_panic_nowhere(
        upgrade in proptest::collection::vec(32u8..=255, 0..40),
        connection in proptest::collection::vec(32u8..=255, 0..40),
        key in proptest::collection::vec(32u8..=255, 0..40),
    ) {
        let mut headers = head(GOOD).headers;
        for (name, bytes) in [(UPGRADE, upgrade), (CONNECTION, connection), (SEC_WEBSOCKET_KEY, key)] {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.append(name, value);
            }
        }
        let _ = upgrade_protocol(&headers);
        let _ = check_request(&Method::GET, Version::HTTP_11, &headers);
        let _ = check_response(&offer(""), &headers);
    }
}
