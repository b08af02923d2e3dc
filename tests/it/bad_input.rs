//! Bytes that no honest client sends: the right status or a clean close, and no harm.

use crate::kit::{Authority, Echo, Event, Proxy, Setup, Site, Wire, Ws, eventually};

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// This status, and then the end of the connection.
    Closed(u16),
    /// This status; the connection may be used again.
    Answered(u16),
    /// The end of the connection and nothing before it.
    Dropped,
}
use Fate::{Answered, Closed, Dropped};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// What is sent, byte for byte; what must come back.
const REQUESTS: &[(&str, &[u8], Fate)] = &[
    ("garbage", b"\x01\x02\x03garbage\r\n\r\n", Closed(400)),
    ("text", b"hello there\r\n\r\n", Closed(400)),
    ("a TLS hello on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", Closed(400)),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", Closed(400)),
    ("NUL in a name", b"GET / HTTP/1.1\r\nHost: h\r\nX\0: y\r\n\r\n", Closed(400)),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", Closed(400)),
    ("CR in a value", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", Closed(400)),
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: h\r\n\r\n", Closed(400)),
    ("bare LF after a header", b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", Closed(400)),
    ("bare LFs throughout", b"GET / HTTP/1.1\nHost: h\n\n", Closed(400)),
    ("space before the colon", b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", Closed(400)),
    ("a folded header", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", Closed(400)),
    ("a header without colon", b"GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n", Closed(400)),
    ("space in the target", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", Closed(400)),
    ("no target", b"GET HTTP/1.1\r\nHost: h\r\n\r\n", Closed(400)),
    ("a version of its own", b"GET / HTTP/9.9\r\nHost: h\r\n\r\n", Closed(400)),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", Answered(400)),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", Answered(400)),
    ("the same Host twice", b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Answered(400)),
    ("a Host with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Answered(400)),
    ("a Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Answered(400)),
    ("a Host with a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Answered(400)),
    ("a Host with a bad port", b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", Answered(400)),
    ("a list of Hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Answered(400)),
    ("absolute form with a user", b"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", Answered(400)),
    ("dot segments", b"GET /a/../admin HTTP/1.1\r\nHost: h\r\n\r\n", Answered(400)),
    ("encoded dot segments", b"GET /a/%2e%2E/admin HTTP/1.1\r\nHost: h\r\n\r\n", Answered(400)),
    ("a backslash", b"GET /a\\..\\admin HTTP/1.1\r\nHost: h\r\n\r\n", Answered(400)),
    ("CONNECT", b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", Closed(501)),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", Closed(400)),
    ("a list of lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 2\r\n\r\nab", Closed(400)),
    ("a signed length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na", Closed(400)),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\na", Closed(400)),
    ("a huge length", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\na", Closed(400)),
    ("a length that is a word", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ten\r\n\r\n", Closed(400)),
    ("length and coding", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("coding and length", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", Closed(400)),
    ("an unknown coding", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", Closed(400)),
    ("chunked not last", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Closed(400)),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Closed(400)),
    ("a bad chunk size", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Closed(400)),
    ("a huge chunk size", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", Closed(400)),
    ("a chunk without its CRLF", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n", Closed(400)),
    ("an unprintable Upgrade", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: \xff\xfe\r\n\r\n", Closed(400)),
];

async fn site() -> (Proxy, Echo) {
    let backend = Echo::start("a").await;
    (Proxy::start(Site::one(backend.address())).await, backend)
}

/// Over HTTP/1.1 alone: the text of its heads; `h2_rules` has the frames.
#[tokio::test]
async fn each_request_gets_its_status_and_its_line_and_harms_nobody() {
    let (proxy, _backend) = site().await;
    let mut bystander = proxy.ws("/").await;
    bystander.greeting().await;
    assert_eq!(proxy.get("/").await.text(), "a");
    let before = proxy.descriptors();
    let mut wrong = Vec::new();
    let mut clients = Vec::new();
    for (what, bytes, fate) in REQUESTS {
        let mut wire = proxy.connect().await;
        clients.push((what, wire.local_address()));
        // If it is read as the start of something else, this is what follows.
        wire.send([bytes, SMUGGLED.as_bytes()].concat()).await;
        let found = fate_of(&mut wire, *fate).await;
        if found != Ok(*fate) {
            wrong.push(format!("{what}: {found:?} instead of {fate:?}"));
        }
        bystander.echo(what).await;
    }
    proxy.get("/last").await;
    proxy.log.wait("request", &[("path", "/last")]).await;
    for (what, client) in clients {
        let refused = |event: &Event| {
            event.text("client") == client
                && event.target == "access"
                && event.number("status") != 200
        };
        let lines = proxy.log.all(refused).len();
        if lines != 1 {
            wrong.push(format!("{what}: {lines} lines in the log"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(proxy.get("/").await.text(), "a");
    // The pool may keep one more than before.
    eventually("the descriptors to go", || {
        proxy.descriptors() <= before + 1
    })
    .await;
}

/// What came of it; after an answer that keeps the connection, the next request works.
async fn fate_of(wire: &mut Wire, expected: Fate) -> Result<Fate, String> {
    let Some(head) = wire.next_response_head().await else {
        return Ok(Dropped);
    };
    wire.body(head.length("GET")).await;
    if head.status == 200 {
        return Err("answered with 200".into());
    }
    if let Closed(_) = expected {
        let (rest, _) = wire.rest_and_end().await;
        return match rest.is_empty() {
            true => Ok(Closed(head.status)),
            false => Err(format!("went on after {}", head.status)),
        };
    }
    match wire.next_response_head().await {
        Some(next) if next.status == 200 => Ok(Answered(head.status)),
        Some(next) => Err(format!("{} and then {}", head.status, next.status)),
        None => Err(format!("closed after {}", head.status)),
    }
}

#[tokio::test]
async fn nothing_malformed_reaches_a_backend() {
    let (proxy, backend) = site().await;
    for (what, bytes, _) in REQUESTS {
        // A body found wrong after the head has been begun to be passed on.
        if what.contains("chunk size") || what.contains("its CRLF") {
            continue;
        }
        let mut wire = proxy.connect().await;
        wire.send(bytes).await;
        wire.finish().await;
        wire.rest_and_end().await;
        assert_eq!(backend.requests().len(), 0, "{what} reached the backend");
    }
}

#[tokio::test]
async fn absolute_form_goes_to_its_own_host() {
    let (proxy, backend) = site().await;
    let mut wire = proxy.connect().await;
    wire.send("GET http://Chat.test:81/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n")
        .await;
    assert_eq!(wire.response().await.head.status, 200);
    let request = backend.requests().remove(0);
    assert_eq!(request.target, "/x?y");
    assert_eq!(
        request.header("host"),
        Some("Chat.test:81"),
        "RFC 9112 section 3.2.2"
    );
}

#[tokio::test]
async fn each_bad_head_is_one_log_line() {
    let (proxy, _backend) = site().await;
    let cases: [(&[u8], &str); 3] = [
        (b"GET / HTTP/1.1\r\n\r\n", "bad_host"),
        (b"GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", "bad_path"),
        (b"\x01\x02\r\n\r\n", "bad_head"),
    ];
    for (bytes, refusal) in cases {
        let mut wire = proxy.connect().await;
        wire.send(bytes).await;
        assert_eq!(wire.response().await.head.status, 400);
        let facts = [("status", "400"), ("refusal", refusal)];
        let event = proxy.log.wait("request", &facts).await;
        assert_eq!(
            event.level, "INFO",
            "a client's mistake is no error of ours"
        );
    }
    // The log keeps its order: what was to come has come before this line.
    proxy.get("/last").await;
    proxy.log.wait("request", &[("path", "/last")]).await;
    let access = |event: &Event| event.target == "access";
    assert_eq!(proxy.log.all(access).len(), cases.len() + 1);
}

/// Over HTTP/1.1 alone: what comes never gets as far as HTTP.
#[tokio::test]
async fn what_is_no_tls_on_a_tls_port() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = Site::one(backend.address()).tls();
    let proxy = setup.start(site).await;
    let wire = proxy.tls(&authority.client(), "localhost").await;
    let mut bystander = Ws::open(wire, "/", "localhost", "").await;
    bystander.greeting().await;
    let openings: [(&str, &[u8]); 4] = [
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("garbage", &[0xff; 200]),
        (
            "a record of the wrong size",
            &[0x16, 3, 1, 0xff, 0xff, 1, 1, 1],
        ),
        ("an alert", &[0x15, 3, 3, 0, 2, 2, 40]),
    ];
    for (what, bytes) in &openings {
        let mut wire = proxy.connect().await;
        wire.send(bytes).await;
        wire.finish().await;
        // An alert or a 400, but nothing from the backend.
        let (answer, _) = wire.rest_and_end().await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{what}");
        let facts = [("client", &*wire.local_address())];
        proxy.log.wait("tls handshake failed", &facts).await;
        bystander.echo(what).await;
    }
    assert_eq!(backend.requests().len(), 1);
    let failures = |event: &Event| event.message == "tls handshake failed";
    assert_eq!(
        proxy.log.all(failures).len(),
        openings.len(),
        "one line for each"
    );
    bystander.close(1000).await;
}
