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
    println!(
        "even after {:?} of {seconds} s: {:?}",
        start.elapsed(),
        counts(&proxy).await
    );
    assert!(start.elapsed().as_secs_f64() < seconds + 2.0);
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
