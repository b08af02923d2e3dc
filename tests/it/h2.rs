//! What HTTP/2 alone has: streams side by side, their endings, GOAWAY, age, and
//! what is passed on of an extended CONNECT (RFC 8441).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::h2::{Code, Setting, Stream};
use crate::kit::{
    Authority, Echo, Opcode, Proxy, RawBackend, Setup, Site, Wire, close_payload, eventually,
    masked, plain, soon,
};

pub async fn site(listener: &str, more: &str) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).listener(listener).more(more);
    (Proxy::start(site).await, backend)
}

/// An open tunnel: the client's stream and the backend's end.
pub async fn open(client: &crate::kit::h2::H2, backend: &RawBackend) -> (Stream, Wire) {
    let stream = client.connect("/", "h", &[]);
    let mut server = backend.accept().await;
    let request = server.request().await;
    server.send(request.switching("")).await;
    assert_eq!(stream.status().await, 200);
    (stream, server)
}

async fn read<const N: usize>(stream: &mut Stream) -> [u8; N] {
    let mut bytes = [0; N];
    soon("bytes", stream.read_exact(&mut bytes))
        .await
        .expect("bytes");
    bytes
}

/// A message to the backend and one back.
pub async fn ping_pong((stream, server): &mut (Stream, Wire), text: &str) {
    let up = masked(Opcode::Text, true, text.as_bytes());
    soon("to send", stream.write_all(&up))
        .await
        .expect("to send");
    assert_eq!(server.frame().await.text(), text);
    let down = plain(Opcode::Text, true, b"ok");
    server.send(&down).await;
    assert_eq!(&read::<4>(stream).await[..], down);
}

#[tokio::test]
async fn an_extended_connect_becomes_a_handshake_and_a_200() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    assert_eq!(client.setting(Setting::ENABLE_CONNECT_PROTOCOL), Some(1));
    let mut stream = client.connect(
        "/ws?room=7",
        "chat.example.com",
        &[
            ("origin", "https://chat.example.com"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("sec-websocket-protocol", "v1, v2"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-key", "of the client's own"),
        ],
    );
    let mut server = backend.accept().await;
    let request = server.request().await;
    assert_eq!((&*request.method, &*request.target), ("GET", "/ws?room=7"));
    for (name, value) in [
        ("host", "chat.example.com"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "v1, v2"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "https://chat.example.com"),
        // RFC 9113 section 8.2.3.
        ("cookie", "a=b; c=d"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let key = request.header("sec-websocket-key").expect("a key");
    assert_eq!(key.len(), 24, "{key}");
    let extra = "Sec-WebSocket-Protocol: v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
         X-Own: 1\r\nSet-Cookie: s=1\r\n";
    server.send(request.switching(extra)).await;
    let mut head = stream.head().await;
    head.sort();
    let wanted = [
        (":status", "200"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "v2"),
        ("set-cookie", "s=1"),
        ("x-own", "1"),
    ];
    assert_eq!(
        head,
        wanted.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    stream
        .write_all(&masked(Opcode::Text, true, b"hello"))
        .await
        .expect("to send");
    assert_eq!(server.frame().await.text(), "hello");
    let event = proxy.log.wait("tunnel opened", &[("http", "2")]).await;
    assert_eq!(event.number("status"), 200);
    assert_eq!(event.text("path"), "/ws?room=*");
}

#[tokio::test]
async fn each_handshake_has_a_key_of_its_own() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    let mut keys = std::collections::HashSet::new();
    for _ in 0..5 {
        let _stream = client.connect("/", "h", &[]);
        let request = backend.accept().await.request().await;
        keys.insert(request.header("sec-websocket-key").map(str::to_owned));
    }
    assert_eq!(keys.len(), 5);
}

/// Protocols beside WebSocket, and what is no CONNECT for a tunnel.
#[tokio::test]
async fn what_is_not_a_websocket_is_refused() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    for (protocol, status) in [
        ("webtransport", 501),
        ("connect-udp", 501),
        ("raw", 501),
        ("websocket, raw", 501),
        ("not a token", 400),
        ("", 400),
    ] {
        let headers = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "h"),
            ("sec-websocket-version", "13"),
        ];
        let stream = client.request(&headers, false);
        assert_eq!(stream.status().await, status, "{protocol:?}");
    }
    let plain = client.request(&[(":method", "CONNECT"), (":authority", "h:1")], false);
    assert_eq!(plain.status().await, 501);
    backend.unvisited_for(Duration::from_millis(100)).await;
    let mut tunnel = open(&client, &backend).await;
    ping_pong(&mut tunnel, "the connection is as good as ever").await;
}

