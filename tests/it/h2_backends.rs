//! HTTP/2 towards backends: plain requests side by side, trailers, streaming both
//! ways, and WebSockets where a backend allows them (RFC 8441).
//!
//! The backend that speaks HTTP/2 is a second longhaul: what reached it, and how,
//! is in its log.

use std::time::Duration;

use rustix::process::Signal;

use crate::kit::{
    Authority, Echo, Opcode, Over, Proxy, RawBackend, Setup, Site, Wire, close_payload, eventually,
    handshake, masked, over_each, plain,
};

over_each!(
    a_body_streams_both_ways_at_once,
    trailers_pass_both_ways,
    a_websocket_over_http2_all_the_way,
    a_websocket_of_tls_is_offered_http_1_1_alone,
    a_backend_that_says_goaway_keeps_its_tunnels,
    a_backend_that_dies_ends_all_its_tunnels,
);

const GET: &str = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";

/// Longhaul before longhaul before a backend by hand: keys of the upstream in
/// front, and of the listener behind.
async fn chain(over: Over, upstream: &str, listener: &str) -> (Proxy, Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let behind = Proxy::start(Site::one(backend.address()).listener(listener)).await;
    let address = behind.address("main").await;
    let site = Site::one(&address).upstream(upstream);
    let front = Setup::new().beside().start(site).await;
    (front.over(over), behind, backend)
}

/// The same with TLS between the two.
async fn chain_of_tls(over: Over, upstream: &str) -> (Proxy, Proxy, RawBackend) {
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["behind"]));
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).tls();
    let behind = setup.start(site).await;
    let setup = Setup::new().beside();
    setup.write("ca.pem", authority.pem());
    let tls = "scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'behind' }";
    let address = behind.address("main").await;
    let site = Site::one(&address).upstream(tls).upstream(upstream);
    let front = setup.start(site).await;
    (front.over(over), behind, backend)
}

/// Both, for what must be the same.
async fn chains(over: Over, upstream: &str) -> [(Proxy, Proxy, RawBackend); 2] {
    [
        chain(over, upstream, "").await,
        chain_of_tls(over, upstream).await,
    ]
}

/// How many requests or tunnels reached the one behind over this HTTP.
fn came_over(behind: &Proxy, http: &str) -> usize {
    let lines = behind
        .log
        .all(|event| event.target == "access" && event.text("http") == http);
    lines.len()
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let (front, behind, backend) = chain(Over::Http1, "http2 = true", "").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = front.connect().await;
        client.send(GET).await;
        let mut server = backend.accept().await;
        let request = server.request().await;
        assert_eq!(request.target, "/x");
        assert_eq!(request.header("host"), Some("h"));
        clients.push((client, server));
    }
    for (client, server) in &mut clients {
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.response().await.text(), "ok");
    }
    assert_eq!(behind.metric("longhaul_connections_total").await, 1.0);
    behind.log.wait("request", &[("http", "2")]).await;
}

async fn a_body_streams_both_ways_at_once(over: Over) {
    for (front, behind, backend) in chains(over, "http2 = true").await {
        streams_both_ways(&front, &backend).await;
        behind.log.wait("request", &[("http", "2")]).await;
    }
}

async fn streams_both_ways(front: &Proxy, backend: &RawBackend) {
    let mut client = front.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.request().await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.response_head().await.status, 200);
    for _ in 0..3 {
        client.send("4\r\nping\r\n").await;
        assert_eq!(server.chunk().await.as_deref(), Some(&b"ping"[..]));
        server.send("4\r\npong\r\n").await;
        assert_eq!(client.chunk().await.as_deref(), Some(&b"pong"[..]));
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(server.chunk().await, None);
    server.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
}

async fn trailers_pass_both_ways(over: Over) {
    for (front, behind, backend) in chains(over, "http2 = true").await {
        passes_trailers(&front, &backend).await;
        behind.log.wait("request", &[("http", "2")]).await;
    }
}

async fn passes_trailers(front: &Proxy, backend: &RawBackend) {
    let mut client = front.connect().await;
    client
        .send(
            "POST /grpc.Service/Method HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\
             Content-Type: application/grpc\r\nTrailer: sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nsum: 1\r\n\r\n",
        )
        .await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    assert_eq!(request.header("te"), Some("trailers"));
    let (body, trailers) = server.body(request.length()).await;
    assert_eq!(body, b"hello");
    assert_eq!(trailers, [("sum".to_owned(), "1".to_owned())]);
    server
        .send(
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTrailer: grpc-status\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\n",
        )
        .await;
    let response = client.response().await;
    assert_eq!(response.text(), "abc");
    assert_eq!(
        response.trailers,
        [("grpc-status".to_owned(), "0".to_owned())]
    );
}

