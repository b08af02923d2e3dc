//! The upgrade: what the backend is sent, what is refused, what a backend may answer.

use std::time::Duration;

use crate::kit::{
    ACCEPT, Authority, Echo, Event, KEY, Opcode, Over, Proxy, RawBackend, Request, Setup, Site,
    Wire, handshake, masked, over_each, plain, switching,
};

over_each!(
    nothing_is_invented,
    hop_by_hop_headers_end_at_longhaul,
    a_version_that_is_not_spoken_is_refused,
    spoofed_forwarding_headers_of_strangers_are_replaced,
    other_answers_of_the_backend_are_ordinary_http,
    a_backends_wrong_answers_are_502_and_open_nothing,
    the_handshake_has_one_deadline,
    a_client_that_leaves_during_the_handshake_takes_the_backend_along,
    a_backend_that_answers_and_leaves_at_once_loses_nothing,
    a_route_may_refuse_every_upgrade,
    the_handshake_passes_byte_for_byte,
    a_trusted_proxy_is_believed_and_the_chain_goes_on,
    a_client_that_leaves_behind_its_first_frames_is_noticed_at_once,
    bytes_glued_to_the_heads_arrive_first,
    heads_that_come_byte_by_byte,
    a_tls_backend_is_verified_by_its_ca_and_name_and_sees_our_certificate,
    a_tls_backend_that_cannot_prove_itself_is_502,
    without_a_ca_of_its_own_an_https_upstream_trusts_those_of_the_system,
    a_backend_on_a_unix_socket,
);

async fn site(over: Over) -> (Proxy, RawBackend) {
    site_with(over, "").await
}

async fn site_with(over: Over, route: &str) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address()).route(route)).await;
    (proxy.over(over), backend)
}

/// Sends a handshake and gives both ends, with the request that the backend saw.
async fn asked(proxy: &Proxy, backend: &RawBackend, request: &str) -> (Wire, Wire, Request) {
    let mut client = proxy.connect().await;
    client.send(request).await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    (client, server, request)
}

async fn the_handshake_passes_byte_for_byte(over: Over) {
    let (proxy, backend) = site(over).await;
    let extra = "Origin: https://app.example.com\r\nCookie: a=b; c=d\r\n\
         Sec-WebSocket-Protocol: v1.example, V2.Example ,x\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         Sec-WebSocket-Extensions: x-own; a=\"b c\"\r\nAuthorization: Bearer x.y\r\n";
    let request = handshake("/ws?room=7&token=%20a", "Chat.Example.com:8443", extra);
    let (mut client, mut server, request) = asked(&proxy, &backend, &request).await;
    assert_eq!(request.method, "GET");
    assert_eq!(request.target, "/ws?room=7&token=%20a");
    assert_eq!(request.header("host"), Some("Chat.Example.com:8443"));
    assert_eq!(request.header("origin"), Some("https://app.example.com"));
    assert_eq!(request.header("cookie"), Some("a=b; c=d"));
    assert_eq!(request.header("authorization"), Some("Bearer x.y"));
    // Exactly these spellings: some servers insist on them.
    assert_eq!(request.header("upgrade"), Some("websocket"));
    assert_eq!(request.header("connection"), Some("Upgrade"));
    let key = request.header("sec-websocket-key").expect("a key");
    // HTTP/2 has none (RFC 8441 section 5).
    assert_eq!(key == KEY, over == Over::Http1, "{key}");
    assert_eq!(request.header("sec-websocket-version"), Some("13"));
    assert_eq!(
        request.header("sec-websocket-protocol"),
        Some("v1.example, V2.Example ,x")
    );
    assert_eq!(
        request.all("sec-websocket-extensions"),
        [
            "permessage-deflate; client_max_window_bits",
            "x-own; a=\"b c\""
        ]
    );

    server
        .switch(
            "Sec-WebSocket-Protocol: V2.Example\r\nX-Own: 1\r\nSet-Cookie: s=1\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
        )
        .await;
    let head = client.response_head().await;
    assert_eq!(head.status, 101);
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(
        head.header("connection").map(str::to_lowercase).as_deref(),
        Some("upgrade")
    );
    assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(head.header("sec-websocket-protocol"), Some("V2.Example"));
    assert_eq!(
        head.header("sec-websocket-extensions"),
        Some("permessage-deflate; server_max_window_bits=10")
    );
    assert_eq!(
        (head.header("x-own"), head.header("set-cookie")),
        (Some("1"), Some("s=1"))
    );
}

