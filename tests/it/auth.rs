//! Forward auth: what is asked, what the answer decides, and when what it grants ends.

use std::time::{Duration, Instant, SystemTime};

use crate::kit::{
    Echo, Fixed, Over, Proxy, RawBackend, Request, Site, Ws, eventually, handshake, nobody,
    over_each,
};

over_each!(
    a_handshake_is_asked_about_and_the_answer_sets_its_headers,
    what_is_denied_gets_the_answer_and_no_backend,
    whatever_goes_wrong_nothing_passes,
    a_tunnel_ends_when_what_was_granted_does,
);

const OK: &str = "HTTP/1.1 200 OK";

fn site(backend: &Echo, authority: &str, auth: &str) -> Site {
    Site::of(&[backend.entry()])
        .route(&format!(
            "auth = {{ upstream = 'auth', path = '/verify?by=longhaul', {auth} }}"
        ))
        .more(&format!(
            "[upstreams.auth]\nbackends = [{{ name = 'auth', address = '{authority}' }}]"
        ))
}

/// The answer's status to a plain request and to a handshake.
async fn statuses(proxy: &Proxy) -> (u16, u16) {
    let plain = proxy.get("/").await.head.status;
    let mut wire = proxy.connect().await;
    wire.send(handshake("/", "localhost", "")).await;
    (plain, wire.response_head().await.status)
}

fn only(requests: &[Request]) -> &Request {
    assert_eq!(requests.len(), 1, "{requests:?}");
    &requests[0]
}