/// A browser takes every 2xx for an open socket (RFC 8441 section 5).
#[tokio::test]
async fn a_success_that_is_no_upgrade_is_502() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    for status in [200, 204, 206] {
        let stream = client.connect("/", "h", &[]);
        let mut server = backend.accept().await;
        server.request().await;
        let answer = format!("HTTP/1.1 {status} Fine\r\nConnection: close\r\n\r\n");
        server.send(answer).await;
        assert_eq!(stream.status().await, 502, "{status}");
        server.end().await;
    }
    eventually("three lines", || {
        let refused = [("status", "502"), ("refusal", "not_upgraded")];
        proxy.log.all(|event| event.is("request", &refused)).len() == 3
    })
    .await;
}

#[tokio::test]
async fn a_listener_may_speak_less() {
    let (proxy, _backend) = site("websocket_over_http2 = false", "").await;
    let client = proxy.h2().await;
    assert_eq!(client.setting(Setting::ENABLE_CONNECT_PROTOCOL), None);
    // RFC 8441 section 4: without the setting it is malformed.
    let stream = client.connect("/", "h", &[]);
    assert_eq!(stream.was_reset().await, Code::PROTOCOL_ERROR);
    let (proxy, _backend) = site("http2 = false", "").await;
    let mut wire = proxy.connect_plainly().await;
    wire.send(crate::kit::h2::PREFACE).await;
    wire.eof().await;
}

#[tokio::test]
async fn by_alpn_over_tls() {
    let authority = Authority::new();
    let backend = Echo::start("a").await;
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = Site::one(backend.address()).tls();
    let proxy = setup.start(site).await;
    let wire = proxy
        .tls(&authority.client().alpn(&["h2", "http/1.1"]), "localhost")
        .await;
    let client = crate::kit::h2::H2::over(wire.into_parts().0).await;
    let mut stream = client.connect("/", "localhost", &[]);
    assert_eq!(stream.status().await, 200);
    assert_eq!(&read::<14>(&mut stream).await[2..], b"hello from a");
    let get = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "localhost"),
    ];
    let mut plain = client.request(&get, true);
    assert_eq!(plain.status().await, 200);
    assert_eq!(&read::<1>(&mut plain).await, b"a");
    let opened = proxy.log.wait("tunnel opened", &[("http", "2")]).await;
    assert_eq!(opened.text("tls"), "TLSv1.3");
    let requests = backend.requests();
    assert_eq!(
        requests[0].header("x-forwarded-proto"),
        Some("https"),
        "{requests:?}"
    );
}

#[tokio::test]
async fn a_thousand_tunnels_on_one_connection() {
    let backend = Echo::start("a").await;
    let more = "[http2]\nmax_streams = 2000";
    let proxy = Proxy::start(Site::one(backend.address()).more(more)).await;
    let client = proxy.h2().await;
    let mut streams: Vec<Stream> = (0..1000).map(|_| client.connect("/", "h", &[])).collect();
    for stream in &mut streams {
        assert_eq!(stream.status().await, 200);
        assert_eq!(&read::<14>(stream).await[2..], b"hello from a");
    }
    assert_eq!(proxy.status().await["tunnels"], 1000);
    assert_eq!(proxy.metric("longhaul_connections_total").await, 1.0);
    for (index, stream) in streams.iter_mut().enumerate() {
        let text = format!("{index:04}");
        let message = masked(Opcode::Text, true, text.as_bytes());
        stream.write_all(&message).await.expect("to send");
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let echoed = read::<6>(stream).await;
        assert_eq!(&echoed[2..], format!("{index:04}").as_bytes());
    }
    client.kill();
    eventually("a thousand last lines", || {
        let lines = proxy.log.all(|event| {
            event.is(
                "tunnel closed",
                &[("cause", "connection_lost"), ("ended_by", "client")],
            )
        });
        lines.len() == 1000
    })
    .await;
    assert_eq!(proxy.status().await["tunnels"], 0);
}

/// What ends one stream, and what the backend and the log say of it.
#[tokio::test]
async fn endings_are_of_one_stream_alone() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    let mut witness = open(&client, &backend).await;
    for code in [Code::CANCEL, Code::NO_ERROR, Code::PROTOCOL_ERROR] {
        let log = proxy.log.tail();
        let (stream, mut server) = open(&client, &backend).await;
        stream.reset(code);
        server.end().await;
        let event = log.wait("tunnel closed", &[]).await;
        assert_eq!(
            (event.text("ended_by"), event.text("cause")),
            ("client", "reset"),
            "{code}: {}",
            event.line
        );
        ping_pong(&mut witness, "untouched").await;
    }
    // The backend's reset comes behind its last words (RFC 8441 section 5).
    let (mut stream, mut server) = open(&client, &backend).await;
    let last = plain(Opcode::Close, true, &close_payload(1011));
    server.send(&last).await;
    assert_eq!(&read::<4>(&mut stream).await[..], last);
    server.abort();
    assert_eq!(stream.was_reset().await, Code::CANCEL);
    // Its end is an end.
    let (mut stream, mut server) = open(&client, &backend).await;
    server.finish().await;
    let end = soon("the end", stream.read(&mut [0; 1])).await;
    assert_eq!(end.expect("an end"), 0);
    drop((stream, server));
    ping_pong(&mut witness, "untouched").await;
}