async fn tunnel(front: &Proxy, backend: &RawBackend) -> (Wire, Wire) {
    let mut client = front.connect().await;
    let extra = "Sec-WebSocket-Protocol: a, b\r\n";
    client.send(handshake("/ws?x=1", "chat.test", extra)).await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    assert_eq!(request.target, "/ws?x=1");
    assert_eq!(request.header("host"), Some("chat.test"));
    server
        .send(request.switching("Sec-WebSocket-Protocol: b\r\n"))
        .await;
    let head = client.response_head().await;
    assert_eq!(head.status, 101);
    assert_eq!(head.header("sec-websocket-protocol"), Some("b"));
    (client, server)
}

/// Over HTTP/1.1 alone: what it asks about is the other leg.
#[tokio::test]
async fn a_websocket_goes_over_http_1_1_unless_both_sides_want_more() {
    for (upstream, listener, http) in [
        ("http2 = true", "", "1.1"),
        ("http2 = true\nwebsocket_over_http2 = true", "", "2"),
        (
            "http2 = true\nwebsocket_over_http2 = true",
            "websocket_over_http2 = false",
            "1.1",
        ),
    ] {
        let (front, behind, backend) = chain(Over::Http1, upstream, listener).await;
        for _ in 0..2 {
            let (mut client, mut server) = tunnel(&front, &backend).await;
            client.send(masked(Opcode::Text, true, b"hi")).await;
            assert_eq!(server.frame().await.text(), "hi");
            server.send(plain(Opcode::Text, true, b"ho")).await;
            assert_eq!(client.frame().await.text(), "ho");
        }
        behind.log.wait("tunnel opened", &[("http", http)]).await;
        let others = if http == "2" { "1.1" } else { "2" };
        assert_eq!(came_over(&behind, others), 0, "{upstream}, {listener}");
    }
}

async fn a_websocket_over_http2_all_the_way(over: Over) {
    let keys = "http2 = true\nwebsocket_over_http2 = true";
    let (front, behind, backend) = chain(over, keys, "").await;
    // Half-close, either way.
    let (mut client, mut server) = tunnel(&front, &backend).await;
    client.finish().await;
    server.eof().await;
    server.send(plain(Opcode::Text, true, b"late")).await;
    assert_eq!(client.frame().await.text(), "late");
    server.finish().await;
    client.eof().await;
    // Close codes.
    let log = front.log.tail();
    let (mut client, mut server) = tunnel(&front, &backend).await;
    let close = close_payload(4001);
    client.send(masked(Opcode::Close, true, &close)).await;
    assert_eq!(server.frame().await.close_code(), Some(4001));
    server.send(plain(Opcode::Close, true, &close)).await;
    assert_eq!(client.frame().await.close_code(), Some(4001));
    server.finish().await;
    client.eof().await;
    log.wait("tunnel closed", &[("cause", "close 4001")]).await;
    // Resets.
    for by_client in [true, false] {
        let (front_log, behind_log) = (front.log.tail(), behind.log.tail());
        let (client, server) = tunnel(&front, &backend).await;
        let (mut other, by) = match by_client {
            true => {
                client.abort();
                (server, "client")
            }
            false => {
                server.abort();
                (client, "backend")
            }
        };
        other.end().await;
        let reset = [("cause", "reset"), ("ended_by", by)];
        front_log.wait("tunnel closed", &reset).await;
        behind_log.wait("tunnel closed", &reset).await;
    }
    // A megabyte both ways.
    let (mut client, mut server) = tunnel(&front, &backend).await;
    let up = masked(Opcode::Binary, true, &vec![0xa5; 1 << 20]);
    let down = plain(Opcode::Binary, true, &vec![0x5a; 1 << 20]);
    let (at_client, at_server) = tokio::join!(
        client.exchange(&up, down.len()),
        server.exchange(&down, up.len()),
    );
    assert!(at_client == down && at_server == up, "other bytes arrived");
}

/// By ALPN no more than HTTP/1.1 is offered, whatever goes over HTTP/2 beside.
async fn a_websocket_of_tls_is_offered_http_1_1_alone(over: Over) {
    let authority = Authority::new();
    let pair = authority.pair(&["behind"]);
    for http2 in [false, true] {
        let backend = RawBackend::tls(authority.acceptor(&pair, None)).await;
        let setup = Setup::new();
        setup.write("ca.pem", authority.pem());
        let site = Site::one(backend.address()).upstream(&format!(
            "scheme = 'https'\ntls = {{ ca = 'ca.pem', server_name = 'behind' }}\nhttp2 = {http2}"
        ));
        let front = setup.start(site).await.over(over);
        for _ in 0..2 {
            let (_client, server) = tunnel(&front, &backend).await;
            let picked = server.tls().get_ref().1.alpn_protocol();
            assert_eq!(picked, Some(&b"http/1.1"[..]), "http2 = {http2}");
        }
    }
}