async fn nothing_is_invented(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server, request) = asked(&proxy, &backend, &handshake("/", "h", "")).await;
    for name in [
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "origin",
        "cookie",
        "te",
        "content-length",
        "transfer-encoding",
        "keep-alive",
        "accept-encoding",
    ] {
        assert_eq!(request.header(name), None, "{name}");
    }
    server.switch("").await;
    let head = client.response_head().await;
    for name in [
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "set-cookie",
    ] {
        assert_eq!(head.header(name), None, "{name}");
    }
}

/// Handshakes as clients of the wild write them; each must reach the backend.
///
/// Over HTTP/1.1 alone: HTTP/2 has no `Connection` and no `Upgrade`.
#[tokio::test]
async fn tokens_lists_and_case_of_real_clients() {
    let (proxy, backend) = site(Over::Http1).await;
    let heads = [
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: WebSocket\r\nConnection: Upgrade\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
        "UPGRADE: WEBSOCKET\r\nCONNECTION: UPGRADE\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade,Keep-Alive\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: ,, Upgrade ,\r\n",
        "Upgrade:websocket\r\nConnection:Upgrade\r\n",
        "Upgrade: \t websocket \t\r\nConnection: \tUpgrade \r\n",
        "Upgrade: websocket,websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade, Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nProxy-Connection: keep-alive\r\n",
    ];
    for head in heads {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{head}sec-websocket-key: {KEY}\r\n\
             sec-websocket-version: 13\r\n\r\n"
        );
        let (mut client, mut server, request) = asked(&proxy, &backend, &request).await;
        assert_eq!(request.header("upgrade"), Some("websocket"), "{head}");
        assert_eq!(request.header("connection"), Some("Upgrade"), "{head}");
        assert_eq!(request.header("proxy-connection"), None, "{head}");
        server.switch("").await;
        assert_eq!(client.response_head().await.status, 101, "{head}");
    }
}

async fn spoofed_forwarding_headers_of_strangers_are_replaced(over: Over) {
    let (proxy, backend) = site(over).await;
    let port = proxy.address("main").await;
    let port = port.rsplit_once(':').expect("host:port").1;
    let spoof = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Real-IP: 6.6.6.6\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
         X-Forwarded-Prefix: /admin\r\nX-Forwarded-User: root\r\nForwarded: for=6.6.6.6\r\n";
    let strip = "Connection: x-forwarded-for, forwarded, x-forwarded-proto, host, cookie\r\n";
    for (spoof, strip) in [("", ""), (spoof, ""), ("", strip), (spoof, strip)] {
        let extra = format!("Cookie: a=b\r\n{spoof}{strip}");
        for request in [
            handshake("/", "chat.test", &extra),
            format!("GET / HTTP/1.1\r\nHost: chat.test\r\n{extra}\r\n"),
        ] {
            let (_client, _server, request) = asked(&proxy, &backend, &request).await;
            assert_eq!(
                request.header("x-forwarded-for"),
                Some("127.0.0.1"),
                "{extra}"
            );
            assert_eq!(request.header("x-forwarded-proto"), Some("http"), "{extra}");
            assert_eq!(
                request.header("x-forwarded-host"),
                Some("chat.test"),
                "{extra}"
            );
            assert_eq!(request.header("x-forwarded-port"), Some(port), "{extra}");
            let forwarded = "for=127.0.0.1;host=\"chat.test\";proto=http";
            assert_eq!(request.header("forwarded"), Some(forwarded), "{extra}");
            for name in ["x-real-ip", "x-forwarded-prefix", "x-forwarded-user"] {
                assert_eq!(request.header(name), None, "{extra}");
            }
            assert_eq!(request.header("cookie"), Some("a=b"), "{extra}");
        }
    }
}

