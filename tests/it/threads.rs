//! The threads of the data plane: who works for whom, and in which turns.

use std::fs;

use crate::kit::{Authority, Echo, Proxy, Setup, Site, Ws, soon};

/// Over HTTP/1.1 alone: a stream of HTTP/2 is where its connection is.
#[tokio::test]
async fn who_relays_tls_does_not_accept() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = Site::one(backend.address()).top("workers = 1").tls();
    let proxy = setup.start(site).await;
    let address = proxy.address("main").await;
    let wire = authority.client().connect(&address, "localhost").await;
    let mut ws = Ws::open(wire.expect("TLS"), "/", "localhost", "").await;
    ws.greeting().await;
    let before = [
        busy(&proxy, "relay-0").await,
        busy(&proxy, "worker-0").await,
    ];
    // Told once a second: both at the same moment.
    let moved = async {
        loop {
            for _ in 0..100 {
                ws.echo("a message of some bytes").await;
            }
            let relay = busy(&proxy, "relay-0").await - before[0];
            let worker = busy(&proxy, "worker-0").await - before[1];
            if relay > 0.02 {
                return (relay, worker);
            }
        }
    };
    let (relay, worker) = soon("bytes to be relayed", moved).await;
    assert!(worker < relay / 2.0, "{worker} s of {relay} s");
}

async fn busy(proxy: &Proxy, thread: &str) -> f64 {
    let name = format!("longhaul_worker_busy_seconds_total{{worker=\"{thread}\"}}");
    proxy.samples().await.get(&name).copied().unwrap_or(0.0)
}

/// Where the kernel has them (Linux 6.12).
#[tokio::test]
async fn who_relays_has_short_turns() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address()).top("workers = 1")).await;
    if !knows_turns() {
        return;
    }
    let usual = slice(&proxy, "worker");
    assert!(usual > 100_000, "{usual} ns");
    for thread in ["relay", "tunnels-0"] {
        assert_eq!(slice(&proxy, thread), 100_000, "{thread}");
    }
}

/// What the scheduler says of the thread's turns, in nanoseconds.
fn slice(proxy: &Proxy, name: &str) -> u64 {
    let threads = format!("/proc/{}/task", proxy.pid());
    for thread in fs::read_dir(threads).expect("threads") {
        let place = thread.expect("a thread").path();
        let called = fs::read_to_string(place.join("comm")).expect("a name");
        if called.trim() == name {
            let state = fs::read_to_string(place.join("sched")).expect("its state");
            let line = state.lines().find(|line| line.starts_with("se.slice"));
            let number = line.expect("a slice").rsplit(' ').next();
            return number.expect("a number").parse().expect("a number");
        }
    }
    panic!("no thread {name}");
}

fn knows_turns() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 12),
        _ => false,
    }
}
