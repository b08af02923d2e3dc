//! How often clients may come, and how many tunnels they may have.

use crate::kit::{Echo, Event, Over, Proxy, Site, Wire, Ws, dial_from, handshake, over_each};

over_each!(
    one_clients_handshakes_are_counted_and_the_others_are_not,
    a_route_has_its_share_whoever_comes,
    tunnels_are_counted_to_their_end_and_over_reloads,
    a_sticky_key_has_its_tunnels_from_whatever_address,
    a_proxy_that_is_counted_as_one_client_is_told_of,
    a_private_address_that_all_come_from_is_told_of,
);

const TOLD: &str = "limits for each client count what looks like a proxy, and with it all who \
                    come through it: name it in trusted_proxies and have it send X-Forwarded-For";

fn trusted(backend: &Echo, route: &str) -> Site {
    Site::of(&[backend.entry()])
        .top("trusted_proxies = ['127.0.0.1']")
        .route(route)
}

/// A handshake of this client: its wire, the status, and how long to wait.
async fn shaken(proxy: &Proxy, client: &str, more: &str) -> (Wire, u16, Option<u64>) {
    let mut wire = proxy.connect().await;
    let told = format!("X-Forwarded-For: {client}\r\n{more}");
    wire.send(handshake("/", "h", &told)).await;
    let head = wire.response_head().await;
    let wait = head.header("retry-after");
    let wait = wait.map(|text| text.parse().expect("seconds"));
    (wire, head.status, wait)
}

async fn status(proxy: &Proxy, client: &str) -> u16 {
    shaken(proxy, client, "").await.1
}

async fn refused(proxy: &Proxy, label: &str) -> Event {
    let fields = [("refusal", label), ("status", "429")];
    proxy.log.wait("request", &fields).await
}

async fn one_clients_handshakes_are_counted_and_the_others_are_not(over: Over) {
    let backend = Echo::start("a").await;
    let route = "handshake_rate_per_client = '3/h'\nrequest_rate_per_client = '2/h'";
    let proxy = Proxy::start(trusted(&backend, route)).await.over(over);
    for _ in 0..3 {
        assert_eq!(status(&proxy, "192.0.2.1").await, 101);
    }
    let reached = backend.connections();
    let (_, late, wait) = shaken(&proxy, "192.0.2.1", "").await;
    assert_eq!(late, 429);
    // A third of an hour until there is one more, or up to twice that.
    let wait = wait.expect("seconds to wait");
    assert!((1190..=2400).contains(&wait), "{wait}");
    refused(&proxy, "handshake_rate_per_client").await;
    assert_eq!(backend.connections(), reached, "nobody was dialled");
    // One subscriber has a whole /64.
    for (client, expected) in [
        ("192.0.2.2", 101),
        ("2001:db8::1", 101),
        ("2001:db8::2", 101),
        ("2001:db8::3:4", 101),
        ("2001:db8::5", 429),
        ("2001:db8:0:1::5", 101),
    ] {
        assert_eq!(status(&proxy, client).await, expected, "{client}");
    }
    let told = "X-Forwarded-For: 192.0.2.1\r\n";
    for expected in [200, 200, 429] {
        let answer = proxy.get_with("/", told).await;
        assert_eq!(answer.head.status, expected, "a plain request");
    }
    refused(&proxy, "request_rate_per_client").await;
    let counted = "longhaul_refusals_total{refusal=\"handshake_rate_per_client\"}";
    assert_eq!(proxy.metric(counted).await, 2.0);

    // Another config forgets nothing of what was, and has its own rate.
    proxy
        .reload(trusted(&backend, "handshake_rate_per_client = '3/h'\n"))
        .await;
    assert_eq!(status(&proxy, "192.0.2.1").await, 429);
    proxy
        .reload(trusted(&backend, "handshake_rate_per_client = '600/m'\n"))
        .await;
    assert_eq!(status(&proxy, "198.51.100.1").await, 101);
}