/// What a trusted peer says, and what the backend then hears as the chain,
/// proto, host and port; empty is what longhaul sees itself.
const TOLD: &[(&str, &str, &str, &str, &str)] = &[
    ("", "127.0.0.1", "http", "", ""),
    (
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n",
        "192.0.2.7, 127.0.0.1",
        "https",
        "",
        "",
    ),
    (
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: wss\r\nX-Forwarded-Port: 443\r\n",
        "192.0.2.7, 127.0.0.1",
        "https",
        "",
        "443",
    ),
    // The client itself wrote the first entry: it is behind an untrusted address.
    (
        "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.1.1.1\r\nX-Forwarded-Host: www.test\r\n",
        "192.0.2.7, 10.1.1.1, 127.0.0.1",
        "http",
        "www.test",
        "",
    ),
    (
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7\r\n",
        "192.0.2.7, 127.0.0.1",
        "http",
        "",
        "",
    ),
    // Somebody whom the proxy cannot name is not the proxy.
    (
        "X-Forwarded-For: unknown\r\n",
        "unknown, 127.0.0.1",
        "http",
        "",
        "",
    ),
    (
        "Forwarded: for=\"[2001:db8::7]:99\";proto=https\r\n",
        "2001:db8::7, 127.0.0.1",
        "https",
        "",
        "",
    ),
];

/// The `Forwarded` header of a chain (RFC 7239 section 4).
fn forwarded(chain: &str, host: &str, proto: &str) -> String {
    let element = |(hop, ip): (usize, &str)| {
        let quoted = format!("\"[{ip}]\"");
        let node = if ip.contains(':') { &quoted } else { ip };
        match hop {
            0 => format!("for={node};host=\"{host}\";proto={proto}"),
            _ => format!("for={node}"),
        }
    };
    let elements: Vec<String> = chain.split(", ").enumerate().map(element).collect();
    elements.join(", ")
}

async fn a_trusted_proxy_is_believed_and_the_chain_goes_on(over: Over) {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).top("trusted_proxies = ['127.0.0.0/8', '10.0.0.0/8']");
    let proxy = Proxy::start(site).await.over(over);
    let address = proxy.address("main").await;
    let own_port = address.rsplit_once(':').expect("host:port").1;
    let strip = "Connection: x-forwarded-for, forwarded, x-forwarded-proto, x-forwarded-host\r\n";
    let or = |text: &'static str, own| if text.is_empty() { own } else { text };
    for (told, chain, proto, host, port) in TOLD {
        let (host, port) = (or(host, "chat.test"), or(port, own_port));
        for strip in ["", strip] {
            let told = format!("{told}{strip}");
            let request = handshake("/", "chat.test", &told);
            let (_client, _server, request) = asked(&proxy, &backend, &request).await;
            assert_eq!(request.header("x-forwarded-for"), Some(*chain), "{told}");
            assert_eq!(request.header("x-forwarded-proto"), Some(*proto), "{told}");
            assert_eq!(request.header("x-forwarded-host"), Some(host), "{told}");
            assert_eq!(request.header("x-forwarded-port"), Some(port), "{told}");
            let forwarded = forwarded(chain, host, proto);
            assert_eq!(request.header("forwarded"), Some(&*forwarded), "{told}");
        }
    }
}

async fn hop_by_hop_headers_end_at_longhaul(over: Over) {
    let (proxy, backend) = site(over).await;
    let of_the_connection = "Connection: X-Private, keep-alive\r\nX-Private: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n";
    // A request of HTTP/2 that has them is malformed (RFC 9113 section 8.2.2).
    let of_the_connection = if over == Over::Http1 {
        of_the_connection
    } else {
        ""
    };
    let extra = format!("{of_the_connection}Proxy-Authorization: Basic eA==\r\nX-Public: 2\r\n");
    for request in [
        handshake("/", "h", &extra),
        format!("GET / HTTP/1.1\r\nHost: h\r\n{extra}\r\n"),
    ] {
        let (mut client, mut server, request) = asked(&proxy, &backend, &request).await;
        for name in [
            "x-private",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "te",
        ] {
            assert_eq!(request.header(name), None, "{name}");
        }
        assert_eq!(request.header("x-public"), Some("2"));
        server
            .send(
                "HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: X-Inner\r\nX-Inner: 1\r\n\
                   Keep-Alive: timeout=9\r\nX-Outer: 2\r\n\r\n",
            )
            .await;
        let head = client.response().await.head;
        assert_eq!(
            (head.header("x-inner"), head.header("keep-alive")),
            (None, None)
        );
        assert_eq!(head.header("x-outer"), Some("2"));
    }
}

