//! The tunnel: bytes both ways, back pressure, half-close, the clocks, and how it ends.

use std::time::{Duration, Instant};

use crate::kit::{
    Authority, Event, Opcode, Over, Proxy, RawBackend, Setup, Site, close_payload, eventually,
    masked, over_each, plain,
};

over_each!(
    ten_megabytes_both_ways_at_once,
    a_stalled_reader_holds_the_sender_back_and_costs_little,
    a_client_that_finished_still_receives,
    a_backend_that_finished_still_receives,
    close_codes_are_in_the_log,
    a_reset_of_one_side_ends_the_other_at_once,
    an_idle_tunnel_ends_after_its_idle_timeout_and_bytes_reset_it,
    no_idle_timeout_by_default,
    a_half_closed_tunnel_ends_after_its_half_close_timeout,
    a_tunnel_ends_at_its_max_lifetime_however_busy,
    jitter_spreads_lifetimes,
    frames_that_are_wrong_pass_untouched,
    the_same_through_tls_on_both_legs,
    single_bytes_of_a_frame_reset_the_idle_timeout,
);

async fn site(over: Over, route: &str) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address()).route(route)).await;
    (proxy.over(over), backend)
}

/// The one line about the one tunnel's end.
async fn closed(proxy: &Proxy) -> Event {
    let event = proxy.log.wait("tunnel closed", &[]).await;
    assert_eq!(proxy.status().await["tunnels"], 0);
    assert_eq!(
        proxy
            .log
            .all(|event| event.message == "tunnel closed")
            .len(),
        1
    );
    event
}

#[track_caller]
fn ended(event: &Event, by: &str, cause: &str) {
    assert_eq!(
        (event.text("ended_by"), event.text("cause")),
        (by, cause),
        "{}",
        event.line
    );
}

async fn ten_megabytes_both_ways_at_once(over: Over) {
    let (proxy, backend) = site(over, "").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    let mut random = 1_u32;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random.to_be_bytes()[0]
    })
    .take(10_000_000)
    .collect();
    let up = masked(Opcode::Binary, true, &payload);
    let down = plain(Opcode::Binary, true, &payload);
    let (at_client, at_server) = tokio::join!(
        client.exchange(&up, down.len()),
        server.exchange(&down, up.len()),
    );
    assert!(at_client == down, "the client got other bytes");
    assert!(at_server == up, "the backend got other bytes");
    client
        .send(masked(Opcode::Close, true, &close_payload(1000)))
        .await;
    server.frame().await;
    server
        .send(plain(Opcode::Close, true, &close_payload(1000)))
        .await;
    client.frame().await;
    drop((client, server));
    let event = closed(&proxy).await;
    ended(&event, "client", "close 1000");
    assert_eq!(event.number("bytes_in"), up.len() as u64 + 8);
    assert_eq!(event.number("bytes_out"), down.len() as u64 + 4);
    assert_eq!(
        (event.number("messages_in"), event.number("messages_out")),
        (1, 1)
    );
}

async fn the_same_through_tls_on_both_legs(over: Over) {
    let authority = Authority::new();
    let (front, behind) = (authority.pair(&["localhost"]), authority.pair(&["behind"]));
    let backend = RawBackend::tls(authority.acceptor(&behind, None)).await;
    let setup = Setup::with_pair(&front);
    setup.write("ca.pem", authority.pem());
    let site = Site::one(backend.address())
        .tls()
        .upstream("scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'behind' }");
    let proxy = setup.start(site).await.over(over);
    let client = proxy.tls(&authority.client(), "localhost").await;
    let (mut client, mut server) = backend.join(client).await;
    let up = masked(Opcode::Binary, true, &vec![0xa5; 3_000_000]);
    let down = plain(Opcode::Binary, true, &vec![0x5a; 3_000_000]);
    let (at_client, at_server) = tokio::join!(
        client.exchange(&up, down.len()),
        server.exchange(&down, up.len()),
    );
    assert!(at_client == down && at_server == up, "other bytes arrived");
    // A half-close of TLS is passed on as one.
    client.finish().await;
    server.eof().await;
    server.send(plain(Opcode::Text, true, b"late")).await;
    assert_eq!(client.frame().await.text(), "late");
    server.finish().await;
    client.eof().await;
}

async fn a_stalled_reader_holds_the_sender_back_and_costs_little(over: Over) {
    let (proxy, backend) = site(over, "").await;
    for stalled in ["client", "backend"] {
        let (mut client, mut server) = proxy.tunnel(&backend).await;
        let before = proxy.memory();
        let mut sender_and_reader = if stalled == "client" {
            (&mut server, &mut client)
        } else {
            (&mut client, &mut server)
        };
        let (sender, reader) = (&mut sender_and_reader.0, &mut sender_and_reader.1);
        // One frame of 4 GB: what follows its header is all payload.
        let header = [&[0x82, 127][..], &4_000_000_000_u64.to_be_bytes()].concat();
        let header = if stalled == "client" {
            header
        } else {
            [&[0x82, 255][..], &4_000_000_000_u64.to_be_bytes(), &[0; 4]].concat()
        };
        sender.send(&header).await;
        let sent = sender.send_until_stalled(Duration::from_millis(300)).await;
        let grown = proxy.memory().saturating_sub(before);
        assert!(
            grown < 1 << 20,
            "{stalled}: {grown} bytes more for {sent} on their way"
        );
        assert!(sent < 64 << 20, "{stalled}: the sender is not held back");
        reader.take(header.len() + sent).await;
    }
}