async fn a_route_has_its_share_whoever_comes(over: Over) {
    let backend = Echo::start("a").await;
    let route = "handshake_rate = '3/h'\nhandshake_rate_per_client = '1/h'\nrequest_rate = '1/h'";
    let proxy = Proxy::start(trusted(&backend, route)).await.over(over);
    // What one client has too much of is nobody else's loss.
    for expected in [101, 429, 429, 429, 429] {
        assert_eq!(status(&proxy, "192.0.2.1").await, expected);
    }
    for (client, expected) in [("192.0.2.2", 101), ("192.0.2.3", 101), ("192.0.2.4", 429)] {
        assert_eq!(status(&proxy, client).await, expected, "{client}");
    }
    refused(&proxy, "handshake_rate").await;
    for expected in [200, 429] {
        assert_eq!(proxy.get("/").await.head.status, expected);
    }
    refused(&proxy, "request_rate").await;
}

/// A tunnel of this client.
async fn tunnel(proxy: &Proxy, client: &str) -> Ws {
    let mut ws = proxy
        .ws_with("/", &format!("X-Forwarded-For: {client}\r\n"))
        .await;
    ws.greeting().await;
    ws
}

/// Closes a tunnel, and waits until longhaul has said so.
async fn close(proxy: &Proxy, ws: Ws) {
    let log = proxy.log.tail();
    ws.close(1000).await;
    log.wait("tunnel closed", &[]).await;
}

async fn tunnels_are_counted_to_their_end_and_over_reloads(over: Over) {
    let backend = Echo::start("a").await;
    let limits = "max_tunnels = 3\nmax_tunnels_per_client = 2";
    let proxy = Proxy::start(trusted(&backend, limits)).await.over(over);
    let first = tunnel(&proxy, "192.0.2.1").await;
    let second = tunnel(&proxy, "192.0.2.1").await;
    let (_, late, wait) = shaken(&proxy, "192.0.2.1", "").await;
    assert_eq!(late, 429);
    assert!(
        wait.is_some_and(|wait| (5..=10).contains(&wait)),
        "{wait:?}"
    );
    refused(&proxy, "max_tunnels_per_client").await;
    let third = tunnel(&proxy, "192.0.2.2").await;
    assert_eq!(status(&proxy, "192.0.2.3").await, 429);
    refused(&proxy, "max_tunnels").await;
    assert_eq!(backend.connections(), 3, "nobody was dialled in vain");
    assert_eq!(proxy.get("/").await.head.status, 200, "a plain request");

    proxy
        .reload(trusted(&backend, &format!("{limits}\nidle_timeout = '1h'")))
        .await;
    assert_eq!(
        status(&proxy, "192.0.2.1").await,
        429,
        "they are still there"
    );
    close(&proxy, first).await;
    let fourth = tunnel(&proxy, "192.0.2.1").await;
    assert_eq!(status(&proxy, "192.0.2.1").await, 429);
    close(&proxy, third).await;
    close(&proxy, second).await;
    close(&proxy, fourth).await;
    let _again = [
        tunnel(&proxy, "192.0.2.1").await,
        tunnel(&proxy, "192.0.2.1").await,
    ];
}

async fn a_sticky_key_has_its_tunnels_from_whatever_address(over: Over) {
    let backend = Echo::start("a").await;
    let site = trusted(&backend, "max_tunnels_per_sticky_key = 1")
        .upstream("sticky = ['cookie:user', 'cookie']");
    let proxy = Proxy::start(site).await.over(over);
    let as_user = async |client: &str, user: &str| {
        shaken(&proxy, client, &format!("Cookie: user={user}\r\n")).await
    };
    let (_ann, opened, _) = as_user("192.0.2.1", "ann").await;
    assert_eq!(opened, 101);
    assert_eq!(as_user("192.0.2.2", "ann").await.1, 429);
    refused(&proxy, "max_tunnels_per_sticky_key").await;
    let (_bob, opened, _) = as_user("192.0.2.1", "bob").await;
    assert_eq!(opened, 101);
    let (_one, opened, _) = shaken(&proxy, "192.0.2.1", "").await;
    assert_eq!(opened, 101, "without a key");
    assert_eq!(status(&proxy, "192.0.2.1").await, 101);
}

