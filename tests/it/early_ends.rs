//! Tunnels that a backend ends: soon, late, with an internal error, or behind frames of a client that
//! nobody can read; and which of these speak against it.

use std::time::Duration;

use crate::ejection::{ejected, is_ejected, keys, reported, site};
use crate::kit::{
    Echo, Opcode, Over, Proxy, RawBackend, Wire, close_payload, eventually, handshake, masked,
    over_each, plain,
};

over_each!(
    tunnels_that_die_young_eject,
    internal_errors_eject,
    tunnels_that_have_lived_long_enough_do_not_eject,
    an_end_behind_frames_that_nobody_can_read_is_the_clients,
);

/// Plays a backend that ends every tunnel by `last` words and the end of the stream.
async fn ends_tunnels(over: Over, last: &[u8], reason: &str) {
    let other = Echo::start("other").await;
    let raw = RawBackend::start().await;
    let proxy = Proxy::start(site(raw.address(), &other, ""))
        .await
        .over(over);
    let play = async {
        loop {
            let mut wire = raw.accept().await;
            wire.request().await;
            wire.switch("").await;
            wire.send(last).await;
        }
    };
    let clients = async {
        for key in keys() {
            if ejected(&proxy) {
                return;
            }
            let ws = proxy.ws(&key).await;
            if ws.head.header("x-backend").is_none() {
                ws.closed().await;
            }
        }
    };
    tokio::select! {
        () = play => {}
        () = clients => {}
    }
    assert_eq!(proxy.log.wait_for(is_ejected).await.text("reason"), reason);
}

async fn tunnels_that_die_young_eject(over: Over) {
    ends_tunnels(over, b"", "early_end").await;
}

async fn internal_errors_eject(over: Over) {
    let close = plain(Opcode::Close, true, &close_payload(1011));
    ends_tunnels(over, &close, "close_1011").await;
}

/// A tunnel through to `a`, both its ends; `None` if the key goes elsewhere.
async fn tunnel(proxy: &Proxy, a: &RawBackend, key: &str) -> Option<(Wire, Wire)> {
    let log = proxy.log.tail();
    let mut client = proxy.connect().await;
    client.send(handshake(key, "localhost", "")).await;
    let mut at_backend = tokio::select! {
        at_backend = a.accept() => at_backend,
        _ = client.response_head() => return None,
    };
    at_backend.request().await;
    at_backend.switch("").await;
    assert_eq!(client.response_head().await.status, 101);
    // Its age counts from here, or from a little before.
    log.wait("tunnel opened", &[("backend", "a")]).await;
    Some((client, at_backend))
}

/// A key of `a`, by a tunnel that its client ends, which counts for nothing.
async fn key_of_a(proxy: &Proxy, a: &RawBackend) -> String {
    for key in keys() {
        let Some((client, mut at_backend)) = tunnel(proxy, a, &key).await else {
            continue;
        };
        drop(client);
        at_backend.end().await;
        return key;
    }
    unreachable!("there is no end of keys");
}

async fn ends_of_a(proxy: &Proxy, count: usize) {
    eventually(format!("{count} ends"), || {
        let by_a = |event: &crate::kit::Event| {
            event.is(
                "tunnel closed",
                &[("backend", "a"), ("ended_by", "backend")],
            )
        };
        proxy.log.all(by_a).len() == count
    })
    .await;
}

async fn tunnels_that_have_lived_long_enough_do_not_eject(over: Over) {
    let (a, other) = (RawBackend::start().await, Echo::start("other").await);
    let site = |early_end: &str| {
        let early_end = format!("early_end = '{early_end}'");
        site(a.address(), &other, &early_end)
    };
    let proxy = Proxy::start(site("200ms")).await.over(over);
    let key = key_of_a(&proxy, &a).await;
    for _ in 0..4 {
        let (mut client, mut at_backend) = tunnel(&proxy, &a, &key).await.expect("a key of a");
        at_backend.silent_for(Duration::from_millis(300)).await;
        drop(at_backend);
        client.end().await;
    }
    ends_of_a(&proxy, 4).await;
    assert_eq!(reported(&proxy, "early_end").await, 0.0);
    assert!(!ejected(&proxy));
    // The very same, where that is not long.
    proxy.reload(site("1h")).await;
    while let Some((mut client, mut at_backend)) = tunnel(&proxy, &a, &key).await {
        at_backend.silent_for(Duration::from_millis(300)).await;
        drop(at_backend);
        client.end().await;
    }
    let event = proxy.log.wait_for(is_ejected).await;
    assert_eq!(event.text("reason"), "early_end");
}

async fn an_end_behind_frames_that_nobody_can_read_is_the_clients(over: Over) {
    let (a, other) = (RawBackend::start().await, Echo::start("other").await);
    let proxy = Proxy::start(site(a.address(), &other, "early_end = '1h'"))
        .await
        .over(over);
    let key = key_of_a(&proxy, &a).await;
    // A Ping in fragments, one of more than 125 bytes, and a length of 2^63.
    let unreadable: [&[u8]; 3] = [
        &[0x09, 0x80],
        &[0x89, 0xfe],
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
    ];
    for (count, bytes) in unreadable.repeat(2).into_iter().enumerate() {
        let (mut client, mut at_backend) = tunnel(&proxy, &a, &key).await.expect("a key of a");
        client.send(bytes).await;
        at_backend.take(bytes.len()).await;
        drop(at_backend);
        client.end().await;
        drop(client);
        ends_of_a(&proxy, count + 1).await;
    }
    assert_eq!(reported(&proxy, "early_end").await, 0.0);
    assert!(!ejected(&proxy));
    // What it makes of a message that it can read is its own.
    let message = masked(Opcode::Text, true, b"hello");
    while let Some((mut client, mut at_backend)) = tunnel(&proxy, &a, &key).await {
        client.send(&message).await;
        at_backend.take(message.len()).await;
        drop(at_backend);
        client.end().await;
    }
    let event = proxy.log.wait_for(is_ejected).await;
    assert_eq!(event.text("reason"), "early_end");
}