async fn a_client_that_finished_still_receives(over: Over) {
    let (proxy, backend) = site(over, "").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    client.send(masked(Opcode::Text, true, b"last")).await;
    client.finish().await;
    assert_eq!(server.frame().await.text(), "last");
    server.eof().await;
    for text in ["one", "two", "three"] {
        server
            .send(plain(Opcode::Text, true, text.as_bytes()))
            .await;
        assert_eq!(client.frame().await.text(), text);
    }
    server.finish().await;
    client.eof().await;
    ended(&closed(&proxy).await, "client", "eof");
}

async fn a_backend_that_finished_still_receives(over: Over) {
    let (proxy, backend) = site(over, "").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    server.send(plain(Opcode::Text, true, b"last")).await;
    server.finish().await;
    assert_eq!(client.frame().await.text(), "last");
    client.eof().await;
    for text in ["one", "two", "three"] {
        client
            .send(masked(Opcode::Text, true, text.as_bytes()))
            .await;
        assert_eq!(server.frame().await.text(), text);
    }
    client.finish().await;
    server.eof().await;
    ended(&closed(&proxy).await, "backend", "eof");
}

/// Who closes with which code, and the cause in the log.
async fn close_codes_are_in_the_log(over: Over) {
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("client", close_payload(1000).into(), "close 1000"),
        ("client", close_payload(1001).into(), "close 1001"),
        (
            "client",
            [&close_payload(4000)[..], b"why"].concat(),
            "close 4000",
        ),
        ("client", vec![], "close"),
        ("backend", close_payload(1011).into(), "close 1011"),
        ("backend", close_payload(3000).into(), "close 3000"),
    ];
    let (proxy, backend) = site(over, "").await;
    for (by, payload, cause) in cases {
        let log = proxy.log.tail();
        let (mut client, mut server) = proxy.tunnel(&backend).await;
        let down = plain(Opcode::Close, true, &payload);
        let up = masked(Opcode::Close, true, &payload);
        if by == "client" {
            client.send(&up).await;
            assert_eq!(server.frame().await.payload, payload);
            server.send(&down).await;
            assert_eq!(client.frame().await.payload, payload);
        } else {
            server.send(&down).await;
            assert_eq!(client.frame().await.payload, payload);
            client.send(&up).await;
            assert_eq!(server.frame().await.payload, payload);
        }
        server.finish().await;
        client.eof().await;
        drop(client);
        ended(&log.wait("tunnel closed", &[]).await, by, cause);
    }
}

async fn a_reset_of_one_side_ends_the_other_at_once(over: Over) {
    let (proxy, backend) = site(over, "").await;
    let before = proxy.descriptors();
    for by in ["client", "backend"] {
        let log = proxy.log.tail();
        let (client, server) = proxy.tunnel(&backend).await;
        let mut other = if by == "client" {
            client.abort();
            server
        } else {
            server.abort();
            client
        };
        other.end().await;
        drop(other);
        ended(&log.wait("tunnel closed", &[]).await, by, "reset");
    }
    eventually("both descriptors of both tunnels to go", || {
        proxy.descriptors() <= before
    })
    .await;
}