async fn a_handshake_is_asked_about_and_the_answer_sets_its_headers(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Fixed::start(&format!("{OK}\r\nX-User: alice\r\nX-Other: no")).await;
    let set = "set_headers = ['x-user', 'x-tenant']";
    let proxy = Proxy::start(site(&backend, authority.address(), set))
        .await
        .over(over);
    let headers = "X-User: mallory\r\nX_User: mallory\r\nX-Tenant: evil\r\nX_Tenant: evil\r\nCookie: sid=1\r\nAuthorization: Bearer t\r\n\
                   Sec-WebSocket-Protocol: token.t\r\nX-Forwarded-Uri: /else\r\n";
    let mut ws = proxy.ws_with("/room/7?a=1", headers).await;
    assert_eq!(ws.greeting().await, "a");
    let asked = authority.requests();
    let asked = only(&asked);
    assert_eq!(
        (&*asked.method, &*asked.target),
        ("GET", "/verify?by=longhaul")
    );
    for (name, value) in [
        ("host", Some("localhost")),
        ("x-forwarded-method", Some("GET")),
        ("x-forwarded-uri", Some("/room/7?a=1")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("cookie", Some("sid=1")),
        ("authorization", Some("Bearer t")),
        ("sec-websocket-protocol", Some("token.t")),
        ("connection", None),
        ("upgrade", None),
        ("sec-websocket-key", None),
        ("sec-websocket-version", None),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    let passed = backend.requests();
    let passed = only(&passed);
    assert_eq!(passed.all("x-user"), ["alice"]);
    assert_eq!(
        passed.header("x-tenant"),
        None,
        "the client's own is not believed"
    );
    assert_eq!(passed.header("x-other"), None);
    assert_eq!(passed.header("upgrade"), Some("websocket"));
    let opened = proxy.log.wait("tunnel opened", &[]).await;
    assert_eq!(
        (opened.text("upstream"), opened.text("backend")),
        ("app", "a")
    );
}

#[tokio::test]
async fn a_request_with_a_body_is_asked_about_without_it() {
    let backend = Echo::start("a").await;
    let authority = Fixed::start("HTTP/1.1 204 No Content").await;
    let proxy = Proxy::start(site(&backend, authority.address(), "")).await;
    let mut wire = proxy.connect().await;
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(wire.response().await.head.status, 200);
    let asked = authority.requests();
    let asked = only(&asked);
    assert_eq!(asked.header("x-forwarded-method"), Some("POST"));
    for name in ["content-length", "transfer-encoding", "expect"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(
        only(&backend.requests()).header("content-length"),
        Some("5")
    );
}

async fn what_is_denied_gets_the_answer_and_no_backend(over: Over) {
    let backend = Echo::start("a").await;
    let denied = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: a=1";
    let authority = Fixed::start(denied).await;
    let proxy = Proxy::start(site(&backend, authority.address(), ""))
        .await
        .over(over);
    let mut wire = proxy.connect().await;
    wire.send(handshake("/", "localhost", "")).await;
    let head = wire.response_head().await;
    assert_eq!(head.status, 401);
    assert_eq!(head.header("www-authenticate"), Some("Bearer"));
    assert_eq!(head.header("set-cookie"), Some("a=1"));
    assert_eq!(statuses(&proxy).await, (401, 401));
    proxy
        .log
        .wait("request", &[("refusal", "auth_denied")])
        .await;
    authority.set("HTTP/1.1 302 Found\r\nLocation: https://login.example/");
    let head = proxy.get("/").await.head;
    assert_eq!(
        (head.status, head.header("location")),
        (302, Some("https://login.example/"))
    );
    assert_eq!(backend.connections(), 0);
}

async fn whatever_goes_wrong_nothing_passes(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Fixed::start("HTTP/1.1 500 No").await;
    let proxy = Proxy::start(site(&backend, authority.address(), ""))
        .await
        .over(over);
    for answer in [
        "HTTP/1.1 500 No",
        "HTTP/1.1 503 No",
        "HTTP/1.1 200 OK\r\nX-Longhaul-Expires: tomorrow",
        "HTTP/1.1 200 OK\r\nX-Longhaul-Expires: -1",
    ] {
        authority.set(answer);
        assert_eq!(statuses(&proxy).await, (503, 503), "{answer}");
    }
    authority.set("HTTP/1.1 200 OK\r\nX-Longhaul-Expires: 1700000000");
    assert_eq!(statuses(&proxy).await, (401, 401));
    for (word, count) in [("auth_failed", 8), ("auth_expired", 2)] {
        eventually(format!("{count} lines of {word}"), || {
            let lines = proxy
                .log
                .all(|event| event.is("request", &[("refusal", word)]));
            lines.len() == count
        })
        .await;
    }
    proxy.reload(site(&backend, &nobody().await, "")).await;
    assert_eq!(statuses(&proxy).await, (503, 503));
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_is_too_long_is_none() {
    let backend = Echo::start("a").await;
    let raw = RawBackend::start().await;
    let proxy = Proxy::start(site(&backend, raw.address(), "timeout = '300ms'")).await;
    let start = Instant::now();
    let (answer, _silent) = tokio::join!(proxy.get("/"), raw.accept());
    assert_eq!(answer.head.status, 503);
    assert!(start.elapsed() < Duration::from_secs(5));
    let endless = async {
        let mut wire = raw.accept().await;
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            .await;
        // It may have seen enough before the end.
        let _ = wire.try_send(vec![b'x'; 100_000]).await;
        wire
    };
    let (answer, _wire) = tokio::join!(proxy.get("/"), endless);
    assert_eq!(answer.head.status, 503);
    assert_eq!(backend.connections(), 0);
}

fn in_seconds(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let at = now.expect("a time after 1970").as_secs() + seconds;
    format!("{OK}\r\nX-Longhaul-Expires: {at}")
}

async fn a_tunnel_ends_when_what_was_granted_does(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Fixed::start(&in_seconds(3600)).await;
    let close = "close_code = 4401";
    let proxy = Proxy::start(site(&backend, authority.address(), close))
        .await
        .over(over);
    let mut lasting = proxy.ws("/").await;
    lasting.greeting().await;
    authority.set(&in_seconds(2));
    let start = Instant::now();
    let mut ws: Ws = proxy.ws("/").await;
    ws.greeting().await;
    ws.echo("while it lasts").await;
    assert_eq!(ws.closed().await, Some(4401));
    // A second is what the header can say.
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    let closed = proxy
        .log
        .wait("tunnel closed", &[("cause", "expired")])
        .await;
    assert_eq!(closed.text("ended_by"), "longhaul");
    lasting.echo("still here").await;
}
