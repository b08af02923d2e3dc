//! How fast many tunnels are told to close: by `drain.rate` at a stop, and by the `drain.deadline` of
//! an upstream.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::kit::{Echo, Over, Proxy, Setup, Site, Ws, alone, over_each};

over_each!(
    a_stop_keeps_the_rate,
    a_backend_is_drained_by_the_deadline_of_its_upstream,
);

const TUNNELS: usize = 60;
/// What both are to come to.
const PACE: f64 = 20.0;
/// For the closing handshake, and the machine.
const LATE: Duration = Duration::from_millis(500);

type Ends = JoinSet<(Option<u16>, Instant)>;

/// Tunnels whose ends are being watched.
async fn tunnels(proxy: &Proxy) -> Ends {
    let mut ends = Ends::new();
    for _ in 0..TUNNELS {
        let mut ws: Ws = proxy.ws("/").await;
        ws.greeting().await;
        ends.spawn(async move { (ws.closed().await, Instant::now()) });
    }
    ends
}

/// Each in its own slot: no sooner since `before` the first could be told, no later since `after`
/// that.
async fn keep_the_pace(ends: Ends, before: Instant, after: Instant) {
    let mut ends = ends.join_all().await;
    ends.sort_by_key(|(_, at)| *at);
    assert!(ends.iter().all(|(code, _)| *code == Some(1012)), "{ends:?}");
    let slot = |place: usize| Duration::from_secs_f64(place as f64 / PACE);
    let since = |start: Instant| ends.iter().map(move |(_, at)| at.duration_since(start));
    for (place, at) in since(before).enumerate() {
        assert!(at >= slot(place), "number {place} after {at:?}");
    }
    for (place, at) in since(after).enumerate() {
        assert!(at <= slot(place + 1) + LATE, "number {place} after {at:?}");
    }
}

async fn a_stop_keeps_the_rate(over: Over) {
    let _alone = alone().await;
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address()).more("[drain]\nrate = '20/s'");
    let proxy = Setup::new().beside().start(site).await.over(over);
    let ends = tunnels(&proxy).await;
    let before = Instant::now();
    proxy.terminate();
    proxy.log.wait("draining", &[]).await;
    keep_the_pace(ends, before, Instant::now()).await;
    assert_eq!(proxy.exit().await.code(), Some(0));
}

/// The rate alone would take a minute.
async fn a_backend_is_drained_by_the_deadline_of_its_upstream(over: Over) {
    let _alone = alone().await;
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let site = |of_a: &str, of_b: &str| {
        let site = Site::of(&[a.entry(), b.entry()]);
        let site = site.upstream("drain = { rate = '1/s', deadline = '3s' }");
        let site = site.to_string();
        site.replace("\"a\",", &format!("\"a\", state = '{of_a}',"))
            .replace("\"b\",", &format!("\"b\", state = '{of_b}',"))
    };
    let proxy = Setup::new().beside().start(site("active", "disabled"));
    let proxy = proxy.await.over(over);
    let ends = tunnels(&proxy).await;
    let before = Instant::now();
    proxy.edit(site("draining", "active"));
    let begun = proxy.log.wait("draining a backend", &[]).await;
    assert_eq!(begun.number("tunnels"), TUNNELS as u64);
    keep_the_pace(ends, before, Instant::now()).await;
    proxy.log.wait("backend is drained", &[]).await;
}
