//! How many tunnels and handshakes a backend is given, and where the others go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::kit::{
    Echo, Head, Over, Proxy, RawBackend, Setup, Site, Wire, Ws, alone, handshake, over_each, soon,
};

over_each!(
    a_backend_with_all_its_tunnels_gets_no_more,
    a_reload_counts_on_and_heeds_the_new_limit,
    handshakes_wait_for_one_another,
    one_that_leaves_the_queue_gives_its_turn_to_the_next,
    who_waits_too_long_goes_to_the_next_backend,
    handshakes_come_no_faster_than_they_may,
    with_a_bounded_load_a_hot_key_spreads_in_its_order,
    with_a_bounded_load_a_client_with_longhauls_cookie_stays,
);

fn site(backends: &[&Echo], upstream: &str) -> Site {
    let entries: Vec<_> = backends.iter().map(|one| one.entry()).collect();
    Site::of(&entries).upstream(upstream)
}

/// The answer to a handshake that is refused.
async fn refused(proxy: &Proxy, target: &str) -> Head {
    let mut wire = proxy.connect().await;
    wire.send(handshake(target, "localhost", "")).await;
    let head = wire.response_head().await;
    assert_eq!(head.status, 503, "{head:?}");
    head
}

fn backend_of(ws: &Ws) -> String {
    ws.head.header("x-backend").expect("a backend").to_owned()
}

async fn a_backend_with_all_its_tunnels_gets_no_more(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let upstream = "sticky = 'query:key'\nadmission = { max_tunnels = 2 }";
    let proxy = Proxy::start(site(&[&a, &b], upstream)).await.over(over);
    let mut tunnels = Vec::new();
    for _ in 0..4 {
        tunnels.push(proxy.ws("/?key=1").await);
    }
    let at: Vec<String> = tunnels.iter().map(backend_of).collect();
    // The key's own first, then the next in its order.
    assert_eq!(at[0], at[1]);
    assert_eq!(at[2], at[3]);
    assert_ne!(at[1], at[2]);
    let mut waits = BTreeSet::new();
    for _ in 0..20 {
        let head = refused(&proxy, "/?key=1").await;
        let wait = head.header("retry-after").expect("Retry-After").parse();
        waits.insert(wait.expect("seconds"));
    }
    assert!(
        waits.iter().all(|wait| (5..=10).contains(wait)),
        "{waits:?}"
    );
    assert!(waits.len() > 1, "spread: {waits:?}");
    let full = proxy.metric("longhaul_backend_full_total").await;
    assert_eq!(full, 2.0 + 40.0);
    let log = &proxy.log;
    log.wait("request", &[("refusal", "backends_full")]).await;
    // Plain requests are not what is counted.
    assert_eq!(proxy.get("/?key=1").await.head.status, 200);
    let last = tunnels.pop().expect("a tunnel");
    let free = backend_of(&last);
    last.close(1000).await;
    log.wait("tunnel closed", &[]).await;
    assert_eq!(backend_of(&proxy.ws("/?key=1").await), free);
}

async fn a_reload_counts_on_and_heeds_the_new_limit(over: Over) {
    let a = Echo::start("a").await;
    let with = |most: u32| site(&[&a], &format!("admission = {{ max_tunnels = {most} }}"));
    let proxy = Proxy::start(with(2)).await.over(over);
    let _tunnels = (proxy.ws("/").await, proxy.ws("/").await);
    refused(&proxy, "/").await;
    proxy.reload(with(3)).await;
    let _third = proxy.ws("/").await;
    proxy.reload(with(1)).await;
    refused(&proxy, "/").await;
}

/// Sends a handshake and does not wait.
async fn knock(proxy: &Proxy) -> Wire {
    let mut wire = proxy.connect().await;
    wire.send(handshake("/", "localhost", "")).await;
    wire
}

async fn queued(proxy: &Proxy) -> u64 {
    let status = proxy.status().await;
    let backend = &status["upstreams"][0]["backends"][0];
    backend["queued"].as_u64().expect("a number")
}

/// Handshakes under way, and those of them that wait, as the metrics have them.
async fn counted(proxy: &Proxy) -> [f64; 2] {
    let page = proxy.samples().await;
    let of = "{upstream=\"app\",backend=\"a\"}";
    ["handshakes_active", "queued"].map(|what| page[&format!("longhaul_backend_{what}{of}")])
}

