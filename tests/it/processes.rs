//! Backends that are processes, which hang or die: what becomes of their tunnels.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::kit::{
    Echo, Event, Over, Proxy, Setup, Site, Ws, alone, eventually, handshake, over_each,
};
use crate::probes::{key_of, turned};

over_each!(
    a_stopped_process_is_found_and_its_tunnels_are_drained,
    without_a_policy_the_tunnels_of_a_stopped_process_stay,
    the_death_of_a_process_is_seen_by_its_clients_within_a_second,
);

/// A backend that is a process: longhaul itself in front of an [`Echo`].
async fn process(setup: Setup, echo: &Echo) -> (Proxy, String) {
    let process = setup.start(Site::one(echo.address())).await;
    let address = process.address("main").await;
    (process, address)
}

/// Tunnels of both backends, with their keys.
async fn spread(proxy: &Proxy) -> (Vec<(String, Ws)>, Vec<(String, Ws)>) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let key = format!("/?key={number}");
        let mut ws = proxy.ws(&key).await;
        match &*ws.greeting().await {
            "a" => a.push((key, ws)),
            _ => b.push((key, ws)),
        }
    }
    assert!(a.len() > 5 && b.len() > 5, "{} and {}", a.len(), b.len());
    (a, b)
}

async fn a_stopped_process_is_found_and_its_tunnels_are_drained(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let (process, address) = process(Setup::new(), &a).await;
    let site = Site::of(&[("a", &address), b.entry()])
        .upstream("sticky = 'query:key'\non_unhealthy = 'drain'")
        .upstream("health = { type = 'websocket', interval = '200ms', timeout = '1s', rise = 1 }")
        .more("[drain]\nwindow = '100ms'\nclose_timeout = '300ms'");
    let proxy = Setup::new().beside().start(site).await.over(over);
    let (of_a, mut of_b) = spread(&proxy).await;
    process.signal(Signal::STOP);
    let down = turned(&proxy, "backend is down").await;
    assert_eq!(down.number("tunnels"), of_a.len() as u64);
    assert!(down.text("reason").contains("within timeout"), "{down:?}");
    for (key, ws) in of_a {
        assert_eq!(ws.closed().await, Some(1012), "{key}");
        let mut again = proxy.ws(&key).await;
        assert_eq!(again.greeting().await, "b", "{key}");
        again.close(1000).await;
    }
    let closed = |event: &Event| event.is("tunnel closed", &[("cause", "unhealthy")]);
    eventually("every line of a tunnel's end", || {
        proxy.log.all(closed).len() as u64 == down.number("tunnels")
    })
    .await;
    for (_, ws) in &mut of_b {
        ws.echo("still here").await;
    }
    process.signal(Signal::CONT);
    turned(&proxy, "backend is up").await;
    key_of(&proxy, "a").await;
}

async fn without_a_policy_the_tunnels_of_a_stopped_process_stay(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let (process, address) = process(Setup::new(), &a).await;
    let site = Site::of(&[("a", &address), b.entry()])
        .upstream("sticky = 'query:key'")
        .upstream("health = { type = 'http', interval = '100ms', timeout = '1s', rise = 1 }");
    let proxy = Setup::new().beside().start(site).await.over(over);
    let (mut of_a, _of_b) = spread(&proxy).await;
    process.signal(Signal::STOP);
    turned(&proxy, "backend is down").await;
    process.signal(Signal::CONT);
    turned(&proxy, "backend is up").await;
    for (_, ws) in &mut of_a {
        ws.echo("still here").await;
    }
}

async fn the_death_of_a_process_is_seen_by_its_clients_within_a_second(over: Over) {
    let _alone = alone().await;
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let (process, address) = process(Setup::new().beside(), &a).await;
    let site = Site::of(&[("a", &address), b.entry()]).upstream("sticky = 'query:key'");
    let proxy = Setup::new().beside().start(site).await.over(over);
    let (of_a, mut of_b) = spread(&proxy).await;
    // All at the same time: one after the other, the last would be looked at late.
    let mut ends = JoinSet::new();
    for (_, ws) in of_a {
        ends.spawn(async move { (ws.closed().await, Instant::now()) });
    }
    let start = Instant::now();
    process.signal(Signal::KILL);
    let ends = ends.join_all().await;
    let latest = ends.iter().map(|(_, at)| *at - start).max();
    println!("{} clients, the last of them after {latest:?}", ends.len());
    assert!(ends.iter().all(|(code, _)| code.is_none()), "{ends:?}");
    assert!(latest < Some(Duration::from_secs(1)), "{latest:?}");
    for (_, ws) in &mut of_b {
        ws.echo("still here").await;
    }
    let mut wire = proxy.connect().await;
    wire.send(handshake("/?key=1", "h", "")).await;
    assert_eq!(wire.response_head().await.status, 101);
}
