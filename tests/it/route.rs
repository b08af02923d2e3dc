//! Routing: which of several routes takes a request, and what none means.

use crate::kit::{ACCEPT, Echo, Over, Proxy, Site, handshake, over_each};

over_each!(
    the_subprotocol_narrows_a_route,
    no_route_is_404_for_requests_and_handshakes,
);

/// A route to a backend of its own name, which answers with that name.
fn route(name: &'static str, keys: &str, address: &str) -> String {
    format!(
        "[[routes]]\nname = '{name}'\nupstream = '{name}'\n{keys}\n\
         [upstreams.{name}]\nbackends = [{{ name = '{name}', address = '{address}' }}]\n"
    )
}

/// Routes and echo backends by name; the route `main` takes what the others leave.
async fn site(routes: &[(&'static str, &str)]) -> (Proxy, Vec<Echo>) {
    let rest = Echo::start("rest").await;
    let mut site = Site::of(&[rest.entry()]);
    let mut backends = vec![rest];
    for (name, keys) in routes {
        let backend = Echo::start(name).await;
        site = site.more(&route(name, keys, backend.address()));
        backends.push(backend);
    }
    (Proxy::start(site).await, backends)
}

async fn answer(proxy: &Proxy, method: &str, host: &str, target: &str, headers: &str) -> String {
    let mut wire = proxy.connect().await;
    wire.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"
    ))
    .await;
    let response = wire.response().await;
    assert_eq!(response.head.status, 200, "{host} {target}");
    response.text().to_owned()
}

#[tokio::test]
async fn the_most_specific_host_wins() {
    let (proxy, _backends) = site(&[
        ("wild", "host = '*.example.com'"),
        ("deeper", "host = '*.eu.example.com'"),
        ("exact", "host = 'chat.example.com'"),
    ])
    .await;
    let cases = [
        ("chat.example.com", "exact"),
        ("CHAT.example.COM", "exact"),
        ("chat.example.com:8080", "exact"),
        ("chat.example.com.", "exact"),
        ("news.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("chat.eu.example.com", "deeper"),
        ("example.com", "rest"),
        ("notexample.com", "rest"),
        ("[::1]:80", "rest"),
    ];
    for (host, expected) in cases {
        assert_eq!(
            answer(&proxy, "GET", host, "/", "").await,
            expected,
            "{host}"
        );
    }
}

#[tokio::test]
async fn the_most_specific_path_wins() {
    let (proxy, _backends) = site(&[
        ("prefix", "path = '/ws/*'"),
        ("longer", "path = '/ws/room/*'"),
        ("segment", "path = '/ws/*/live'"),
        ("exact", "path = '/ws/room'"),
    ])
    .await;
    let cases = [
        ("/", "rest"),
        ("/ws", "prefix"),
        ("/ws/", "prefix"),
        ("/ws/a", "prefix"),
        ("/ws/a?live", "prefix"),
        ("/wsx", "rest"),
        ("/ws/room", "exact"),
        ("/ws/room?x=1", "exact"),
        ("/ws/room/7", "longer"),
        ("/ws/7/live", "segment"),
        ("/ws/7/live/x", "prefix"),
        ("/WS/a", "rest"),
    ];
    for (target, expected) in cases {
        assert_eq!(
            answer(&proxy, "GET", "localhost", target, "").await,
            expected,
            "{target}"
        );
    }
}

#[tokio::test]
async fn the_order_of_the_file_does_not_matter() {
    let routes = [
        ("one", "path = '/a/*'"),
        ("two", "path = '/a/b/*'"),
        ("three", "host = 'h'"),
    ];
    let backward: Vec<_> = routes.iter().rev().copied().collect();
    for routes in [&routes[..], &backward] {
        let (proxy, _backends) = site(routes).await;
        assert_eq!(answer(&proxy, "GET", "x", "/a/b/c", "").await, "two");
        assert_eq!(answer(&proxy, "GET", "x", "/a/c", "").await, "one");
        // Host is looked at before path.
        assert_eq!(answer(&proxy, "GET", "h", "/a/b/c", "").await, "three");
    }
}

#[tokio::test]
async fn method_and_header_narrow_a_route() {
    let (proxy, _backends) = site(&[
        ("post", "path = '/x/*'\nmethods = ['POST', 'PUT']"),
        ("tenant", "path = '/x/*'\nheaders = { x-tenant = 'a' }"),
        ("any", "path = '/y/*'\nheaders = { x-tenant = '*' }"),
    ])
    .await;
    let cases = [
        ("GET", "/x/1", "", "rest"),
        ("POST", "/x/1", "Content-Length: 0\r\n", "post"),
        ("PUT", "/x/1", "Content-Length: 0\r\n", "post"),
        ("GET", "/x/1", "X-Tenant: a\r\n", "tenant"),
        ("GET", "/x/1", "X-Tenant: b\r\n", "rest"),
        ("GET", "/y/1", "X-Tenant: b\r\n", "any"),
        ("GET", "/y/1", "", "rest"),
    ];
    for (method, target, headers, expected) in cases {
        let text = answer(&proxy, method, "localhost", target, headers).await;
        assert_eq!(text, expected, "{method} {target} {headers}");
    }
}

async fn the_subprotocol_narrows_a_route(over: Over) {
    let (proxy, _backends) = site(&[("mqtt", "subprotocols = ['mqtt', 'mqttv3.1']")]).await;
    let proxy = proxy.over(over);
    let cases = [
        ("", "rest"),
        ("Sec-WebSocket-Protocol: chat\r\n", "rest"),
        ("Sec-WebSocket-Protocol: mqtt\r\n", "mqtt"),
        ("Sec-WebSocket-Protocol: chat, mqttv3.1\r\n", "mqtt"),
        (
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt\r\n",
            "mqtt",
        ),
    ];
    for (headers, expected) in cases {
        let mut wire = proxy.connect().await;
        wire.send(handshake("/", "localhost", headers)).await;
        let head = wire.response_head().await;
        assert_eq!(head.status, 101);
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(head.header("x-backend"), Some(expected), "{headers}");
    }
}

async fn no_route_is_404_for_requests_and_handshakes(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address()).route("path = '/ws/*'"))
        .await
        .over(over);
    let mut wire = proxy.connect().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
        handshake("/", "localhost", ""),
    ] {
        if request.starts_with("GET") {
            wire.send(&request).await;
            assert_eq!(wire.response().await.head.status, 404, "{request}");
        } else {
            let mut wire = proxy.connect().await;
            wire.send(&request).await;
            assert_eq!(wire.response().await.head.status, 404, "{request}");
        }
    }
    assert_eq!(backend.connections(), 0);
    proxy
        .log
        .wait("request", &[("status", "404"), ("path", "/")])
        .await;
}
