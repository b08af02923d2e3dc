//! The end of the process: Close frames, pacing, the deadline, and the second signal.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::kit::{
    Event, Opcode, Over, Proxy, RawBackend, Site, Wire, close_payload, handshake, masked,
    over_each, plain, soon,
};

over_each!(
    both_ends_get_a_close_frame_with_the_configured_code,
    close_code_none_ends_without_a_frame,
    closes_are_spread_over_the_window,
    accepting_ends_and_a_plain_request_finishes,
    a_message_in_flight_is_finished_before_the_close,
    a_message_that_never_ends_is_cut_without_a_corrupt_frame,
    the_deadline_ends_what_will_not_end,
    a_second_sigterm_ends_it_at_once,
    progress_is_logged_and_told_to_the_service_manager,
    an_upgrade_that_comes_too_late_is_503_and_reaches_no_backend,
    a_handshake_under_way_finishes_and_its_tunnel_is_closed,
    a_half_closed_tunnel_is_closed_in_time_whenever_it_was_opened,
);

async fn site(over: Over, drain: &str) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let more = format!("[drain]\n{drain}\n");
    let proxy = Proxy::start(Site::one(backend.address()).more(&more)).await;
    (proxy.over(over), backend)
}

async fn open(proxy: &Proxy, backend: &RawBackend) -> (Wire, Wire) {
    let (client, server) = proxy.tunnel(backend).await;
    // The tunnel begins just after the client has its 101.
    proxy.log.wait("tunnel opened", &[]).await;
    (client, server)
}