async fn a_version_that_is_not_spoken_is_refused(over: Over) {
    let version = "Sec-WebSocket-Version: 13\r\n";
    let with = |line: &str| handshake("/", "h", "").replace(version, line);
    let cases = [
        (with("Sec-WebSocket-Version: 8\r\n"), 426, "version"),
        (with("Sec-WebSocket-Version: x\r\n"), 426, "version"),
        (with(""), 400, "version"),
    ];
    are_refused(over, &cases).await;
}

/// Over HTTP/1.1 alone: an extended CONNECT has neither key nor
/// `Connection`; `h2` and `h2_rules` have what else it may lack.
#[tokio::test]
async fn a_handshake_that_is_none_is_refused_with_its_reason() {
    let good = handshake("/", "h", "");
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let cases = [
        (good.replace(&key, ""), 400, "key"),
        (
            good.replace(&key, "Sec-WebSocket-Key: short\r\n"),
            400,
            "key",
        ),
        (good.replace(&key, "Sec-WebSocket-Key: \r\n"), 400, "key"),
        // 15 and 17 bytes.
        (good.replace(KEY, "AAAAAAAAAAAAAAAAAAAA"), 400, "key"),
        (good.replace(KEY, "AAAAAAAAAAAAAAAAAAAAAAA="), 400, "key"),
        (good.replace(&key, &format!("{key}{key}")), 400, "key"),
        (good.replacen("GET", "POST", 1), 400, "get"),
        (good.replace("Connection: Upgrade\r\n", ""), 400, "upgrade"),
        (good.replace("Upgrade: websocket\r\n", ""), 400, "upgrade"),
    ];
    are_refused(Over::Http1, &cases).await;
}

/// Handshakes, and the status and a word of the reason of each refusal.
async fn are_refused(over: Over, cases: &[(String, u16, &str)]) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await.over(over);
    for (request, status, word) in cases {
        let mut client = proxy.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!(response.head.status, *status, "{request}");
        assert!(
            response.text().to_lowercase().contains(word),
            "{}",
            response.text()
        );
        let offered = response.head.header("sec-websocket-version");
        assert_eq!(offered, (*status == 426).then_some("13"), "{request}");
    }
    assert_eq!(backend.connections(), 0, "none of them reached the backend");
}

/// What else than a tunnel a backend may answer: it reaches the client as it is.
async fn other_answers_of_the_backend_are_ordinary_http(over: Over) {
    let (proxy, backend) = site(over).await;
    let cases = [
        (200, "Content-Length: 5\r\n\r\nhello", "hello"),
        (302, "Location: /login\r\nContent-Length: 0\r\n\r\n", ""),
        (
            401,
            "WWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno",
            "no",
        ),
        (
            403,
            "Transfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n",
            "no!",
        ),
        (
            426,
            "Sec-WebSocket-Version: 8\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nold",
            "old",
        ),
        (
            503,
            "Retry-After: 5\r\nContent-Length: 4\r\n\r\nbusy",
            "busy",
        ),
    ];
    for (status, rest, body) in cases {
        if over == Over::Http2 && status == 200 {
            // The client would take it for an open tunnel.
            continue;
        }
        let (mut client, mut server, _) = asked(&proxy, &backend, &handshake("/", "h", "")).await;
        server
            .send(format!("HTTP/1.1 {status} Reason\r\nX-Own: 1\r\n{rest}"))
            .await;
        let response = client.response().await;
        assert_eq!((response.head.status, response.text()), (status, body));
        assert_eq!(response.head.header("x-own"), Some("1"));
        // A backend connection is never used again after an upgrade attempt.
        server.end().await;
        proxy
            .log
            .wait("request", &[("status", &status.to_string())])
            .await;
    }
    assert_eq!(
        proxy
            .log
            .all(|event| event.message == "tunnel opened")
            .len(),
        0
    );
}

