//! How much the sides of a tunnel may say: what is beyond it ends the tunnel, each
//! side with the code that is true for it, and the others notice nothing.

use crate::kit::{
    Authority, Event, Opcode, Over, Proxy, RawBackend, Setup, Site, Wire, close_payload, masked,
    over_each, plain,
};

over_each!(
    a_message_that_is_too_large_never_reaches_the_backend,
    the_same_through_tls_on_both_legs,
    behind_a_frame_that_cannot_be_nothing_passes,
    a_backend_is_limited_where_the_route_says_so,
    too_many_messages_and_too_many_bytes_end_a_tunnel,
    what_is_within_the_limits_passes_whatever_its_size,
    pings_of_longhauls_own_go_on_beside_limits,
    a_tunnel_keeps_the_limits_that_it_was_opened_with,
);

const SMALL: &str =
    "message_limits = { max_frame = '1000B', max_message = '1500B', side = 'both' }";

async fn site(over: Over, route: &str) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address()).route(route)).await;
    (proxy.over(over), backend)
}

/// Each side is told its code, and goes; the line of the end.
async fn farewell(proxy: &Proxy, mut client: Wire, mut server: Wire, codes: [u16; 2]) -> Event {
    let log = proxy.log.clone();
    let told = [client.frame().await, server.frame().await];
    assert_eq!(told.each_ref().map(|it| it.close_code()), codes.map(Some));
    let answers = codes.map(close_payload);
    client.send(masked(Opcode::Close, true, &answers[0])).await;
    server.send(plain(Opcode::Close, true, &answers[1])).await;
    server.finish().await;
    client.eof().await;
    log.wait("tunnel closed", &[]).await
}

/// Checks the one line and the one count of an end.
async fn cut(proxy: &Proxy, line: &Event, side: &str, cause: &str) {
    let end = (line.text("ended_by"), line.text("cause"));
    assert_eq!(end, (side, cause), "{}", line.line);
    let this = format!("longhaul_tunnels_closed_total{{ended_by=\"{side}\",cause=\"{cause}\",");
    assert_eq!(proxy.metric(&this).await, 1.0);
    assert_eq!(proxy.status().await["tunnels"], 0);
}

async fn a_message_that_is_too_large_never_reaches_the_backend(over: Over) {
    let (proxy, backend) = site(over, SMALL).await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    client
        .send(masked(Opcode::Text, false, &[b'a'; 1000]))
        .await;
    assert_eq!(server.frame().await.payload.len(), 1000);
    client.send(masked(Opcode::Ping, true, b"p")).await;
    assert_eq!(server.frame().await.opcode, Opcode::Ping);
    // One byte more than the message may have, in the third of its fragments.
    client
        .send(masked(Opcode::Continuation, false, &[b'b'; 500]))
        .await;
    assert_eq!(server.frame().await.payload.len(), 500);
    client.send(masked(Opcode::Continuation, true, b"c")).await;
    let line = farewell(&proxy, client, server, [1009, 1001]).await;
    cut(&proxy, &line, "client", "max_message").await;
    assert_eq!(line.number("messages_in"), 0);
    assert_eq!(line.number("client_close_code"), 1009, "its answer");
}

async fn the_same_through_tls_on_both_legs(over: Over) {
    let authority = Authority::new();
    let pair = authority.pair(&["localhost"]);
    let backend = RawBackend::tls(authority.acceptor(&pair, None)).await;
    let setup = Setup::with_pair(&pair);
    setup.write("ca.pem", authority.pem());
    let site = Site::one(backend.address())
        .tls()
        .upstream("scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'localhost' }")
        .route(SMALL);
    let proxy = setup.start(site).await.over(over);
    let client = proxy.tls(&authority.client(), "localhost").await;
    let (mut client, server) = backend.join(client).await;
    // Compressed: its first byte has RSV1, and what counts is what is on the wire.
    let mut frame = masked(Opcode::Binary, true, &[7; 1001]);
    frame[0] |= 0x40;
    client.send(frame).await;
    let line = farewell(&proxy, client, server, [1009, 1001]).await;
    cut(&proxy, &line, "client", "max_frame").await;
}

async fn behind_a_frame_that_cannot_be_nothing_passes(over: Over) {
    let (proxy, backend) = site(over, SMALL).await;
    for header in [
        // A Ping of 64 MiB, one that is not final, and a length beyond all others.
        &b"\x89\xff\0\0\0\0\x04\0\0\0"[..],
        b"\x09\x80",
        b"\x82\xff\x80\0\0\0\0\0\0\0",
    ] {
        let log = proxy.log.tail();
        let (mut client, mut server) = proxy.tunnel(&backend).await;
        client.send(masked(Opcode::Text, true, b"a")).await;
        assert_eq!(server.frame().await.text(), "a");
        client.send(header).await;
        client.send([0; 2000]).await;
        let codes = [client.frame().await, server.frame().await];
        let codes = codes.map(|frame| frame.close_code());
        let (code, cause) = match header[0] {
            0x82 => (1009, "max_frame"),
            _ => (1002, "malformed_frame"),
        };
        assert_eq!(codes, [Some(code), Some(1001)]);
        drop((client, server));
        let line = log.wait("tunnel closed", &[]).await;
        assert_eq!(
            (line.text("ended_by"), line.text("cause")),
            ("client", cause)
        );
        assert_eq!(line.number("messages_in"), 1);
    }
}

