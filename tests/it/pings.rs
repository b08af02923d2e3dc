//! WebSocket pings of longhaul's own: a peer whose kernel answers and whose
//! program hangs is found and let go; everyone else notices nothing.

use std::time::{Duration, Instant};

use crate::kit::{
    Authority, End, Event, Opcode, Over, Proxy, RawBackend, Setup, Site, Wire, Ws, close_payload,
    eventually, masked, over_each, plain,
};

over_each!(
    a_backend_that_hangs_behind_http2_is_given_up,
    the_same_through_tls_on_both_legs,
    a_client_that_hangs_is_given_up_and_its_backend_told,
    a_backend_that_hangs_is_given_up_and_its_client_told,
    a_client_with_a_library_lives_on_and_its_backend_sees_nothing,
    pings_and_pongs_of_the_peers_are_theirs,
    a_ping_goes_between_the_frames_of_a_large_message,
    a_client_that_takes_nothing_is_given_up_within_an_open_frame,
    a_tunnel_keeps_the_pings_that_it_was_opened_with,
    a_long_timeout_makes_no_long_interval,
);

const QUICK: &str = "ping_interval = '300ms'\nping_timeout = '400ms'";

async fn site(over: Over, route: &str) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address()).route(route)).await;
    (proxy.over(over), backend)
}

/// The next frame, which must be a ping of longhaul's own.
async fn ping(wire: &mut Wire, masks: bool) -> Vec<u8> {
    let frame = wire.frame().await;
    let is = (frame.opcode, frame.last, frame.masked, frame.payload.len());
    assert_eq!(is, (Opcode::Ping, true, masks, 8), "{frame:?}");
    frame.payload
}

/// Checks the one line and the one count of an end.
async fn given_up(proxy: &Proxy, side: &str) -> Event {
    let event = proxy.log.wait("tunnel closed", &[]).await;
    let end = (event.text("ended_by"), event.text("cause"));
    assert_eq!(end, (side, "ping_timeout"), "{}", event.line);
    assert_eq!(proxy.status().await["tunnels"], 0);
    let closed = "longhaul_tunnels_closed_total";
    let this = format!("{closed}{{ended_by=\"{side}\",cause=\"ping_timeout\",");
    assert_eq!(proxy.metric(&this).await, 1.0);
    assert_eq!(proxy.metric(closed).await, 1.0);
    event
}

/// The client hangs: it has a kernel that acknowledges, and says nothing.
async fn hang_client(mut client: Wire, mut server: Wire) {
    ping(&mut client, false).await;
    let since = Instant::now();
    let close = server.frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1001), true));
    let took = since.elapsed();
    let bound = Duration::from_millis(350)..Duration::from_secs(2);
    assert!(bound.contains(&took), "{took:?}");
    let answer = close_payload(1001);
    server.send(plain(Opcode::Close, true, &answer)).await;
    server.finish().await;
    let rest = client.rest_and_end().await;
    assert_eq!(rest, (vec![], End::Reset));
    server.end().await;
}

async fn hang_backend(mut client: Wire, mut server: Wire) {
    ping(&mut server, true).await;
    let since = Instant::now();
    let close = client.frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1011), false));
    let took = since.elapsed();
    let bound = Duration::from_millis(350)..Duration::from_secs(2);
    assert!(bound.contains(&took), "{took:?}");
    let answer = close_payload(1011);
    client.send(masked(Opcode::Close, true, &answer)).await;
    client.end().await;
    let rest = server.rest_and_end().await;
    assert_eq!(rest, (vec![], End::Reset));
}

async fn a_client_that_hangs_is_given_up_and_its_backend_told(over: Over) {
    let (proxy, backend) = site(over, &format!("{QUICK}\nping_side = 'client'")).await;
    let before = proxy.descriptors();
    let (client, server) = proxy.tunnel(&backend).await;
    hang_client(client, server).await;
    let event = given_up(&proxy, "client").await;
    assert_eq!(event.number("bytes_in") + event.number("bytes_out"), 0);
    assert_eq!(event.number("backend_close_code"), 1001);
    eventually("both descriptors to go", || proxy.descriptors() <= before).await;
}