/// A name, what the client offers, and a 101 that is none.
fn wrong_answers() -> Vec<(&'static str, &'static str, String)> {
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
    let asked_for = "Sec-WebSocket-Protocol: a, b\r\n";
    let good = switching("");
    vec![
        ("no accept", "", good.replace(&accept, "")),
        (
            "wrong accept",
            "",
            good.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ),
        (
            "accept twice",
            "",
            good.replace(&accept, &format!("{accept}{accept}")),
        ),
        ("no upgrade", "", good.replace("Upgrade: websocket\r\n", "")),
        ("another protocol", "", good.replace("websocket", "h2c")),
        (
            "no connection",
            "",
            good.replace("Connection: Upgrade\r\n", ""),
        ),
        (
            "subprotocol not asked for",
            "",
            switching("Sec-WebSocket-Protocol: a\r\n"),
        ),
        (
            "subprotocol not offered",
            asked_for,
            switching("Sec-WebSocket-Protocol: c\r\n"),
        ),
        (
            "two subprotocols",
            asked_for,
            switching("Sec-WebSocket-Protocol: a, b\r\n"),
        ),
        ("garbage", "", "\0\u{1}garbage\r\n\r\n".into()),
        ("half a head", "", good[..40].into()),
        ("nothing", "", String::new()),
        ("HTTP/1.0", "", good.replace("HTTP/1.1", "HTTP/1.0")),
    ]
}

