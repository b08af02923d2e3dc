//! Plain HTTP: streaming both ways, interim answers, trailers, the pool, and who left when.

use std::time::{Duration, Instant};

use crate::kit::{
    Authority, End, Event, Over, Proxy, RawBackend, Setup, Site, Stuck, Wire, dial, nobody,
    over_each,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

over_each!(
    a_request_passes_with_its_headers_and_body,
    a_request_body_streams,
    a_chunked_response_streams_with_its_trailers,
    server_sent_events_pass_one_by_one,
    a_backend_that_breaks_off_its_body_breaks_the_clients_too,
    early_hints_pass_before_the_answer,
    expect_100_continue_gets_its_100_and_then_the_answer,
    the_answer_to_head_has_a_length_and_no_body,
    answers_without_body,
    one_backend_connection_serves_many_clients,
    an_idle_connection_that_the_backend_closed_is_not_used,
    a_reused_connection_that_dies_unanswered_is_tried_again_if_that_is_safe,
    a_client_that_reset_ends_the_backends_connection_at_once,
    a_client_that_leaves_in_the_middle_of_its_body_is_noticed,
    an_answer_before_the_request_body_has_ended_reaches_the_client,
    a_body_and_its_trailers_pass_in_one_piece,
    a_backend_that_does_not_speak_http_is_502,
    a_backend_that_never_answers_is_504_after_the_response_timeout,
    a_response_body_may_take_longer_than_the_response_timeout,
    a_slow_client_does_not_make_the_proxy_hoard_the_answer,
);

async fn site(over: Over) -> (Proxy, RawBackend) {
    site_with(over, "").await
}

async fn site_with(over: Over, route: &str) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address()).route(route)).await;
    (proxy.over(over), backend)
}

/// A client's request that has reached the backend.
async fn pending(proxy: &Proxy, backend: &RawBackend, request: &str) -> (Wire, Wire) {
    let mut client = proxy.connect().await;
    client.send(request).await;
    let mut server = backend.accept().await;
    server.request().await;
    (client, server)
}

async fn a_request_passes_with_its_headers_and_body(over: Over) {
    let (proxy, backend) = site(over).await;
    let mut client = proxy.connect().await;
    client
        .send(
            "PUT /a%20b//c;d?e=f&g=%2F../ HTTP/1.1\r\nHost: chat.example.com:8080\r\nX-One: 1\r\n\
               Cookie: a=b; c=d\r\nContent-Length: 5\r\nAccept: */*\r\n\r\nhello",
        )
        .await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    assert_eq!(request.method, "PUT");
    assert_eq!(
        request.target, "/a%20b//c;d?e=f&g=%2F../",
        "the target passes byte for byte"
    );
    assert_eq!(request.header("host"), Some("chat.example.com:8080"));
    assert_eq!(request.header("x-one"), Some("1"));
    assert_eq!(request.header("cookie"), Some("a=b; c=d"));
    assert_eq!(request.header("accept"), Some("*/*"));
    assert_eq!(server.body(request.length()).await.0, b"hello");
    server
        .send(
            "HTTP/1.1 201 Created\r\nX-Two: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                 Content-Length: 4\r\n\r\nbody",
        )
        .await;
    let response = client.response().await;
    assert_eq!((response.head.status, response.text()), (201, "body"));
    assert_eq!(response.head.header("x-two"), Some("2"));
    assert_eq!(response.head.all("set-cookie"), ["a=1", "b=2"]);
}