async fn a_backend_that_hangs_is_given_up_and_its_client_told(over: Over) {
    let (proxy, backend) = site(over, &format!("{QUICK}\nping_side = 'backend'")).await;
    let before = proxy.descriptors();
    let (client, server) = proxy.tunnel(&backend).await;
    hang_backend(client, server).await;
    let event = given_up(&proxy, "backend").await;
    assert_eq!(event.number("bytes_in") + event.number("bytes_out"), 0);
    assert_eq!(event.number("client_close_code"), 1011);
    eventually("both descriptors to go", || proxy.descriptors() <= before).await;
}

async fn the_same_through_tls_on_both_legs(over: Over) {
    let authority = Authority::new();
    for side in ["client", "backend"] {
        let (front, behind) = (authority.pair(&["localhost"]), authority.pair(&["behind"]));
        let backend = RawBackend::tls(authority.acceptor(&behind, None)).await;
        let setup = Setup::with_pair(&front);
        setup.write("ca.pem", authority.pem());
        let site = Site::one(backend.address())
            .route(QUICK)
            .route(&format!("ping_side = '{side}'"))
            .tls()
            .upstream("scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'behind' }");
        let proxy = setup.start(site).await.over(over);
        let client = proxy.tls(&authority.client(), "localhost").await;
        let (client, server) = backend.join(client).await;
        match side {
            "client" => hang_client(client, server).await,
            _ => hang_backend(client, server).await,
        }
        given_up(&proxy, side).await;
    }
}

async fn a_backend_that_hangs_behind_http2_is_given_up(over: Over) {
    let backend = RawBackend::start().await;
    let behind = Proxy::start(Site::one(backend.address())).await;
    let site = Site::one(&behind.address("main").await)
        .route(QUICK)
        .route("ping_side = 'backend'")
        .upstream("http2 = true\nwebsocket_over_http2 = true");
    let front = Setup::new().beside().start(site).await.over(over);
    let (mut client, mut server) = front.tunnel(&backend).await;
    ping(&mut server, true).await;
    assert_eq!(client.frame().await.close_code(), Some(1011));
    drop(client);
    given_up(&front, "backend").await;
    // The stream alone is reset, and that reaches the one that hangs.
    server.end().await;
    drop(server);
    let event = behind.log.wait("tunnel closed", &[("http", "2")]).await;
    let end = (event.text("ended_by"), event.text("cause"));
    assert_eq!(end, ("client", "reset"), "{}", event.line);
}

async fn a_client_with_a_library_lives_on_and_its_backend_sees_nothing(over: Over) {
    let (proxy, backend) = site(over, &format!("{QUICK}\nping_side = 'client'")).await;
    let wire = proxy.connect().await;
    let accept = async {
        let mut server = backend.accept().await;
        let request = server.request().await;
        server.send(request.switching("")).await;
        server
    };
    let (mut ws, mut server) = tokio::join!(Ws::open(wire, "/", "h", ""), accept);
    let text = plain(Opcode::Text, true, b"still here");
    let quiet = async {
        server.silent_for(Duration::from_secs(2)).await;
        server.send(&text).await;
    };
    let ((), (heard, pings)) = tokio::join!(quiet, ws.text_after_pings());
    assert_eq!(heard, "still here");
    assert!((3..=7).contains(&pings), "{pings} in two seconds");
    drop((ws, server));
    let event = proxy.log.wait("tunnel closed", &[]).await;
    let passed = (event.number("bytes_in"), event.number("bytes_out"));
    assert_eq!(passed, (0, text.len() as u64), "{}", event.line);
}

async fn pings_and_pongs_of_the_peers_are_theirs(over: Over) {
    let (proxy, backend) = site(over, "ping_interval = '3s'").await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    let ours = ping(&mut client, false).await;
    let theirs = ping(&mut server, true).await;
    assert_ne!(ours, theirs);
    // Each answers longhaul among frames of its own, one of them with the
    // payload of the ping to the other.
    for (opcode, payload) in [(Opcode::Ping, &theirs), (Opcode::Pong, &theirs)] {
        client.send(masked(opcode, true, payload)).await;
        client.send(masked(Opcode::Pong, true, &ours)).await;
        let frame = server.frame().await;
        assert_eq!((frame.opcode, &frame.payload), (opcode, payload));
    }
    for (opcode, payload) in [(Opcode::Ping, &ours), (Opcode::Pong, &ours)] {
        server.send(plain(Opcode::Pong, true, &theirs)).await;
        server.send(plain(opcode, true, payload)).await;
        let frame = client.frame().await;
        assert_eq!((frame.opcode, &frame.payload), (opcode, payload));
    }
    // In the middle of a fragmented message, too.
    client.send(masked(Opcode::Text, false, b"be")).await;
    client.send_slowly(masked(Opcode::Pong, true, &ours)).await;
    client
        .send(masked(Opcode::Continuation, true, b"gin"))
        .await;
    for (opcode, text) in [(Opcode::Text, "be"), (Opcode::Continuation, "gin")] {
        let frame = server.frame().await;
        assert_eq!((frame.opcode, frame.text()), (opcode, text));
    }
}