async fn handshakes_wait_for_one_another(over: Over) {
    let raw = RawBackend::start().await;
    let site = Site::one(raw.address())
        .upstream("admission = { max_handshakes_in_flight = 1, max_queued = 1 }");
    let proxy = Proxy::start(site).await.over(over);
    let mut first = knock(&proxy).await;
    let mut at_backend = raw.accept().await;
    at_backend.request().await;
    let mut second = knock(&proxy).await;
    while queued(&proxy).await == 0 {}
    assert_eq!(counted(&proxy).await, [2.0, 1.0]);
    // The queue is full, and there is nobody else.
    assert_eq!(knock(&proxy).await.response_head().await.status, 503);
    raw.unvisited_for(Duration::from_millis(100)).await;
    // A refusal by the backend is an answer as well.
    at_backend
        .send("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(first.response_head().await.status, 403);
    let mut at_backend = raw.accept().await;
    at_backend.request().await;
    assert_eq!(counted(&proxy).await, [1.0, 0.0]);
    at_backend.switch("").await;
    assert_eq!(second.response_head().await.status, 101);
    let over = async { while counted(&proxy).await != [0.0, 0.0] {} };
    soon("no handshake to be under way", over).await;
}

async fn one_that_leaves_the_queue_gives_its_turn_to_the_next(over: Over) {
    let raw = RawBackend::start().await;
    let site = Site::one(raw.address())
        .upstream("admission = { max_handshakes_in_flight = 1, queue_timeout = '8s' }");
    let proxy = Proxy::start(site).await.over(over);
    let mut first = knock(&proxy).await;
    let mut at_backend = raw.accept().await;
    at_backend.request().await;
    let second = knock(&proxy).await;
    while queued(&proxy).await < 1 {}
    let mut third = knock(&proxy).await;
    while queued(&proxy).await < 2 {}
    drop(second);
    while queued(&proxy).await > 1 {}
    at_backend.switch("").await;
    assert_eq!(first.response_head().await.status, 101);
    let mut at_backend = raw.accept().await;
    at_backend.request().await;
    at_backend.switch("").await;
    assert_eq!(third.response_head().await.status, 101);
}

async fn who_waits_too_long_goes_to_the_next_backend(over: Over) {
    let (raw, other) = (RawBackend::start().await, Echo::start("other").await);
    let site = Site::of(&[("raw", raw.address()), other.entry()]).upstream(
        "sticky = 'query:key'\n\
         admission = { max_handshakes_in_flight = 1, queue_timeout = '200ms' }",
    );
    let proxy = Proxy::start(site).await.over(over);
    let mut held = None;
    for number in 0..100 {
        let target = format!("/?key={number}");
        let mut wire = proxy.connect().await;
        wire.send(handshake(&target, "localhost", "")).await;
        let at_backend = tokio::select! {
            at_backend = raw.accept() => at_backend,
            head = wire.response_head() => {
                assert_eq!(head.status, 101);
                continue;
            }
        };
        held = Some((target, wire, at_backend));
        break;
    }
    let (target, _wire, _at_backend) = held.expect("a key of the silent backend");
    let start = Instant::now();
    let ws = proxy.ws(&target).await;
    assert_eq!(backend_of(&ws), "other");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

async fn handshakes_come_no_faster_than_they_may(over: Over) {
    const RATE: f64 = 40.0;
    const CLIENTS: usize = 100;
    let _machine = alone().await;
    let raw = RawBackend::start().await;
    let site = Site::one(raw.address())
        .upstream("admission = { handshake_rate = '40/s', queue_timeout = '5s' }");
    let proxy = Setup::new().beside().start(site).await.over(over);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut wire = proxy.connect().await;
        clients.spawn(async move {
            wire.send(handshake("/", "localhost", "")).await;
            assert_eq!(wire.response_head().await.status, 101);
        });
    }
    let mut times = Vec::new();
    let mut wires = Vec::new();
    for _ in 0..CLIENTS {
        let mut wire = raw.accept().await;
        times.push(Instant::now());
        wire.request().await;
        wire.switch("").await;
        wires.push(wire);
    }
    clients.join_all().await;
    // What a busy machine holds up for so long may come together.
    let late = Duration::from_millis(250);
    for (from, start) in times.iter().enumerate() {
        for (to, end) in times.iter().enumerate().skip(from) {
            let most = RATE * (*end - *start + late).as_secs_f64() + 1.0;
            assert!(
                (to - from) as f64 <= most,
                "{from} to {to}: {:?}",
                *end - *start
            );
        }
    }
    let took = times[CLIENTS - 1] - times[0];
    assert!(
        took < Duration::from_secs(4),
        "nor much more slowly: {took:?}"
    );
}

async fn with_a_bounded_load_a_hot_key_spreads_in_its_order(over: Over) {
    let (a, b, c) = (
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    );
    let plain = site(&[&a, &b, &c], "sticky = 'query:room'");
    let proxy = Proxy::start(plain.clone().upstream("max_load = 1.25"))
        .await
        .over(over);
    let mut tunnels = Vec::new();
    for _ in 0..30 {
        tunnels.push(proxy.ws("/?room=7").await);
    }
    let mut counts = BTreeMap::new();
    for ws in &tunnels {
        *counts.entry(backend_of(ws)).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count <= 13), "{counts:?}");
    // The first and the fullest is the one that the key has without a bound.
    proxy.reload(plain).await;
    let own = proxy.get("/?room=7").await.text().to_owned();
    assert_eq!(backend_of(&tunnels[0]), own);
    assert_eq!(counts[&own], 13, "{counts:?}");
}

async fn with_a_bounded_load_a_client_with_longhauls_cookie_stays(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let own = site(&[&a, &b], "sticky = 'cookie'\nmax_load = 1.0");
    let proxy = Proxy::start(own).await.over(over);
    let ws = proxy.ws("/").await;
    let cookie = ws.head.header("set-cookie").expect("a cookie");
    let pair = cookie.split(';').next().expect("a pair").to_owned();
    let mut tunnels = vec![ws];
    for _ in 0..10 {
        tunnels.push(proxy.ws_with("/", &format!("Cookie: {pair}\r\n")).await);
    }
    let mut stayed: Vec<String> = tunnels.iter().map(backend_of).collect();
    stayed.dedup();
    assert_eq!(stayed.len(), 1, "{stayed:?}");
}