#[tokio::test]
async fn nothing_to_do_ends_at_once_with_0() {
    let (proxy, _backend) = site(Over::Http1, "").await;
    let start = Instant::now();
    proxy.terminate();
    proxy.notice("STOPPING=1").await;
    assert_eq!(proxy.exit().await.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

async fn both_ends_get_a_close_frame_with_the_configured_code(over: Over) {
    for (keys, code) in [
        ("", 1012),
        ("close_code = 1001", 1001),
        ("close_code = 4321", 4321),
    ] {
        let (proxy, backend) = site(over, &format!("window = '200ms'\n{keys}")).await;
        let (mut client, mut server) = open(&proxy, &backend).await;
        proxy.terminate();
        let frame = client.frame().await;
        assert_eq!((frame.opcode, frame.masked), (Opcode::Close, false));
        assert_eq!(frame.close_code(), Some(code));
        let frame = server.frame().await;
        assert_eq!(
            (frame.opcode, frame.masked),
            (Opcode::Close, true),
            "RFC 6455 section 5.1"
        );
        assert_eq!(frame.close_code(), Some(code));
        client
            .send(masked(Opcode::Close, true, &close_payload(code)))
            .await;
        server
            .send(plain(Opcode::Close, true, &close_payload(code)))
            .await;
        client.eof().await;
        drop((client, server));
        let event = proxy.log.wait("tunnel closed", &[]).await;
        assert_eq!(
            (event.text("ended_by"), event.text("cause")),
            ("longhaul", "drain")
        );
        assert_eq!(proxy.exit().await.code(), Some(0));
    }
}

async fn close_code_none_ends_without_a_frame(over: Over) {
    let (proxy, backend) = site(over, "window = '200ms'\nclose_code = 'none'").await;
    let (mut client, mut server) = open(&proxy, &backend).await;
    proxy.terminate();
    client.eof().await;
    server.eof().await;
    drop((client, server));
    assert_eq!(proxy.exit().await.code(), Some(0));
}

async fn closes_are_spread_over_the_window(over: Over) {
    let (proxy, backend) = site(over, "window = '2s'").await;
    let mut tunnels = Vec::new();
    for _ in 0..40 {
        tunnels.push(open(&proxy, &backend).await);
    }
    let start = Instant::now();
    proxy.terminate();
    let mut waits = tokio::task::JoinSet::new();
    for (mut client, server) in tunnels {
        waits.spawn(async move {
            assert_eq!(client.frame().await.close_code(), Some(1012));
            let at = start.elapsed();
            client
                .send(masked(Opcode::Close, true, &close_payload(1012)))
                .await;
            drop(server);
            at
        });
    }
    let mut times = waits.join_all().await;
    times.sort();
    assert!(times[39] < Duration::from_millis(3500), "{times:?}");
    // Even pacing puts 10 into each quarter; jitter may not move more than half of that.
    let first_half = times
        .iter()
        .filter(|at| **at < Duration::from_secs(1))
        .count();
    assert!((10..=30).contains(&first_half), "{times:?}");
    assert!(times[39] - times[0] > Duration::from_secs(1), "{times:?}");
    assert_eq!(proxy.exit().await.code(), Some(0));
}

async fn accepting_ends_and_a_plain_request_finishes(over: Over) {
    let (proxy, backend) = site(over, "").await;
    let address = proxy.address("main").await;
    let mut idle = proxy.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut server = backend.accept().await;
    server.request().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    idle.response().await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    server.request().await;

    proxy.terminate();
    idle.eof().await;
    // A connection that the kernel took before the socket was closed is not served.
    soon("the end of accepting", async {
        while let Ok(late) = TcpStream::connect(&address).await {
            drop(late);
        }
    })
    .await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .await;
    let head = client.response_head().await;
    if over == Over::Http1 {
        assert_eq!(head.header("connection"), Some("close"));
    }
    assert_eq!(client.chunk().await.as_deref(), Some(&b"a"[..]));
    server.send("1\r\nb\r\n0\r\n\r\n").await;
    assert_eq!(client.chunk().await.as_deref(), Some(&b"b"[..]));
    assert_eq!(client.chunk().await, None);
    client.trailers().await;
    client.eof().await;
    assert_eq!(proxy.exit().await.code(), Some(0));
}

async fn a_message_in_flight_is_finished_before_the_close(over: Over) {
    let (proxy, backend) = site(over, "window = '100ms'\nclose_timeout = '8s'").await;
    let (mut client, mut server) = open(&proxy, &backend).await;
    // Ten fragments of a megabyte; the stop comes after four and a half.
    let part = vec![0x42; 1_000_000];
    let first = plain(Opcode::Binary, false, &part);
    let middle = plain(Opcode::Continuation, false, &part);
    let last = plain(Opcode::Continuation, true, &part);
    let (sent, read) = tokio::join!(
        async {
            server.send(&first).await;
            for _ in 0..3 {
                server.send(&middle).await;
            }
            server.send(&middle[..500_000]).await;
            server
        },
        client.take(4 * middle.len() + 500_000),
    );
    let mut server = sent;
    assert_eq!(read.len(), 4 * middle.len() + 500_000);
    proxy.terminate();
    proxy.notice("STOPPING=1").await;
    client.silent_for(Duration::from_millis(500)).await;
    let (_, rest) = tokio::join!(
        async {
            server.send(&middle[500_000..]).await;
            for _ in 0..4 {
                server.send(&middle).await;
            }
            server.send(&last).await;
        },
        client.take(middle.len() - 500_000 + 4 * middle.len() + last.len()),
    );
    assert!(rest.ends_with(&part));
    let frame = client.frame().await;
    assert_eq!(frame.close_code(), Some(1012), "right behind the message");
    // The other direction was between messages all the time.
    assert_eq!(server.frame().await.close_code(), Some(1012));
    drop((client, server));
    assert_eq!(proxy.exit().await.code(), Some(0));
}

async fn a_message_that_never_ends_is_cut_without_a_corrupt_frame(over: Over) {
    let (proxy, backend) = site(over, "window = '100ms'\nclose_timeout = '500ms'").await;
    let (mut client, mut server) = open(&proxy, &backend).await;
    let frame = plain(Opcode::Binary, true, &[1; 1000]);
    server.send(&frame[..500]).await;
    client.take(500).await;
    proxy.terminate();
    // No Close in the middle of the frame: the next thing is the end.
    client.end().await;
    drop((client, server));
    assert_eq!(proxy.exit().await.code(), Some(0));
}

async fn the_deadline_ends_what_will_not_end(over: Over) {
    let (proxy, backend) = site(
        over,
        "window = '100ms'\ndeadline = '1s'\nclose_timeout = '9s'",
    )
    .await;
    let (mut client, mut server) = open(&proxy, &backend).await;
    let mut pending = proxy.connect().await;
    pending.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut stuck = backend.accept().await;
    stuck.request().await;
    let start = Instant::now();
    proxy.terminate();
    assert_eq!(client.frame().await.opcode, Opcode::Close);
    assert_eq!(server.frame().await.opcode, Opcode::Close);
    // Nobody answers.
    proxy.exit().await;
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(3),
        "{took:?}"
    );
    client.end().await;
    pending.end().await;
    stuck.end().await;
    one_line_for_the_tunnel(&proxy, "deadline").await;
}

/// A tunnel that the end of the process cuts off is told of once, and whole.
async fn one_line_for_the_tunnel(proxy: &Proxy, why: &str) {
    proxy.log.end().await;
    let ends = proxy.log.all(|event| event.message == "tunnel closed");
    let [end] = &ends[..] else {
        panic!("{} lines at the {why}", ends.len());
    };
    for (field, text) in [
        ("host", "h"),
        ("method", "GET"),
        ("path", "/"),
        ("ended_by", "longhaul"),
        ("cause", "drain"),
    ] {
        assert_eq!(end.text(field), text, "{field} in {}", end.line);
    }
    assert!(end.text("client").starts_with("127.0.0.1:"), "{}", end.line);
}

async fn a_second_sigterm_ends_it_at_once(over: Over) {
    let (proxy, backend) = site(over, "window = '30s'\ndeadline = '60s'").await;
    let (mut client, _server) = open(&proxy, &backend).await;
    let start = Instant::now();
    proxy.terminate();
    proxy.notice("STOPPING=1").await;
    assert!(proxy.running());
    proxy.terminate();
    proxy.exit().await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    one_line_for_the_tunnel(&proxy, "second signal").await;
    client.rest_and_end().await;
}

async fn progress_is_logged_and_told_to_the_service_manager(over: Over) {
    let (proxy, backend) = site(over, "window = '200ms'").await;
    let (mut client, server) = open(&proxy, &backend).await;
    proxy.terminate();
    let message = proxy.notice("STATUS=draining").await;
    assert!(message.contains("1 tunnels"), "{message}");
    assert!(message.contains("EXTEND_TIMEOUT_USEC="), "{message}");
    client.frame().await;
    // The client takes its time over the answer.
    let left =
        |event: &Event| (event.message == "still draining").then(|| event.number("seconds_left"));
    let first = proxy.log.wait_for(|event| left(event).is_some()).await;
    let first = left(&first).expect("just found");
    let later = |event: &Event| left(event).is_some_and(|seconds| seconds < first);
    let event = proxy.log.wait_for(later).await;
    assert_eq!(event.number("tunnels"), 1);
    drop((client, server));
    assert_eq!(proxy.exit().await.code(), Some(0));
}

/// Half of a head may be read before or after the signal: the request is served
/// or the connection is closed, but it is never left hanging.
#[tokio::test]
async fn a_request_that_had_begun_is_served_or_its_connection_closed() {
    let (proxy, backend) = site(Over::Http1, "").await;
    let mut client = proxy.connect().await;
    client.send("GET /one HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut server = backend.accept().await;
    server.request().await;
    server.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    client.send("GET /tw").await;
    proxy.terminate();
    proxy.notice("STOPPING=1").await;
    let sent = client.try_send("o HTTP/1.1\r\nHost: h\r\n\r\n").await;
    tokio::join!(
        async {
            if let Some(request) = server.next_request().await {
                assert_eq!(request.target, "/two");
                server.send(OK).await;
            }
        },
        async {
            if sent.is_ok()
                && let Some(head) = client.next_response_head().await
            {
                assert_eq!(
                    (head.status, head.header("connection")),
                    (200, Some("close"))
                );
                assert_eq!(client.take(2).await, b"ok");
            }
            client.end().await;
        },
    );
    assert_eq!(proxy.exit().await.code(), Some(0));
}

/// A handshake whose head is whole only after the signal opens nothing.
async fn an_upgrade_that_comes_too_late_is_503_and_reaches_no_backend(over: Over) {
    let (proxy, backend) = site(over, "window = '1s'").await;
    let mut late = proxy.connect().await;
    let request = handshake("/late", "h", "");
    let (one, two) = request.split_at(20);
    late.send(one).await;
    let tunnel = open(&proxy, &backend).await;
    proxy.terminate();
    proxy.notice("STOPPING=1").await;
    if late.try_send(two).await.is_ok()
        && let Some(head) = late.next_response_head().await
    {
        assert_eq!(head.status, 503);
        late.body(head.length("GET")).await;
        proxy.log.wait("request", &[("refusal", "stopping")]).await;
    }
    late.end().await;
    drop(tunnel);
    assert_eq!(proxy.exit().await.code(), Some(0));
}

/// It may become a tunnel after the signal, and then it is closed like the others.
async fn a_handshake_under_way_finishes_and_its_tunnel_is_closed(over: Over) {
    let (proxy, backend) = site(over, "window = '200ms'").await;
    let mut client = proxy.connect().await;
    client.send(handshake("/", "h", "")).await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    proxy.terminate();
    proxy.notice("STOPPING=1").await;
    proxy.log.wait("draining", &[]).await;
    server.send(request.switching("")).await;
    assert_eq!(client.response_head().await.status, 101);
    assert_eq!(client.frame().await.close_code(), Some(1012));
    assert_eq!(server.frame().await.close_code(), Some(1012));
    client
        .send(masked(Opcode::Close, true, &close_payload(1012)))
        .await;
    server
        .send(plain(Opcode::Close, true, &close_payload(1012)))
        .await;
    client.eof().await;
    drop((client, server));
    assert_eq!(proxy.exit().await.code(), Some(0));
}

/// Whatever it was doing: waiting for the client's half, or just being born.
async fn a_half_closed_tunnel_is_closed_in_time_whenever_it_was_opened(over: Over) {
    for late in [false, true] {
        let (proxy, backend) = site(over, "window = '200ms'\nclose_timeout = '500ms'").await;
        let mut client = proxy.connect().await;
        client.send(handshake("/", "h", "")).await;
        let mut server = backend.accept().await;
        let request = server.request().await;
        if late {
            proxy.terminate();
            proxy.log.wait("draining", &[]).await;
        }
        server.send(request.switching("")).await;
        server.finish().await;
        assert_eq!(client.response_head().await.status, 101);
        if !late {
            proxy.terminate();
        }
        // The client neither answers nor leaves.
        let start = Instant::now();
        assert_eq!(proxy.exit().await.code(), Some(0));
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "late = {late}: {:?}",
            start.elapsed()
        );
        drop((client, server));
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
