//! Who may come in: networks and origins.

use crate::kit::{Authority, Echo, Over, Proxy, Setup, Site, dial_from, handshake, over_each};

over_each!(
    a_page_of_another_site_opens_no_tunnel,
    a_route_is_for_its_networks_alone,
);

/// The status of a handshake with these header lines.
async fn shaken(proxy: &Proxy, headers: &str) -> u16 {
    let mut wire = proxy.connect().await;
    wire.send(handshake("/", "chat.example:81", headers)).await;
    wire.response_head().await.status
}

async fn a_page_of_another_site_opens_no_tunnel(over: Over) {
    let backend = Echo::start("a").await;
    let allowed =
        "allowed_origins = ['same_host', 'https://*.friend.example', 'https://app.example:8443']";
    let site = |more: &str| {
        Site::of(&[backend.entry()])
            .top("trusted_proxies = ['127.0.0.9']")
            .route(&format!("{allowed}\n{more}"))
    };
    let proxy = Proxy::start(site("")).await.over(over);
    for (origin, status) in [
        ("http://chat.example:3000", 101),
        ("https://a.friend.example", 101),
        ("https://app.example:8443", 101),
        ("https://app.example", 403),
        ("https://friend.example", 403),
        ("https://chat.example.evil.example", 403),
        ("https://evil.example/.friend.example", 403),
        ("null", 403),
    ] {
        let before = backend.connections();
        let told = format!("Origin: {origin}\r\n");
        assert_eq!(shaken(&proxy, &told).await, status, "{origin}");
        let dialled = backend.connections() - before;
        assert_eq!(dialled, usize::from(status == 101), "{origin}");
    }
    let refused = [
        ("refusal", "origin_not_allowed"),
        (
            "reason",
            "the route is not for pages of https://friend.example",
        ),
        ("route", "* /*"),
        ("status", "403"),
    ];
    proxy.log.wait("request", &refused).await;
    let counted = "longhaul_refusals_total{refusal=\"origin_not_allowed\"}";
    assert_eq!(proxy.metric(counted).await, 5.0);
    let two = "Origin: https://app.example:8443\r\nOrigin: https://app.example:8443\r\n";
    assert_eq!(shaken(&proxy, two).await, 403);

    // An untrusted client cannot say which host it meant.
    let told = "Origin: https://evil.example\r\nX-Forwarded-Host: evil.example\r\n";
    assert_eq!(shaken(&proxy, told).await, 403);
    let mut trusted = proxy.connect_from("127.0.0.9").await;
    trusted.send(handshake("/", "inner", told)).await;
    assert_eq!(trusted.response_head().await.status, 101);

    assert_eq!(shaken(&proxy, "").await, 101, "no browser");
    let answer = proxy.get_with("/", "Origin: https://evil.example\r\n");
    assert_eq!(answer.await.head.status, 200, "a plain request");
    proxy.reload(site("missing_origin = 'refuse'")).await;
    assert_eq!(shaken(&proxy, "").await, 403);
    proxy.reload(Site::of(&[backend.entry()])).await;
    let told = "Origin: https://evil.example\r\n";
    assert_eq!(shaken(&proxy, told).await, 101, "without a list");
}

#[tokio::test]
async fn a_listener_closes_what_comes_from_elsewhere_before_tls() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = |networks: &str| Site::of(&[backend.entry()]).tls().listener(networks);
    let closed = site("allowed_networks = ['127.0.0.0/28']\ndenied_networks = ['127.0.0.6']");
    let proxy = setup.start(closed).await;
    let address = proxy.address("main").await;
    for denied in ["127.0.0.6", "127.0.0.16"] {
        let mut wire = dial_from(denied, &address).await;
        assert!(wire.rest().await.is_empty(), "{denied}");
    }
    let refused = "longhaul_connections_refused_total{refusal=\"network_denied\"}";
    assert_eq!(proxy.metric(refused).await, 2.0);
    assert_eq!(proxy.metric("longhaul_connections_total").await, 0.0);
    let client = authority.client();
    let mut kept = proxy.tls(&client, "localhost").await;

    proxy.reload(site("denied_networks = ['127.0.0.1']")).await;
    let mut wire = dial_from("127.0.0.1", &address).await;
    assert!(wire.rest().await.is_empty());
    kept.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(
        kept.response().await.head.status,
        200,
        "it was let in before"
    );
    assert_eq!(proxy.metric("longhaul_tls_failures_total").await, 0.0);
}

