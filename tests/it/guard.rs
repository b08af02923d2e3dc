//! Who may come in: origins.

use crate::kit::{Echo, Over, Proxy, Site, handshake, over_each};

over_each!(a_page_of_another_site_opens_no_tunnel);

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