async fn a_backend_is_limited_where_the_route_says_so(over: Over) {
    let (proxy, backend) = site(over, SMALL).await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    server.send(plain(Opcode::Text, true, &[b'a'; 1000])).await;
    assert_eq!(client.frame().await.payload.len(), 1000);
    // Of a frame that would never end, the header is enough.
    server
        .send(b"\x82\x7f\x00\x00\x01\x00\x00\x00\x00\x00")
        .await;
    let codes = [client.frame().await, server.frame().await];
    let codes = codes.map(|frame| frame.close_code());
    assert_eq!(codes, [Some(1011), Some(1009)]);
    drop((client, server));
    let line = proxy.log.wait("tunnel closed", &[]).await;
    cut(&proxy, &line, "backend", "max_frame").await;
}

async fn too_many_messages_and_too_many_bytes_end_a_tunnel(over: Over) {
    let (proxy, backend) = site(over, "message_limits = { message_rate = '3/h' }").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    for _ in 0..3 {
        client.send(masked(Opcode::Text, true, b"a")).await;
        assert_eq!(server.frame().await.text(), "a");
        // The backend may say what it likes.
        server.send(plain(Opcode::Text, true, b"b")).await;
        server.send(plain(Opcode::Text, true, b"b")).await;
        assert_eq!(client.frame().await.text(), "b");
        assert_eq!(client.frame().await.text(), "b");
    }
    client.send(masked(Opcode::Text, true, b"a")).await;
    let line = farewell(&proxy, client, server, [1008, 1001]).await;
    cut(&proxy, &line, "client", "message_rate").await;
    assert_eq!(line.number("messages_in"), 3);

    let (proxy, backend) = site(over, "message_limits = { byte_rate = '1MiB/h' }").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    // What has begun is not cut off in the middle.
    let size = 2 << 20;
    let sent = masked(Opcode::Binary, true, &vec![7; size]);
    let (_, frame) = tokio::join!(client.send(sent), server.frame());
    assert_eq!(frame.payload.len(), size);
    let line = farewell(&proxy, client, server, [1008, 1001]).await;
    cut(&proxy, &line, "client", "byte_rate").await;
}

async fn what_is_within_the_limits_passes_whatever_its_size(over: Over) {
    let limits = "message_limits = { max_frame = '4MiB', max_message = '4MiB', \
                  message_rate = '1000/s', byte_rate = '1GiB/s', side = 'both' }";
    let (proxy, backend) = site(over, limits).await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    for size in [4 << 20, 1, 70_000, 0, 4 << 20] {
        let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let sent = masked(Opcode::Binary, true, &payload);
        let (_, frame) = tokio::join!(client.send(sent), server.frame());
        assert!(frame.payload == payload, "{size} bytes in");
        let sent = plain(Opcode::Binary, true, &payload);
        let (_, frame) = tokio::join!(server.send(sent), client.frame());
        assert!(frame.payload == payload, "{size} bytes out");
    }
}

async fn pings_of_longhauls_own_go_on_beside_limits(over: Over) {
    let route = format!("{SMALL}\nping_interval = '300ms'\nping_side = 'client'");
    let (proxy, backend) = site(over, &route).await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    let ping = client.frame().await;
    assert_eq!(ping.opcode, Opcode::Ping);
    let pong = masked(Opcode::Pong, true, &ping.payload);
    // In the middle of a message that the limits have an eye on.
    client.send(masked(Opcode::Text, false, b"a")).await;
    client.send(pong).await;
    client.send(masked(Opcode::Continuation, true, b"b")).await;
    assert_eq!(server.frame().await.text(), "a");
    assert_eq!(server.frame().await.text(), "b", "and no answer of a ping");
    client.send(masked(Opcode::Text, true, &[b'a'; 1001])).await;
    let close = server.frame().await;
    assert_eq!(close.close_code(), Some(1001));
}

async fn a_tunnel_keeps_the_limits_that_it_was_opened_with(over: Over) {
    let (proxy, backend) = site(over, SMALL).await;
    let (mut limited, mut one) = proxy.tunnel(&backend).await;
    proxy.reload(Site::one(backend.address())).await;
    let (mut free, mut other) = proxy.tunnel(&backend).await;
    let large = masked(Opcode::Text, true, &[b'a'; 2000]);
    free.send(&large).await;
    assert_eq!(other.frame().await.payload.len(), 2000);
    limited.send(&large).await;
    assert_eq!(limited.frame().await.close_code(), Some(1009));
    assert_eq!(one.frame().await.close_code(), Some(1001));
}
