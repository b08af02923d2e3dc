//! When a backend is said to be drained: not before the last of its tunnels and of what may become one.

use crate::kit::{
    Opcode, Over, Proxy, RawBackend, Site, close_payload, handshake, masked, over_each, plain,
};

over_each!(
    a_handshake_that_was_under_way_is_drained_too,
    a_backend_that_has_nothing_is_drained_at_once,
);

fn site(raw: &RawBackend, state: &str) -> String {
    let entry = format!(
        "name = 'raw', address = '{}', state = '{state}'",
        raw.address()
    );
    let site = Site::of(&[])
        .upstream("drain = { rate = '100/s' }")
        .to_string();
    site.replace("backends = []", &format!("backends = [{{ {entry} }}]"))
}

async fn a_handshake_that_was_under_way_is_drained_too(over: Over) {
    let raw = RawBackend::start().await;
    let proxy = Proxy::start(site(&raw, "active")).await.over(over);
    let mut client = proxy.connect().await;
    client.send(handshake("/", "localhost", "")).await;
    let mut at_backend = raw.accept().await;
    at_backend.request().await;
    proxy.reload(site(&raw, "draining")).await;
    let begun = proxy.log.wait("draining a backend", &[]).await;
    assert_eq!(begun.number("tunnels"), 0);
    let still = proxy.log.wait("still draining a backend", &[]).await;
    assert_eq!(
        (still.number("tunnels"), still.number("handshakes")),
        (0, 1)
    );
    at_backend.switch("").await;
    assert_eq!(client.response_head().await.status, 101);
    assert_eq!(client.frame().await.close_code(), Some(1012));
    assert_eq!(at_backend.frame().await.close_code(), Some(1012));
    let drained = || proxy.log.all(|event| event.message == "backend is drained");
    assert!(drained().is_empty(), "while its tunnel lives");
    let payload = close_payload(1012);
    client.send(masked(Opcode::Close, true, &payload)).await;
    at_backend.send(plain(Opcode::Close, true, &payload)).await;
    client.eof().await;
    drop((client, at_backend));
    proxy
        .log
        .wait("backend is drained", &[("backend", "raw")])
        .await;
    assert_eq!(proxy.tunnels_of("raw").await, 0);
    assert_eq!(drained().len(), 1);
}

async fn a_backend_that_has_nothing_is_drained_at_once(over: Over) {
    let raw = RawBackend::start().await;
    let proxy = Proxy::start(site(&raw, "active")).await.over(over);
    for _ in 0..2 {
        let log = proxy.log.tail();
        proxy.reload(site(&raw, "draining")).await;
        log.wait("backend is drained", &[("backend", "raw")]).await;
        proxy.reload(site(&raw, "active")).await;
    }
}