async fn a_request_body_streams(over: Over) {
    let (proxy, backend) = site(over).await;
    let chunked =
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let mut client = proxy.connect().await;
    client.send(chunked).await;
    let mut server = backend.accept().await;
    assert_eq!(
        server.request().await.header("transfer-encoding"),
        Some("chunked")
    );
    for part in ["one", "two"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        assert_eq!(
            server.chunk().await.as_deref(),
            Some(part.as_bytes()),
            "unbuffered"
        );
    }
    client.send("0\r\nX-Sum: 6\r\n\r\n").await;
    assert_eq!(server.chunk().await, None);
    assert_eq!(
        server.trailers().await,
        [("x-sum".to_owned(), "6".to_owned())]
    );
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

async fn a_chunked_response_streams_with_its_trailers(over: Over) {
    let (proxy, backend) = site(over).await;
    let request = "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n";
    let (mut client, mut server) = pending(&proxy, &backend, request).await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        .await;
    assert_eq!(
        client.response_head().await.header("transfer-encoding"),
        Some("chunked")
    );
    for part in ["a", "bb", "ccc"] {
        server.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        assert_eq!(
            client.chunk().await.as_deref(),
            Some(part.as_bytes()),
            "unbuffered"
        );
    }
    server.send("0\r\nX-Sum: 6\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    assert_eq!(
        client.trailers().await,
        [("x-sum".to_owned(), "6".to_owned())]
    );
}

async fn server_sent_events_pass_one_by_one(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    // Without a length or chunks: to the end of the connection.
    server
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        .await;
    let head = client.response_head().await;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    for n in 0..5 {
        let event = format!("data: {n}\n\n");
        server.send(&event).await;
        assert_eq!(client.chunk().await.as_deref(), Some(event.as_bytes()));
    }
    drop(server);
    assert_eq!(client.chunk().await, None);
}

async fn a_backend_that_breaks_off_its_body_breaks_the_clients_too(over: Over) {
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let (proxy, backend) = site(over).await;
        let (mut client, mut server) = pending(&proxy, &backend, GET).await;
        server
            .send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n"))
            .await;
        assert_eq!(client.response_head().await.status, 200);
        drop(server);
        // The client must not take what it has for the whole.
        let (bytes, _end) = client.rest_and_end().await;
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "{head}: no last chunk");
        assert!(bytes.len() < 100, "{head}");
    }
}