#[tokio::test]
async fn a_stop_says_goaway_and_closes_tunnels_politely() {
    let (proxy, backend) = site("", "[drain]\nwindow = '200ms'").await;
    let client = proxy.h2().await;
    let (mut stream, mut server) = open(&client, &backend).await;
    proxy.terminate();
    let (last, code) = client.goaway().await;
    assert_eq!(code, Code::NO_ERROR);
    assert!(last >= stream.id, "{last}");
    let [first, length, high, low] = read::<4>(&mut stream).await;
    assert_eq!((first, length), (0x88, 2 + 18));
    assert_eq!(u16::from_be_bytes([high, low]), 1012);
    assert_eq!(&read::<18>(&mut stream).await, b"server is stopping");
    assert_eq!(server.frame().await.close_code(), Some(1012));
    let answer = masked(Opcode::Close, true, &close_payload(1012));
    stream.write_all(&answer).await.expect("to answer");
    server
        .send(plain(Opcode::Close, true, &close_payload(1012)))
        .await;
    let end = soon("the end", stream.read(&mut [0; 1])).await;
    assert_eq!(end.expect("an end"), 0);
    drop((stream, server));
    client.closed().await;
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_old_connection_takes_no_more_and_its_tunnels_live_on() {
    let more = "[http2]\nmax_connection_age = '500ms'\nmax_connection_age_jitter = 0.0";
    let (proxy, backend) = site("", more).await;
    let client = proxy.h2().await;
    let mut tunnel = open(&client, &backend).await;
    let start = Instant::now();
    let (_, code) = client.goaway().await;
    assert_eq!(code, Code::NO_ERROR);
    assert!(start.elapsed() < Duration::from_secs(2));
    for _ in 0..3 {
        ping_pong(&mut tunnel, "still here").await;
    }
    drop(tunnel);
    client.closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_a_tunnel_is_not() {
    let (proxy, backend) = site("", "[limits]\nkeepalive_timeout = '400ms'").await;
    let (idle, busy) = (proxy.h2().await, proxy.h2().await);
    let mut tunnel = open(&busy, &backend).await;
    assert_eq!(idle.goaway().await.1, Code::NO_ERROR);
    idle.closed().await;
    tunnel.1.silent_for(Duration::from_millis(800)).await;
    ping_pong(&mut tunnel, "still here").await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_given_up() {
    let more = "[http2]\nping_interval = '300ms'\nping_timeout = '300ms'";
    let (proxy, backend) = site("", more).await;
    let alive = proxy.h2().await;
    let mut tunnel = open(&alive, &backend).await;
    // Frames by hand: nobody answers.
    let (mut dead, _) = crate::kit::h2::Raw::open(&proxy).await;
    let start = Instant::now();
    while dead.next_frame().await.is_some() {}
    assert!(start.elapsed() > Duration::from_millis(500));
    ping_pong(&mut tunnel, "still here").await;
}

/// Three hours of a fleet in three seconds.
#[tokio::test]
async fn jitter_spreads_the_ages() {
    let more = "[http2]\nmax_connection_age = '3s'\nmax_connection_age_jitter = 0.9";
    let (proxy, _backend) = site("", more).await;
    let start = Instant::now();
    let mut waits = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = proxy.h2().await;
        waits.spawn(async move {
            assert_eq!(client.goaway().await.1, Code::NO_ERROR);
            start.elapsed()
        });
    }
    let mut times = waits.join_all().await;
    times.sort();
    assert!(
        times[19] - times[0] > Duration::from_millis(800),
        "{times:?}"
    );
    assert!(times[19] < Duration::from_secs(5), "{times:?}");
}

/// A tunnel has a place of its own under the limits, whether or not it has a
/// connection of its own.
#[tokio::test]
async fn streams_count_under_the_limits_of_connections() {
    for limit in ["max_connections", "max_connections_per_address"] {
        let (proxy, backend) = site("", &format!("[limits]\n{limit} = 3")).await;
        let client = proxy.h2().await;
        let (stream, server) = open(&client, &backend).await;
        let mut other = open(&client, &backend).await;
        let refused = client.connect("/", "h", &[]);
        assert_eq!(refused.status().await, 503, "{limit}");
        let facts = [("status", "503"), ("refusal", limit)];
        proxy.log.wait("request", &facts).await;
        let log = proxy.log.tail();
        drop((stream, server));
        log.wait("tunnel closed", &[]).await;
        ping_pong(&mut open(&client, &backend).await, "in its place").await;
        ping_pong(&mut other, "still here").await;
    }
}