async fn a_backends_wrong_answers_are_502_and_open_nothing(over: Over) {
    let (proxy, backend) = site(over).await;
    let cases = wrong_answers();
    let count = cases.len();
    for (what, offer, answer) in cases {
        let log = proxy.log.tail();
        let (mut client, mut server, request) =
            asked(&proxy, &backend, &handshake("/", "h", offer)).await;
        server.send(request.fitting(&answer)).await;
        if ["garbage", "half a head", "nothing"].contains(&what) {
            drop(server);
        } else {
            server.end().await;
        }
        let response = client.response().await;
        assert_eq!(response.head.status, 502, "{what}");
        assert_eq!(response.head.header("upgrade"), None, "{what}");
        log.wait("request", &[("status", "502")]).await;
    }
    let access = |event: &Event| event.target == "access";
    assert_eq!(proxy.log.all(access).len(), count, "one line for each");
    assert_eq!(
        proxy
            .log
            .all(|event| event.message == "tunnel opened")
            .len(),
        0
    );
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let (proxy, backend) = site(Over::Http1).await;
    let (mut client, mut server, _) =
        asked(&proxy, &backend, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    server.send(switching("")).await;
    assert_eq!(client.response().await.head.status, 502);
    server.end().await;
}

async fn the_handshake_has_one_deadline(over: Over) {
    let (proxy, backend) = site_with(over, "handshake_timeout = '300ms'").await;
    for answer in ["", "HTTP/1.1 101 Switching Pro"] {
        let (mut client, mut server, _) = asked(&proxy, &backend, &handshake("/", "h", "")).await;
        server.send(answer).await;
        let log = proxy.log.tail();
        assert_eq!(client.response().await.head.status, 504, "{answer:?}");
        let event = log.wait("request", &[("status", "504")]).await;
        assert!(
            event.text("reason").contains("handshake_timeout"),
            "{}",
            event.line
        );
        server.end().await;
    }
    // It ends with the 101: an open tunnel may be silent for longer.
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    client.silent_for(Duration::from_millis(600)).await;
    client.send("x").await;
    assert_eq!(server.take(1).await, b"x");
}

async fn a_client_that_leaves_during_the_handshake_takes_the_backend_along(over: Over) {
    let (proxy, backend) = site(over).await;
    for reset in [false, true] {
        let (client, mut server, _) = asked(&proxy, &backend, &handshake("/", "h", "")).await;
        if reset {
            client.abort();
        } else {
            drop(client);
        }
        server.end().await;
    }
}

async fn a_client_that_leaves_behind_its_first_frames_is_noticed_at_once(over: Over) {
    let (proxy, backend) = site(over).await;
    // As much as a stream's window takes, or more than longhaul reads ahead.
    let size = if over == Over::Http1 { 100_000 } else { 10_000 };
    let hello = masked(Opcode::Binary, true, &vec![7; size]);
    let request = [handshake("/", "h", "").as_bytes(), &hello].concat();
    for reset in [false, true] {
        let mut client = proxy.connect().await;
        client.send(&request).await;
        let mut server = backend.accept().await;
        server.request().await;
        server.silent_for(Duration::from_millis(100)).await;
        let from = client.local_address();
        match reset {
            true => client.abort(),
            false => drop(client),
        }
        server.end().await;
        let left = [("client", &*from), ("refusal", "client_left")];
        proxy.log.wait("request", &left).await;
    }
}

const OPAQUE: &str =
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x-tunnel\r\n\r\n";
const OPAQUE_101: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x-tunnel\r\n\r\n";

/// Other protocols may end one half and go on: the backend hears of it at once,
/// and may still answer.
///
/// Over HTTP/1.1 alone: on HTTP/2 no other protocol is spoken.
#[tokio::test]
async fn the_end_of_a_clients_half_is_passed_on_before_an_opaque_upgrade() {
    let route = "upgrades = ['x-tunnel']\nhalf_close_timeout = '500ms'";
    let (proxy, backend) = site_with(Over::Http1, route).await;
    let (mut client, mut server, _) = asked(&proxy, &backend, OPAQUE).await;
    client.finish().await;
    server.eof().await;
    server.send(format!("{OPAQUE_101}welcome")).await;
    assert_eq!(client.response_head().await.status, 101);
    assert_eq!(client.take(7).await, b"welcome");
    server.finish().await;
    client.eof().await;

    // One that never answers has half_close_timeout.
    let (mut client, mut server, _) = asked(&proxy, &backend, OPAQUE).await;
    client.finish().await;
    server.eof().await;
    assert_eq!(client.response().await.head.status, 504);
    let facts = [("status", "504"), ("refusal", "backend_timeout")];
    let event = proxy.log.wait("request", &facts).await;
    assert!(
        event.text("reason").contains("half_close_timeout"),
        "{}",
        event.line
    );

    // What came behind the request goes before the end.
    let mut client = proxy.connect().await;
    client.send(format!("{OPAQUE}glued")).await;
    client.finish().await;
    let mut server = backend.accept().await;
    server.request().await;
    server.silent_for(Duration::from_millis(100)).await;
    server.send(OPAQUE_101).await;
    assert_eq!(client.response_head().await.status, 101);
    assert_eq!(server.rest().await, b"glued");
}

/// Over HTTP/1.1 alone: on HTTP/2 no other protocol is spoken.
#[tokio::test]
async fn a_client_that_resets_before_an_opaque_upgrade_is_noticed_at_once() {
    let (proxy, backend) = site_with(Over::Http1, "upgrades = ['x-tunnel']").await;
    let (client, mut server, _) = asked(&proxy, &backend, OPAQUE).await;
    client.abort();
    server.end().await;
}

/// Over HTTP/1.1 alone: on HTTP/2 no other protocol is spoken.
#[tokio::test]
async fn an_opaque_upgrade_is_answered_with_its_own_protocol_or_not_at_all() {
    let (proxy, backend) = site_with(Over::Http1, "upgrades = ['x-tunnel', 'x-other']").await;
    let answers = [
        ("another", OPAQUE_101.replace("x-tunnel", "x-other")),
        ("websocket", OPAQUE_101.replace("x-tunnel", "websocket")),
        ("two", OPAQUE_101.replace("x-tunnel", "x-tunnel, x-other")),
        ("none", OPAQUE_101.replace("Upgrade: x-tunnel\r\n", "")),
        (
            "no connection",
            OPAQUE_101.replace("Connection: Upgrade\r\n", ""),
        ),
    ];
    let count = answers.len();
    for (what, answer) in answers {
        let (mut client, mut server, _) = asked(&proxy, &backend, OPAQUE).await;
        server.send(&answer).await;
        assert_eq!(client.response().await.head.status, 502, "{what}");
        server.end().await;
        let from = client.local_address();
        let facts = [("client", &*from), ("refusal", "unasked_upgrade")];
        proxy.log.wait("request", &facts).await;
    }
    let access = |event: &Event| event.target == "access";
    assert_eq!(proxy.log.all(access).len(), count, "one line for each");
}

async fn bytes_glued_to_the_heads_arrive_first(over: Over) {
    let (proxy, backend) = site(over).await;
    for size in [1, 100, 70_000] {
        let hello = masked(Opcode::Binary, true, &vec![7; size]);
        let welcome = plain(Opcode::Binary, true, &vec![9; size]);
        let mut client = proxy.connect().await;
        let glued = [handshake("/", "h", "").as_bytes(), &hello].concat();
        // The window of a stream may be smaller than this.
        let ((), mut server) = tokio::join!(client.send(glued), async {
            let mut server = backend.accept().await;
            let request = server.request().await;
            server
                .send([request.switching("").as_bytes(), &welcome].concat())
                .await;
            server
        });
        assert_eq!(client.response_head().await.status, 101);
        assert_eq!(client.frame().await.payload, vec![9; size]);
        assert_eq!(server.frame().await.payload, vec![7; size]);
        client.send("more").await;
        assert_eq!(server.take(4).await, b"more");
        server.send("back").await;
        assert_eq!(client.take(4).await, b"back");
    }
}

/// Over HTTP/1.1 alone: frames have their stream's number.
#[tokio::test]
async fn bytes_glued_to_a_refused_handshake_are_not_a_request() {
    let (proxy, backend) = site(Over::Http1).await;
    let mut client = proxy.connect().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    client
        .send(format!("{}{smuggled}", handshake("/", "h", "")))
        .await;
    let mut server = backend.accept().await;
    server.request().await;
    server
        .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.response_head().await.status, 403);
    let (rest, _) = client.rest_and_end().await;
    assert_eq!(String::from_utf8_lossy(&rest), "");
    backend.unvisited_for(Duration::from_millis(100)).await;
}