async fn a_ping_goes_between_the_frames_of_a_large_message(over: Over) {
    let keys = "ping_interval = '2s'\nping_timeout = '500ms'\nping_side = 'client'";
    let (proxy, backend) = site(over, keys).await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    let part = vec![0x5a; 1_000_000];
    let first = plain(Opcode::Binary, false, &part);
    let middle = plain(Opcode::Continuation, false, &part);
    let (begun, rest) = middle.split_at(400_000);
    let sent = [&first, begun].concat();
    let ((), seen) = tokio::join!(server.send(&sent), client.take(sent.len()));
    assert!(seen == sent);
    // Longer than both times: the frame is open, so no ping can go in, and the
    // client is not to blame.
    client.silent_for(Duration::from_millis(3500)).await;
    let ((), seen) = tokio::join!(server.send(rest), client.take(rest.len()));
    assert!(seen == rest);
    let payload = ping(&mut client, false).await;
    client.send(masked(Opcode::Pong, true, &payload)).await;
    server.send(plain(Opcode::Continuation, true, b"end")).await;
    let frame = client.frame().await;
    assert_eq!((frame.opcode, frame.text()), (Opcode::Continuation, "end"));
    server.silent_for(Duration::from_millis(600)).await;
}

async fn a_client_that_takes_nothing_is_given_up_within_an_open_frame(over: Over) {
    let keys = "ping_interval = '500ms'\nping_timeout = '1s'\nping_side = 'client'";
    let (proxy, backend) = site(over, keys).await;
    let (client, mut server) = proxy.tunnel(&backend).await;
    let header = [&[0x82, 127][..], &4_000_000_000_u64.to_be_bytes()].concat();
    server.send(header).await;
    server.send_until_stalled(Duration::from_millis(300)).await;
    let since = Instant::now();
    assert_eq!(server.frame().await.close_code(), Some(1001));
    let took = since.elapsed();
    assert!(
        took < Duration::from_millis(500 + 2 * 1000 + 1000),
        "{took:?}"
    );
    drop(server);
    given_up(&proxy, "client").await;
    drop(client);
}

async fn a_long_timeout_makes_no_long_interval(over: Over) {
    let keys = "ping_interval = '300ms'\nping_timeout = '60s'\nping_side = 'client'";
    let (proxy, backend) = site(over, keys).await;
    let (mut client, _server) = proxy.tunnel(&backend).await;
    for _ in 0..3 {
        let payload = ping(&mut client, false).await;
        client.send(masked(Opcode::Pong, true, &payload)).await;
    }
}

async fn a_tunnel_keeps_the_pings_that_it_was_opened_with(over: Over) {
    let backend = RawBackend::start().await;
    let with = Site::one(backend.address())
        .route(QUICK)
        .route("ping_side = 'client'");
    let without = Site::one(backend.address());
    let proxy = Proxy::start(&with).await.over(over);
    let (mut pinged, _one) = proxy.tunnel(&backend).await;
    proxy.reload(&without).await;
    let (mut spared, _two) = proxy.tunnel(&backend).await;
    let first = ping(&mut pinged, false).await;
    pinged.send(masked(Opcode::Pong, true, &first)).await;
    let answers = async {
        for _ in 0..2 {
            assert_eq!(ping(&mut pinged, false).await, first);
            pinged.send(masked(Opcode::Pong, true, &first)).await;
        }
    };
    tokio::join!(spared.silent_for(Duration::from_secs(1)), answers);
    drop(pinged);
    proxy.reload(&with).await;
    let (mut third, _three) = proxy.tunnel(&backend).await;
    let other = ping(&mut third, false).await;
    assert_ne!(first, other, "a payload that can be foretold");
    spared.silent_for(Duration::from_millis(500)).await;
}