async fn a_route_is_for_its_networks_alone(over: Over) {
    let backend = Echo::start("a").await;
    let site = Site::of(&[backend.entry()])
        .top("trusted_proxies = ['127.0.0.9']")
        .route("allowed_networks = ['192.0.2.0/24', '127.0.0.1']\ndenied_networks = ['192.0.2.6']");
    let proxy = Proxy::start(site).await.over(over);
    let told = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    assert_eq!(
        shaken(&proxy, &told("192.0.2.6")).await,
        101,
        "not believed"
    );
    assert_eq!(proxy.get("/").await.head.status, 200);
    for (address, status) in [
        ("192.0.2.7", 101),
        ("192.0.2.6", 403),
        ("198.51.100.1", 403),
        ("2001:db8::1", 403),
    ] {
        let mut wire = proxy.connect_from("127.0.0.9").await;
        wire.send(handshake("/", "localhost", &told(address))).await;
        assert_eq!(wire.response_head().await.status, status, "{address}");
    }
    let mut wire = proxy.connect_from("127.0.0.2").await;
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(wire.response().await.head.status, 403, "a plain request");
    let refused = [("refusal", "network_denied"), ("status", "403")];
    proxy.log.wait("request", &refused).await;
}

#[tokio::test]
async fn behind_a_proxy_a_listener_goes_by_whom_the_header_names() {
    let backend = Echo::start("a").await;
    let site = Site::of(&[backend.entry()])
        .listener("proxy_protocol = { from = ['127.0.0.0/8'] }")
        .listener("denied_networks = ['203.0.113.0/24', '127.0.0.0/8']");
    let proxy = Proxy::start(site).await;
    for (client, served) in [("203.0.113.7", false), ("198.51.100.7", true)] {
        let mut wire = proxy.connect_plainly().await;
        let header = format!("PROXY TCP4 {client} 198.51.100.2 4711 8443\r\n");
        wire.send(header).await;
        let _ = wire.try_send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let head = wire.next_response_head().await;
        assert_eq!(
            head.is_some_and(|head| head.status == 200),
            served,
            "{client}"
        );
    }
    let refused = "longhaul_connections_refused_total{refusal=\"network_denied\"}";
    assert_eq!(proxy.metric(refused).await, 1.0);
}

#[tokio::test]
async fn whom_a_trusted_proxy_does_not_name_is_in_no_network() {
    let backend = Echo::start("a").await;
    let site = |networks: &str, header: &str| {
        Site::of(&[backend.entry()])
            .top("trusted_proxies = ['127.0.0.0/8']")
            .top(header)
            .route(networks)
    };
    let allowed = "allowed_networks = ['127.0.0.0/8', '192.0.2.7']";
    let denied = "denied_networks = ['::ffff:198.51.100.0/120']";
    let proxy = Proxy::start(site(allowed, "")).await;
    let status = async |lines: &str| proxy.get_with("/", lines).await.head.status;
    let disputed = "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.8\r\n";
    for (lines, expected) in [
        ("X-Forwarded-For: 192.0.2.7\r\n", 200),
        ("X-Forwarded-For: 203.0.113.9, unknown\r\n", 403),
        ("X-Forwarded-For: fe80::1%eth0\r\n", 403),
        ("Forwarded: for=_hidden\r\n", 403),
        (disputed, 403),
        ("", 200),
    ] {
        assert_eq!(status(lines).await, expected, "{lines}");
    }
    let refused = [("refusal", "network_denied"), ("forwarded_for", "unknown")];
    proxy.log.wait("request", &refused).await;

    proxy.reload(site(denied, "")).await;
    for (lines, expected) in [
        ("X-Forwarded-For: 198.51.100.1\r\n", 403),
        ("X-Forwarded-For: unknown\r\n", 403),
        (disputed, 403),
        ("X-Forwarded-For: 192.0.2.8\r\n", 200),
    ] {
        assert_eq!(status(lines).await, expected, "{lines}");
    }
    proxy
        .reload(site(allowed, "forwarded_header = 'forwarded'"))
        .await;
    assert_eq!(status(disputed).await, 403);
    proxy
        .reload(site(allowed, "forwarded_header = 'x-forwarded-for'"))
        .await;
    assert_eq!(status(disputed).await, 200);
    proxy.reload(site("", "")).await;
    assert_eq!(status("X-Forwarded-For: unknown\r\n").await, 200);
    let told = backend.requests();
    let told = told
        .last()
        .and_then(|request| request.header("x-forwarded-for"));
    assert_eq!(told, Some("unknown, 127.0.0.1"));
}