async fn heads_that_come_byte_by_byte(over: Over) {
    let (proxy, backend) = site(over).await;
    let hello = masked(Opcode::Text, true, b"hello");
    let welcome = plain(Opcode::Text, true, b"welcome");
    let mut client = proxy.connect().await;
    client
        .send_slowly([handshake("/", "h", "").as_bytes(), &hello].concat())
        .await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    server
        .send_slowly([request.switching("").as_bytes(), &welcome].concat())
        .await;
    assert_eq!(client.response_head().await.status, 101);
    assert_eq!(client.frame().await.text(), "welcome");
    assert_eq!(server.frame().await.text(), "hello");
}

async fn a_backend_that_answers_and_leaves_at_once_loses_nothing(over: Over) {
    let (proxy, backend) = site(over).await;
    let welcome = plain(Opcode::Text, true, b"bye");
    let (mut client, mut server, request) = asked(&proxy, &backend, &handshake("/", "h", "")).await;
    server
        .send([request.switching("").as_bytes(), &welcome].concat())
        .await;
    server.finish().await;
    assert_eq!(client.response_head().await.status, 101);
    assert_eq!(client.frame().await.text(), "bye");
    client.eof().await;
}

/// Over HTTP/1.1 alone: on HTTP/2 no other protocol is spoken; `h2` has
/// the refusals.
#[tokio::test]
async fn other_upgrade_protocols_only_by_name_and_h2c_and_connect_never() {
    let (proxy, backend) = site_with(Over::Http1, "upgrades = ['websocket', 'x-tunnel']").await;
    let upgrade = |protocol: &str| {
        format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
    };
    let (mut client, mut server, request) = asked(&proxy, &backend, &upgrade("X-Tunnel")).await;
    assert_eq!(
        request.header("upgrade").map(str::to_lowercase).as_deref(),
        Some("x-tunnel")
    );
    assert_eq!(request.header("connection"), Some("Upgrade"));
    server
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x-tunnel\r\n\r\n",
        )
        .await;
    assert_eq!(client.response_head().await.status, 101);
    client.send("raw bytes").await;
    assert_eq!(server.take(9).await, b"raw bytes");
    server.send([0, 255, 0]).await;
    assert_eq!(client.take(3).await, [0, 255, 0]);

    let h2c = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n\
               Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let connect = "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n";
    for refused in [&upgrade("other"), &upgrade("TLS/1.0"), h2c, connect] {
        let mut client = proxy.connect().await;
        client.send(refused).await;
        assert_eq!(client.response().await.head.status, 501, "{refused}");
    }
    backend.unvisited_for(Duration::from_millis(100)).await;
}

async fn a_route_may_refuse_every_upgrade(over: Over) {
    let (proxy, backend) = site_with(over, "upgrades = []").await;
    let mut client = proxy.connect().await;
    client.send(handshake("/", "h", "")).await;
    assert_eq!(client.response().await.head.status, 501);
    backend.unvisited_for(Duration::from_millis(100)).await;
}