async fn a_proxy_that_is_counted_as_one_client_is_told_of(over: Over) {
    let backend = Echo::start("a").await;
    let route = "handshake_rate_per_client = '1000/s'";
    let untrusted = Site::of(&[backend.entry()]).route(route);
    let proxy = Proxy::start(untrusted).await.over(over);
    assert_eq!(status(&proxy, "192.0.2.1").await, 101);
    assert_eq!(status(&proxy, "192.0.2.2").await, 101);
    let told = [("route", "* /*"), ("client", "127.0.0.1")];
    proxy.log.wait(TOLD, &told).await;
    let counted = "longhaul_proxies_counted_total{route=\"* /*\"}";
    assert_eq!(proxy.metric(counted).await, 2.0);
    let warnings = |proxy: &Proxy| proxy.log.all(|event| event.message == TOLD).len();
    assert_eq!(warnings(&proxy), 1);
    proxy.reload(trusted(&backend, route)).await;
    assert_eq!(status(&proxy, "192.0.2.1").await, 101);
    assert_eq!(warnings(&proxy), 1, "it is trusted now");
    assert_eq!(proxy.metric(counted).await, 2.0);
}

async fn a_private_address_that_all_come_from_is_told_of(over: Over) {
    let backend = Echo::start("a").await;
    let limited = Site::of(&[backend.entry()]).route("request_rate_per_client = '1000/s'");
    let proxy = Proxy::start(limited).await.over(over);
    let told = |proxy: &Proxy| proxy.log.all(|event| event.message == TOLD).len();
    for _ in 0..100 {
        assert_eq!(proxy.get("/").await.head.status, 200);
    }
    assert_eq!(told(&proxy), 0, "so many may be one client");
    assert_eq!(
        proxy.status().await["proxies_counted"],
        serde_json::json!([])
    );
    // Not one of them has said that it speaks for others.
    assert_eq!(proxy.get("/").await.head.status, 200);
    let warning = proxy.log.wait(TOLD, &[("client", "127.0.0.1")]).await;
    assert_eq!(warning.level, "WARN");
    assert_eq!(proxy.get("/").await.head.status, 200);
    let counted = "longhaul_proxies_counted_total{route=\"* /*\"}";
    assert_eq!(proxy.metric(counted).await, 2.0);
    assert_eq!(told(&proxy), 1);
    let routes = proxy.status().await["proxies_counted"].clone();
    assert_eq!(routes, serde_json::json!(["* /*"]));
}

#[tokio::test]
async fn connections_beyond_their_rate_are_closed_at_accept() {
    let backend = Echo::start("a").await;
    let site = Site::of(&[backend.entry()])
        .top("trusted_proxies = ['127.0.0.9']")
        .listener(
            "address = '127.0.0.1:0'\nconnection_rate_per_address = '2/h'\nconnection_rate = '8/h'",
        );
    let proxy = Proxy::start(site).await;
    let address = proxy.address("main").await;
    let connect = async |ip: &str| {
        let mut wire = dial_from(ip, &address).await;
        // Whoever is closed may not even get to say anything.
        let _ = wire.try_send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        match wire.next_response_head().await {
            Some(head) => head.status,
            None => 0,
        }
    };
    for (ip, expected) in [
        ("127.0.0.2", 200),
        ("127.0.0.2", 200),
        ("127.0.0.2", 0),
        ("127.0.0.3", 200),
        ("127.0.0.9", 200),
        ("127.0.0.9", 200),
        ("127.0.0.9", 200),
        ("127.0.0.9", 200),
        ("127.0.0.9", 200),
        ("127.0.0.9", 0),
        ("127.0.0.4", 0),
    ] {
        assert_eq!(connect(ip).await, expected, "{ip}");
    }
    for (refusal, count) in [
        ("connection_rate_per_address", 1.0),
        ("connection_rate", 2.0),
    ] {
        let counted = format!("longhaul_connections_refused_total{{refusal=\"{refusal}\"}}");
        assert_eq!(proxy.metric(&counted).await, count, "{refusal}");
    }
}

#[tokio::test]
async fn a_raised_rate_counts_after_the_reload() {
    let backend = Echo::start("a").await;
    let site = |rate: &str| {
        let route = format!("request_rate = '{rate}'\nrequest_rate_per_client = '{rate}'");
        Site::of(&[backend.entry()]).route(&route)
    };
    let proxy = Proxy::start(site("2/h")).await;
    for expected in [200, 200, 429] {
        assert_eq!(proxy.get("/").await.head.status, expected);
    }
    proxy.reload(site("1000/s")).await;
    for _ in 0..3 {
        assert_eq!(proxy.get("/").await.head.status, 200);
    }
}