async fn early_hints_pass_before_the_answer(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server
        .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        .await;
    let head = client.response_head().await;
    assert_eq!(head.status, 103);
    assert_eq!(head.header("link"), Some("</a.css>; rel=preload"));
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

async fn expect_100_continue_gets_its_100_and_then_the_answer(over: Over) {
    let (proxy, backend) = site(over).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    if request.header("expect").is_some() {
        server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    }
    assert_eq!(client.response_head().await.status, 100);
    client.send("body").await;
    assert_eq!(server.body(request.length()).await.0, b"body");
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

async fn the_answer_to_head_has_a_length_and_no_body(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) =
        pending(&proxy, &backend, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        .await;
    let response = client.response_to("HEAD").await;
    assert_eq!(response.head.header("content-length"), Some("1234"));
    // Both connections are good for another exchange.
    client.send(GET).await;
    server.request().await;
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

async fn answers_without_body(over: Over) {
    let (proxy, backend) = site(over).await;
    for status in ["204 No Content", "304 Not Modified"] {
        let (mut client, mut server) = pending(&proxy, &backend, GET).await;
        server
            .send(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n"))
            .await;
        drop(server);
        let response = client.response().await;
        assert_eq!(response.head.status.to_string(), status[..3]);
        assert_eq!(
            response.head.all("connection"),
            [""; 0],
            "the backend's is not the client's"
        );
    }
}

async fn one_backend_connection_serves_many_clients(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server.send(OK).await;
    client.response().await;
    for n in 0..20 {
        let mut client = proxy.connect().await;
        client
            .send(format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        assert_eq!(server.request().await.target, format!("/{n}"));
        server.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (proxy, backend) = site(Over::Http1).await;
    let mut client = proxy.connect().await;
    client
        .send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    for n in ["1", "2"] {
        assert_eq!(server.request().await.target, format!("/{n}"));
        server
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}"))
            .await;
        assert_eq!(client.response().await.text(), n);
    }
}

async fn an_idle_connection_that_the_backend_closed_is_not_used(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server.send(OK).await;
    client.response().await;
    drop(server);
    for _ in 0..10 {
        let (mut client, mut server) = pending(&proxy, &backend, GET).await;
        server.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
        drop(server);
    }
}

/// The race that no pool can rule out: the backend closes while the request is on its way.
async fn a_reused_connection_that_dies_unanswered_is_tried_again_if_that_is_safe(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server.send(OK).await;
    client.response().await;

    client.send(GET).await;
    server.request().await;
    drop(server);
    let mut server = backend.accept().await;
    server.request().await;
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");

    // A POST may have been carried out: it is not sent twice.
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    let request = server.request().await;
    server.body(request.length()).await;
    drop(server);
    assert_eq!(client.response().await.head.status, 502);
    backend.unvisited_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_time() {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).upstream("idle_connection_timeout = '300ms'");
    let proxy = Proxy::start(site).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server.send(OK).await;
    client.response().await;
    server.eof().await;
}

#[tokio::test]
async fn no_more_idle_connections_than_allowed() {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).upstream("max_idle_connections = 1");
    let proxy = Proxy::start(site).await;
    let mut pairs = Vec::new();
    for _ in 0..3 {
        pairs.push(pending(&proxy, &backend, GET).await);
    }
    for (client, server) in &mut pairs {
        server.send(OK).await;
        client.response().await;
    }
    let mut servers: Vec<Wire> = pairs.into_iter().map(|(_, server)| server).collect();
    // The first went back to the pool, the other two found it full.
    for server in &mut servers[1..] {
        server.eof().await;
    }
    servers[0].silent_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_client_that_finished_its_half_still_gets_the_answer() {
    let (proxy, backend) = site(Over::Http1).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    client.finish().await;
    server.eof().await;
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    client.eof().await;
}

#[tokio::test]
async fn a_client_that_finished_its_half_still_gets_a_streaming_answer() {
    let (proxy, backend) = site(Over::Http1).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .await;
    client.response_head().await;
    client.chunk().await;
    client.finish().await;
    server.eof().await;
    server.send("1\r\nb\r\n0\r\n\r\n").await;
    assert_eq!(client.chunk().await.as_deref(), Some(&b"b"[..]));
    assert_eq!(client.chunk().await, None);
}

async fn a_client_that_reset_ends_the_backends_connection_at_once(over: Over) {
    for answering in [false, true] {
        let (proxy, backend) = site(over).await;
        let (mut client, mut server) = pending(&proxy, &backend, GET).await;
        if answering {
            server
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
                .await;
            client.response_head().await;
            client.chunk().await;
        }
        client.abort();
        server.end().await;
    }
}

/// hyper reads no further then, so the end of the stream lies behind unread bytes.
#[tokio::test]
async fn a_client_that_leaves_behind_its_next_request_is_noticed_at_once() {
    // With more unread than the kernel's buffers hold, no FIN gets through, and
    // nobody can know; a reset does.
    let cases = [
        (300, false),
        (20_000, false),
        (20_000, true),
        (300_000, true),
    ];
    for (more, reset) in cases {
        for more in [GET.repeat(more / GET.len()), "x".repeat(more)] {
            let (proxy, backend) = site(Over::Http1).await;
            let (client, mut server) = pending(&proxy, &backend, &format!("{GET}{more}")).await;
            server.silent_for(Duration::from_millis(100)).await;
            match reset {
                true => client.abort(),
                false => drop(client),
            }
            server.end().await;
        }
    }
}

#[tokio::test]
async fn a_tls_client_that_leaves_behind_its_next_request_is_noticed_at_once() {
    let backend = RawBackend::start().await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = Site::one(backend.address()).tls();
    let proxy = setup.start(site).await;
    let mut client = proxy.tls(&authority.client(), "localhost").await;
    client.send(format!("{GET}{GET}")).await;
    let mut server = backend.accept().await;
    server.request().await;
    server.silent_for(Duration::from_millis(100)).await;
    drop(client);
    server.end().await;
}

/// A client that sends all its requests and then ends its half gets all answers.
#[tokio::test]
async fn requests_before_the_end_of_the_stream_are_all_answered() {
    let (proxy, backend) = site(Over::Http1).await;
    let mut client = proxy.connect().await;
    client
        .send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    client.finish().await;
    for n in ["1", "2"] {
        let mut server = backend.accept().await;
        assert_eq!(server.request().await.target, format!("/{n}"));
        server.eof().await;
        server
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}"))
            .await;
        assert_eq!(client.response().await.text(), n);
    }
    client.eof().await;
}

async fn a_client_that_leaves_in_the_middle_of_its_body_is_noticed(over: Over) {
    let (proxy, backend) = site(over).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
        .await;
    let mut server = backend.accept().await;
    server.request().await;
    assert_eq!(server.take(5).await, b"12345");
    drop(client);
    server.end().await;
}

async fn an_answer_before_the_request_body_has_ended_reaches_the_client(over: Over) {
    let (proxy, backend) = site(over).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nstart")
        .await;
    let mut server = backend.accept().await;
    server.request().await;
    server
        .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(client.response().await.head.status, 413);
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_502() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    let response = proxy.get("/").await;
    assert_eq!(response.head.status, 502);
    let event = proxy.log.wait("request", &[("status", "502")]).await;
    assert!(!event.text("refusal").is_empty(), "{}", event.line);
}

async fn a_body_and_its_trailers_pass_in_one_piece(over: Over) {
    let (proxy, backend) = site(over).await;
    let request = "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n";
    let (mut client, mut server) = pending(&proxy, &backend, request).await;
    server
        .send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, B\r\n\r\n\
             5\r\nhello\r\n0\r\nA: 1\r\nB: 2\r\n\r\n",
        )
        .await;
    let response = client.response().await;
    assert_eq!(response.text(), "hello");
    let trailers = response
        .trailers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    assert_eq!(trailers.collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
}

/// What the backend does instead of answering, and the status the client gets.
async fn a_backend_that_does_not_speak_http_is_502(over: Over) {
    let answers: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("garbage", b"\x00\xff\x16\x03garbage\r\n\r\n"),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        ),
        (
            "a bad length",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ),
    ];
    for (what, answer) in answers {
        let (proxy, backend) = site(over).await;
        let (mut client, mut server) = pending(&proxy, &backend, GET).await;
        server.send(answer).await;
        drop(server);
        assert_eq!(client.response().await.head.status, 502, "{what}");
        one_line(&proxy, "502", "backend_protocol").await;
    }
}

/// The exchange has one line in the log, with this status and refusal.
async fn one_line(proxy: &Proxy, status: &str, refusal: &str) {
    let facts = [("status", status), ("refusal", refusal)];
    proxy.log.wait("request", &facts).await;
    // The log keeps its order: what was to come has come before this line.
    let mut last = proxy.connect().await;
    last.send("GET /../ HTTP/1.1\r\nHost: h\r\n\r\n").await;
    last.response().await;
    proxy.log.wait("request", &[("refusal", "bad_path")]).await;
    let access = |event: &Event| event.target == "access" && event.text("refusal") != "bad_path";
    assert_eq!(proxy.log.all(access).len(), 1);
}

#[tokio::test]
async fn a_backends_head_has_a_size_and_a_number_of_lines() {
    let lines = |n: usize| (0..n).fold(String::new(), |text, n| text + &format!("x-{n}: y\r\n"));
    let cases = [
        ("60 KiB", format!("x: {}\r\n", "y".repeat(60 << 10)), 200),
        ("70 KiB", format!("x: {}\r\n", "y".repeat(70 << 10)), 502),
        ("a megabyte", format!("x: {}\r\n", "y".repeat(1 << 20)), 502),
        // With the content length.
        ("256 lines", lines(255), 200),
        ("257 lines", lines(256), 502),
    ];
    for (what, headers, status) in cases {
        let (proxy, backend) = site(Over::Http1).await;
        let (mut client, mut server) = pending(&proxy, &backend, GET).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{headers}\r\n");
        // It is given up before all of it is sent.
        let _ = server.try_send(head).await;
        assert_eq!(client.response().await.head.status, status, "{what}");
        if status == 502 {
            one_line(&proxy, "502", "backend_protocol").await;
            server.end().await;
        }
    }
}

async fn a_backend_that_never_answers_is_504_after_the_response_timeout(over: Over) {
    let (proxy, backend) = site_with(over, "response_timeout = '200ms'").await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    assert_eq!(client.response().await.head.status, 504);
    server.end().await;
}

/// The time to reach a backend, its silence, and both once more on another
/// connection come out of one purse.
#[tokio::test]
async fn a_plain_request_has_one_deadline() {
    let (stuck, silent) = (Stuck::start(), RawBackend::start().await);
    let stuck = stuck.address();
    let site = Site::of(&[("stuck", &stuck), ("silent", silent.address())])
        .route("response_timeout = '1200ms'")
        .upstream("balance = 'round_robin'\ndial_timeout = '800ms'");
    let proxy = Proxy::start(site).await;
    // One of the two begins at the backend that cannot be reached.
    for _ in 0..2 {
        let mut client = proxy.connect().await;
        let start = Instant::now();
        client.send(GET).await;
        let mut server = silent.accept().await;
        server.request().await;
        assert_eq!(client.response().await.head.status, 504);
        let took = start.elapsed();
        assert!(
            took > Duration::from_millis(1150) && took < Duration::from_millis(1900),
            "{took:?}"
        );
        server.end().await;
    }
}

#[tokio::test]
async fn a_second_try_does_not_begin_the_deadline_anew() {
    let (proxy, backend) = site_with(Over::Http1, "response_timeout = '2s'").await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server.send(OK).await;
    client.response().await;
    let start = Instant::now();
    client.send(GET).await;
    server.request().await;
    server.silent_for(Duration::from_millis(1500)).await;
    drop(server);
    let mut server = backend.accept().await;
    server.request().await;
    assert_eq!(client.response().await.head.status, 504);
    let took = start.elapsed();
    assert!(took < Duration::from_millis(3200), "{took:?}");
}

/// The one exception: whoever is still sending has not begun to wait.
#[tokio::test]
async fn the_deadline_counts_from_the_last_part_of_the_request() {
    let (proxy, backend) = site_with(Over::Http1, "response_timeout = '1500ms'").await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na")
        .await;
    let mut server = backend.accept().await;
    server.request().await;
    for part in ["a", "b", "c"] {
        assert_eq!(server.take(1).await.len(), 1);
        client.silent_for(Duration::from_millis(900)).await;
        client.send(part).await;
    }
    let start = Instant::now();
    assert_eq!(client.response().await.head.status, 504);
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(1400) && took < Duration::from_millis(2700),
        "{took:?}"
    );
}

async fn a_response_body_may_take_longer_than_the_response_timeout(over: Over) {
    let (proxy, backend) = site_with(over, "response_timeout = '200ms'").await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.response_head().await;
    client.silent_for(Duration::from_millis(500)).await;
    server.send("1\r\na\r\n0\r\n\r\n").await;
    assert_eq!(client.chunk().await.as_deref(), Some(&b"a"[..]));
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn a_response_that_stalls_is_broken_off_if_asked() {
    let (proxy, backend) = site_with(Over::Http1, "response_idle_timeout = '500ms'").await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.response_head().await;
    // Each part begins it anew.
    for _ in 0..3 {
        client.silent_for(Duration::from_millis(250)).await;
        server.send("1\r\na\r\n").await;
        assert_eq!(client.chunk().await.as_deref(), Some(&b"a"[..]));
    }
    let (rest, _) = client.rest_and_end().await;
    assert!(rest.is_empty(), "not a last chunk: {rest:?}");
    server.end().await;
    let event = proxy.log.wait("request", &[("status", "200")]).await;
    assert!(
        event.text("cut").contains("response_idle_timeout"),
        "{}",
        event.line
    );
}

/// There is no `TCP_USER_TIMEOUT` on a Unix socket.
#[tokio::test]
async fn a_client_on_a_unix_socket_that_takes_nothing_is_given_up() {
    let backend = RawBackend::start().await;
    let setup = Setup::new();
    let front = format!("unix:{}", setup.path("front.sock").display());
    let more = format!("[listeners.local]\naddress = '{front}'\n[tcp]\nuser_timeout = '500ms'\n");
    let proxy = setup.start(Site::one(backend.address()).more(&more)).await;
    let mut client = dial(&front).await;
    client.send(GET).await;
    let mut server = backend.accept().await;
    server.request().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        .await;
    client.response_head().await;
    let start = Instant::now();
    while server.try_send([0; 65_536]).await.is_ok() {}
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    proxy.log.wait("request", &[("client", "unix")]).await;
}

async fn a_slow_client_does_not_make_the_proxy_hoard_the_answer(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        .await;
    client.response_head().await;
    let before = proxy.memory();
    let sent = server.send_until_stalled(Duration::from_millis(300)).await;
    assert!(sent < 100_000_000, "the backend must be held back");
    let grown = proxy.memory().saturating_sub(before);
    assert!(
        grown < 4 << 20,
        "grew by {grown} bytes for {sent} bytes on their way"
    );
    // Before the answer breaks off: what was taken arrives, every byte.
    client.take(sent).await;
    drop(server);
    client.end().await;
}

#[tokio::test]
async fn a_unix_socket_backend() {
    let setup = Setup::new();
    let backend = RawBackend::unix(&setup.path("backend.sock"));
    let proxy = setup.start(Site::one(backend.address())).await;
    let (mut client, mut server) = pending(&proxy, &backend, GET).await;
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn connection_close_and_http_1_0_clients_get_a_close() {
    let (proxy, backend) = site(Over::Http1).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
    ] {
        let (mut client, mut server) = pending(&proxy, &backend, request).await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            .await;
        drop(server);
        let (bytes, end) = client.rest_and_end().await;
        assert!(
            bytes.ends_with(b"\r\n\r\nok"),
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(end, End::Eof);
    }
}