/// GOAWAY of the backend: what is open lives on, and what is new goes elsewhere.
async fn a_backend_that_says_goaway_keeps_its_tunnels(over: Over) {
    let backend = RawBackend::start().await;
    let age = "[http2]\nmax_connection_age = '400ms'\nmax_connection_age_jitter = 0.0";
    let behind = Proxy::start(Site::one(backend.address()).more(age)).await;
    let address = behind.address("main").await;
    let site = Site::one(&address).upstream("http2 = true\nwebsocket_over_http2 = true");
    let front = Setup::new().beside().start(site).await.over(over);
    let (mut client, mut server) = tunnel(&front, &backend).await;
    behind.log.wait("tunnel opened", &[("http", "2")]).await;
    for text in ["one", "two", "three"] {
        client.silent_for(Duration::from_millis(300)).await;
        client
            .send(masked(Opcode::Text, true, text.as_bytes()))
            .await;
        assert_eq!(server.frame().await.text(), text);
        let _new = tunnel(&front, &backend).await;
    }
    assert!(behind.metric("longhaul_connections_total").await > 1.0);
    server.send(plain(Opcode::Text, true, b"still here")).await;
    assert_eq!(client.frame().await.text(), "still here");
}

/// With the connection to it all its tunnels end, each with its line.
async fn a_backend_that_dies_ends_all_its_tunnels(over: Over) {
    let keys = "http2 = true\nwebsocket_over_http2 = true";
    let (front, behind, backend) = chain(over, keys, "").await;
    let mut tunnels = Vec::new();
    for _ in 0..10 {
        tunnels.push(tunnel(&front, &backend).await);
    }
    assert_eq!(behind.metric("longhaul_connections_total").await, 1.0);
    behind.signal(Signal::KILL);
    for (client, _) in &mut tunnels {
        client.end().await;
    }
    let lost = [("ended_by", "backend"), ("cause", "connection_lost")];
    eventually("ten lines", || {
        front
            .log
            .all(|event| event.is("tunnel closed", &lost))
            .len()
            == 10
    })
    .await;
}

/// What is no tunnel passes with its body.
///
/// Over HTTP/1.1 alone: what it asks about is the other leg.
#[tokio::test]
async fn a_refused_websocket_passes_with_its_answer() {
    let keys = "http2 = true\nwebsocket_over_http2 = true";
    let (front, _behind, backend) = chain(Over::Http1, keys, "").await;
    let mut client = front.connect().await;
    client.send(handshake("/", "h", "")).await;
    let mut server = backend.accept().await;
    server.request().await;
    server
        .send("HTTP/1.1 403 Forbidden\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let response = client.response().await;
    assert_eq!((response.head.status, response.text()), (403, "no"));
    assert_eq!(response.head.header("x-own"), Some("1"));
}

#[tokio::test]
async fn by_alpn_over_tls_or_not_at_all() {
    let authority = Authority::new();
    let echo = Echo::start("a").await;
    let pair = authority.pair(&["behind"]);
    for (listener, status) in [("", 200), ("http2 = false", 502)] {
        let setup = Setup::with_pair(&pair);
        let site = Site::one(echo.address()).tls().listener(listener);
        let behind = setup.start(site).await;
        let setup = Setup::new().beside();
        setup.write("ca.pem", authority.pem());
        let site = Site::one(&behind.address("main").await).upstream(
            "scheme = 'https'\nhttp2 = true\ntls = { ca = 'ca.pem', server_name = 'behind' }",
        );
        let front = setup.start(site).await;
        let response = front.get("/").await;
        assert_eq!(response.head.status, status, "{}", response.text());
        if status == 200 {
            behind.log.wait("request", &[("http", "2")]).await;
        }
    }
}

/// A shared connection that is gone is not used again.
#[tokio::test]
async fn a_connection_that_ended_is_replaced() {
    let more = "[limits]\nkeepalive_timeout = '200ms'";
    let echo = Echo::start("a").await;
    let behind = Proxy::start(Site::one(echo.address()).more(more)).await;
    let address = behind.address("main").await;
    let site = Site::one(&address).upstream("http2 = true");
    let front = Setup::new().beside().start(site).await;
    let mut quiet = front.connect().await;
    for _ in 0..3 {
        assert_eq!(front.get("/").await.head.status, 200);
        quiet.silent_for(Duration::from_millis(500)).await;
    }
    assert_eq!(behind.metric("longhaul_connections_total").await, 3.0);
}
