//! A new backend gets its share of tunnels that are open already.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::kit::{
    DEADLINE, Echo, Opcode, Proxy, Setup, Site, Wire, alone, close_payload, dial, handshake,
    longhaul, masked, raise_file_limit,
};

const TUNNELS: usize = 3_000;
const RATE: f64 = 200.0;

fn site(backends: &[&Echo], more: &str) -> Site {
    let entries: Vec<_> = backends.iter().map(|one| one.entry()).collect();
    Site::of(&entries)
        .upstream("sticky = 'query:key'")
        .upstream(more)
}

async fn open(address: &str, number: usize) -> Wire {
    let mut wire = dial(address).await;
    wire.send(handshake(&format!("/?key={number}"), "localhost", ""))
        .await;
    let head = wire.response_head().await;
    assert_eq!(head.status, 101, "{head:?}");
    assert_eq!(wire.frame().await.opcode, Opcode::Text);
    wire
}

/// A client that comes back each time it is sent away; for ever.
async fn come_back(address: String, mut wire: Wire, number: usize) {
    loop {
        assert!(wire.readable().await, "an end without Close");
        assert_eq!(wire.frame().await.close_code(), Some(1012));
        wire.send(masked(Opcode::Close, true, &close_payload(1012)))
            .await;
        wire.eof().await;
        wire = open(&address, number).await;
    }
}

async fn counts(proxy: &Proxy) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, name) in counts.iter_mut().zip(["a", "b", "c"]) {
        *count = proxy.tunnels_of(name).await;
    }
    counts
}

/// Over HTTP/1.1 alone: it is about choice
/// and pace, and the drains are over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_thousand_tunnels_of_two_backends_are_even_over_three_in_the_time_that_was_said() {
    let _alone = alone().await;
    raise_file_limit(3 * TUNNELS);
    let (a, b, c) = (
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    );
    let proxy = Setup::new().beside().start(site(&[&a, &b], "")).await;
    let address = proxy.address("main").await;
    let mut clients = JoinSet::new();
    for number in 0..TUNNELS {
        let wire = open(&address, number).await;
        clients.spawn(come_back(address.clone(), wire, number));
    }
    let before = [proxy.tunnels_of("a").await, proxy.tunnels_of("b").await];
    proxy.reload(site(&[&a, &b, &c], "")).await;
    assert_eq!(
        counts(&proxy).await,
        [before[0], before[1], 0],
        "counts survive the reload"
    );

    let body = |dry_run: bool| {
        json!({
            "upstream": "app", "to": 0.05, "rate": "200/s", "dry_run": dry_run,
        })
    };
    let (_, dry) = proxy.ask_admin("/rebalance", Some(body(true))).await;
    let (code, begun) = proxy.ask_admin("/rebalance", Some(body(false))).await;
    let start = Instant::now();
    assert_eq!((code, &begun["closing"]), (200, &dry["closing"]), "{begun}");
    let (closing, seconds) = (begun["closing"].as_f64(), begun["seconds"].as_f64());
    let (closing, seconds) = (closing.expect("a number"), seconds.expect("a number"));
    assert!((closing / RATE - seconds).abs() < 0.01, "{begun}");
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let even = |counts: [u64; 3]| {
        counts.iter().sum::<u64>() == TUNNELS as u64
            && counts.iter().all(|count| (900..=1100).contains(count))
    };
    while !even(counts(&proxy).await) {
        looks.tick().await;
        let late = start.elapsed().as_secs_f64() - seconds;
        assert!(
            late < DEADLINE.as_secs_f64(),
            "{:?} of {begun}",
            counts(&proxy).await
        );
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "even after {took} of {seconds} s: {:?}",
        counts(&proxy).await
    );
    // The half second is for those on their way back, and for looking.
    assert!(took < 1.1 * seconds + 0.5, "{took} of {seconds} s");
    proxy
        .log
        .wait("tunnel closed", &[("cause", "rebalance")])
        .await;
    while start.elapsed().as_secs_f64() < seconds {
        looks.tick().await;
    }
    // Whoever was sent away belongs elsewhere: there is nothing left to do.
    let (_, again) = proxy
        .ask_admin(
            "/rebalance",
            Some(json!({ "upstream": "app", "dry_run": true })),
        )
        .await;
    assert_eq!(again["closing"], 0, "{again}");
}