async fn a_tls_backend_is_verified_by_its_ca_and_name_and_sees_our_certificate(over: Over) {
    let (servers, clients) = (Authority::new(), Authority::new());
    let pair = servers.pair(&["chat.internal"]);
    let backend = RawBackend::tls(servers.acceptor(&pair, Some(&clients))).await;
    let own = clients.client_pair("longhaul");
    let setup = Setup::new();
    setup.write("ca.pem", servers.pem());
    setup.write_pair("own", &own);
    let tls = "scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'chat.internal', \
               client_certificate = { chain = 'own.pem', key = 'own.key' } }";
    let proxy = setup
        .start(Site::one(backend.address()).upstream(tls))
        .await
        .over(over);
    let (mut client, mut server, request) = asked(&proxy, &backend, &handshake("/", "h", "")).await;
    assert_eq!(server.peer_certificate(), own.leaf());
    assert_eq!(
        server.tls().get_ref().1.alpn_protocol(),
        Some(&b"http/1.1"[..])
    );
    assert_eq!(
        request.header("host"),
        Some("h"),
        "the client's, not the certificate's"
    );
    server.switch("").await;
    assert_eq!(client.response_head().await.status, 101);
    client.send(masked(Opcode::Text, true, b"over tls")).await;
    assert_eq!(server.frame().await.text(), "over tls");
    server.send(plain(Opcode::Text, true, b"back")).await;
    assert_eq!(client.frame().await.text(), "back");
}

async fn a_tls_backend_that_cannot_prove_itself_is_502(over: Over) {
    let (right, wrong) = (Authority::new(), Authority::new());
    let cases = [
        ("another name", right.pair(&["other.internal"])),
        ("another CA", wrong.pair(&["chat.internal"])),
        ("expired", right.expired_pair(&["chat.internal"])),
    ];
    for (what, pair) in cases {
        let backend = RawBackend::tls(right.acceptor(&pair, None)).await;
        let setup = Setup::new();
        setup.write("ca.pem", right.pem());
        let tls = "scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'chat.internal' }";
        let proxy = setup
            .start(Site::one(backend.address()).upstream(tls))
            .await
            .over(over);
        let mut client = proxy.connect().await;
        client.send(handshake("/", "h", "")).await;
        assert!(
            backend.try_accept().await.is_err(),
            "{what}: no TLS session"
        );
        assert_eq!(client.response().await.head.status, 502, "{what}");
    }
}

/// `SSL_CERT_FILE` stands for the distribution's bundle.
async fn without_a_ca_of_its_own_an_https_upstream_trusts_those_of_the_system(over: Over) {
    let (known, unknown) = (Authority::new(), Authority::new());
    for (what, authority) in [("known", &known), ("unknown", &unknown)] {
        let pair = authority.pair(&["chat.internal"]);
        let backend = RawBackend::tls(authority.acceptor(&pair, None)).await;
        let setup = Setup::new();
        let bundle = setup.write("bundle.pem", known.pem());
        let setup = setup.after(&format!("export SSL_CERT_FILE={}", bundle.display()));
        let tls = "scheme = 'https'\ntls = { server_name = 'chat.internal' }";
        let proxy = setup
            .start(Site::one(backend.address()).upstream(tls))
            .await
            .over(over);
        let mut client = proxy.connect().await;
        client.send(handshake("/", "h", "")).await;
        let accepted = backend.try_accept().await;
        let status = match accepted {
            Ok(mut server) => {
                server.request().await;
                server.switch("").await;
                client.response_head().await.status
            }
            Err(_) => client.response().await.head.status,
        };
        let expected = if what == "known" { 101 } else { 502 };
        assert_eq!(status, expected, "{what}");
    }
}

async fn a_backend_on_a_unix_socket(over: Over) {
    let setup = Setup::new();
    let backend = RawBackend::unix(&setup.path("backend.sock"));
    let proxy = setup.start(Site::one(backend.address())).await.over(over);
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    client.send("up").await;
    assert_eq!(server.take(2).await, b"up");
    server.send("down").await;
    assert_eq!(client.take(4).await, b"down");
    client.finish().await;
    server.eof().await;
    server.finish().await;
    client.eof().await;
}