async fn an_idle_tunnel_ends_after_its_idle_timeout_and_bytes_reset_it(over: Over) {
    let (proxy, backend) = site(over, "idle_timeout = '1s'").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    let pause = Duration::from_millis(600);
    for _ in 0..2 {
        // Any byte counts, from either side, a part of a frame too.
        client.silent_for(pause).await;
        client.send(masked(Opcode::Ping, true, b"")).await;
        server.frame().await;
        client.silent_for(pause).await;
        server.send(plain(Opcode::Text, true, b"x")).await;
        client.frame().await;
    }
    let start = Instant::now();
    let frame = client.frame().await;
    assert_eq!(frame.opcode, Opcode::Close, "{frame:?}");
    assert!(
        start.elapsed() > Duration::from_millis(800),
        "{:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() < Duration::from_millis(2500),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(server.frame().await.opcode, Opcode::Close);
    drop((client, server));
    ended(&closed(&proxy).await, "longhaul", "idle_timeout");
}

/// A single byte counts, wherever in a frame it stands; a frame that never ends
/// is no reason to end the tunnel.
async fn single_bytes_of_a_frame_reset_the_idle_timeout(over: Over) {
    let (proxy, backend) = site(over, "idle_timeout = '2s'").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    let (up, down) = (
        masked(Opcode::Text, true, b"up"),
        plain(Opcode::Text, true, b"down"),
    );
    let pause = Duration::from_millis(1200);
    // Each alone is short of the time, all together not.
    for byte in &up[..3] {
        client.send([*byte]).await;
        assert_eq!(server.take(1).await, [*byte]);
        client.silent_for(pause).await;
    }
    for byte in &down[..2] {
        server.send([*byte]).await;
        assert_eq!(client.take(1).await, [*byte]);
        client.silent_for(pause).await;
    }
    client.send(&up[3..]).await;
    assert_eq!(server.take(up.len() - 3).await, &up[3..]);
    server.send(&down[2..]).await;
    assert_eq!(client.take(down.len() - 2).await, &down[2..]);
    let start = Instant::now();
    assert_eq!(client.frame().await.opcode, Opcode::Close);
    assert!(start.elapsed() > pause, "{:?}", start.elapsed());
    assert_eq!(server.frame().await.opcode, Opcode::Close);
    drop((client, server));
    ended(&closed(&proxy).await, "longhaul", "idle_timeout");
}

async fn no_idle_timeout_by_default(over: Over) {
    let (proxy, backend) = site(
        over,
        "handshake_timeout = '300ms'\nresponse_timeout = '300ms'",
    )
    .await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    client.silent_for(Duration::from_secs(2)).await;
    client.send(masked(Opcode::Text, true, b"still here")).await;
    assert_eq!(server.frame().await.text(), "still here");
}

async fn a_half_closed_tunnel_ends_after_its_half_close_timeout(over: Over) {
    for by in ["client", "backend"] {
        let (proxy, backend) = site(over, "half_close_timeout = '400ms'").await;
        let (mut client, mut server) = proxy.tunnel(&backend).await;
        let mut other = if by == "client" {
            client.finish().await;
            server.eof().await;
            server
        } else {
            server.finish().await;
            client.eof().await;
            client
        };
        let event = closed(&proxy).await;
        ended(&event, "longhaul", "half_close_timeout");
        assert!(event.number("duration_ms") >= 400, "{}", event.line);
        // The connection is gone: sending into it sooner or later says so.
        let mut failed = false;
        while !failed {
            failed = other.try_send([0; 1000]).await.is_err();
        }
    }
}

async fn a_tunnel_ends_at_its_max_lifetime_however_busy(over: Over) {
    let (proxy, backend) = site(over, "max_lifetime = '1s'\nmax_lifetime_jitter = 0.0").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    let start = Instant::now();
    let frame = loop {
        server.send(plain(Opcode::Text, true, b"busy")).await;
        let frame = client.frame().await;
        if frame.opcode == Opcode::Close {
            break frame;
        }
        // A message about every 10 ms, without ever being idle.
        let _ = tokio::time::timeout(Duration::from_millis(10), std::future::pending::<()>()).await;
    };
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() < Duration::from_millis(2500),
        "{:?}",
        start.elapsed()
    );
    assert!(frame.close_code().is_some());
    drop((client, server));
    ended(&closed(&proxy).await, "longhaul", "max_lifetime");
}

async fn jitter_spreads_lifetimes(over: Over) {
    let (proxy, backend) = site(over, "max_lifetime = '2s'\nmax_lifetime_jitter = 0.9").await;
    let mut open_ones = Vec::new();
    for _ in 0..20 {
        open_ones.push(proxy.tunnel(&backend).await);
    }
    let start = Instant::now();
    let mut waits = tokio::task::JoinSet::new();
    for (mut client, server) in open_ones {
        waits.spawn(async move {
            assert_eq!(client.frame().await.opcode, Opcode::Close);
            drop(server);
            start.elapsed()
        });
    }
    let mut times = waits.join_all().await;
    times.sort();
    assert!(
        times[19] - times[0] > Duration::from_millis(500),
        "{times:?}"
    );
    assert!(times[19] < Duration::from_millis(3500), "{times:?}");
}

/// A tunnel that carries no WebSocket passes every byte, too.
///
/// Over HTTP/1.1 alone: on HTTP/2 no other protocol is spoken.
#[tokio::test]
async fn a_tunnel_of_another_protocol_carries_any_bytes() {
    let (proxy, backend) = site(Over::Http1, "upgrades = ['raw']").await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.request().await;
    server
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    assert_eq!(client.response_head().await.status, 101);
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (at_client, at_server) = tokio::join!(
        client.exchange(&all, all.len()),
        server.exchange(&all, all.len())
    );
    assert!(at_client == all && at_server == all, "other bytes arrived");
}

/// Frames that break RFC 6455 are the two ends' affair: they pass as they are.
async fn frames_that_are_wrong_pass_untouched(over: Over) {
    let (proxy, backend) = site(over, "").await;
    let wrong: [&[u8]; 4] = [
        &[0xf3, 0x00, 0x01],
        &[0x81, 0x05, b'h', b'e', b'l', b'l', b'o'],
        &[0x89, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 1],
        &[0xff; 64],
    ];
    for bytes in wrong {
        let (mut client, mut server) = proxy.tunnel(&backend).await;
        client.send(bytes).await;
        assert_eq!(server.take(bytes.len()).await, bytes);
        server.send(bytes).await;
        assert_eq!(client.take(bytes.len()).await, bytes);
        client.send([7; 1000]).await;
        assert_eq!(server.take(1000).await, [7; 1000]);
    }
}