/// Over HTTP/1.1 alone: it is about choice and pace, and the drains
/// are over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_rebalances_by_itself_and_what_would_come_back_stays() {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let proxy = Proxy::start(site(&[&a], "")).await;
    let address = proxy.address("main").await;
    let mut clients = JoinSet::new();
    for number in 0..60 {
        let wire = open(&address, number).await;
        clients.spawn(come_back(address.clone(), wire, number));
    }
    let policy = "rebalance = { interval = '100ms', to = 0.5, rate = '1000/s' }";
    proxy.reload(site(&[&a, &b], policy)).await;
    proxy
        .log
        .wait("rebalancing an upstream", &[("upstream", "app")])
        .await;
    crate::kit::soon("b to have some", async {
        while proxy.tunnels_of("b").await < 15 {}
    })
    .await;
    let mut command = longhaul();
    command.args(["rebalance", "app", "--to", "0%", "--dry-run", "--admin"]);
    let output = command
        .arg(proxy.path("admin.sock"))
        .output()
        .expect("to run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("would be closed over"),
        "{text}"
    );
}

/// The clients of one upstream, whose backends have what `site` says.
async fn come_back_to(proxy: &Proxy, clients: usize) -> JoinSet<()> {
    let address = proxy.address("main").await;
    let mut all = JoinSet::new();
    for number in 0..clients {
        let wire = open(&address, number).await;
        all.spawn(come_back(address.clone(), wire, number));
    }
    all
}

/// Over HTTP/1.1 alone: the policy counts tunnels and does not look at them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_comes_to_rest_within_its_share_and_keeps_its_rate_and_leaves_drained_backends() {
    const CLIENTS: u64 = 300;
    const RATE: f64 = 60.0;
    let _alone = alone().await;
    let (a, b, c) = (
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    );
    // No keys: whoever is sent away goes where there is least.
    let site = |backends: &[&Echo], more: &str| {
        let site = site(backends, more).to_string();
        site.replace("sticky = 'query:key'", "balance = 'least_connections'")
    };
    let proxy = Setup::new().beside().start(site(&[&a], "")).await;
    let mut clients = come_back_to(&proxy, CLIENTS as usize).await;
    let policy = "rebalance = { interval = '200ms', to = 0.1, rate = '60/s' }";
    // c is not to be used, and so nobody is sent there.
    let text = site(&[&a, &b, &c], policy);
    let text = text.replace("{ name = \"c\",", "{ name = \"c\", state = 'draining',");
    proxy.reload(text).await;
    let start = Instant::now();
    let even = |counts: [u64; 3]| {
        counts.iter().sum::<u64>() == CLIENTS
            && counts[..2].iter().all(|it| (135..=165).contains(it))
    };
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    while !even(counts(&proxy).await) {
        looks.tick().await;
        assert!(start.elapsed() < 2 * DEADLINE, "{:?}", counts(&proxy).await);
    }
    let closed = || {
        let is_rebalanced = |event: &crate::kit::Event| {
            event.message == "tunnel closed" && event.text("cause") == "rebalance"
        };
        proxy.log.all(is_rebalanced).len()
    };
    let moved = closed();
    // From 300 and 0 to 165 and 135 at most, one after the other at the rate.
    assert!(moved >= 135, "{moved}");
    let fastest = (moved as f64 - 1.0) / RATE;
    assert!(
        start.elapsed().as_secs_f64() > 0.95 * fastest - 0.25,
        "{moved} in {:?}",
        start.elapsed()
    );
    // The orders of the last look may still be under way; then nobody moves any more.
    let mut still = tokio::time::interval(Duration::from_millis(250));
    let (mut last, mut since) = (closed(), Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        still.tick().await;
        if closed() != last {
            (last, since) = (closed(), Instant::now());
        }
        assert!(start.elapsed() < 2 * DEADLINE, "it never comes to rest");
    }
    assert!(last <= 165, "{last} moved where 150 would do");
    assert!(even(counts(&proxy).await), "{:?}", counts(&proxy).await);
    assert_eq!(counts(&proxy).await[2], 0);
    assert!(clients.try_join_next().is_none(), "a client has failed");
}
