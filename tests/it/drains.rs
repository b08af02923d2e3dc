//! Backends that a person takes out: what becomes of their keys and tunnels, how fast, and of everybody
//! who comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::kit::{
    Echo, End, Opcode, Over, Proxy, Setup, Site, Wire, alone, close_payload, dial, eventually,
    handshake, masked, over_each, raise_file_limit, soon,
};

over_each!(
    a_draining_backend_loses_its_keys_and_then_its_tunnels,
    a_drain_that_is_taken_back_leaves_the_rest,
    a_backend_that_is_removed_while_it_drains_is_drained_to_the_end,
    a_handshake_that_waits_goes_elsewhere_when_its_backend_is_taken_out,
    a_disabled_backend_keeps_its_tunnels_and_is_not_probed,
);

/// Backends, each with its state, behind one key in the query.
fn site(backends: &[(&Echo, &str)], upstream: &str) -> String {
    let site = Site::of(&[]).upstream("sticky = 'query:key'");
    let text = site.upstream(upstream).to_string();
    let entry = |(echo, state): &(&Echo, &str)| {
        let (name, address) = echo.entry();
        format!("{{ name = '{name}', address = '{address}', state = '{state}' }}")
    };
    let entries: Vec<_> = backends.iter().map(entry).collect();
    text.replace(
        "backends = []",
        &format!("backends = [{}]", entries.join(", ")),
    )
}

async fn listed(proxy: &Proxy, backend: &str) -> serde_json::Value {
    let status = proxy.status().await;
    let backends = status["upstreams"][0]["backends"].as_array().cloned();
    let mut backends = backends.expect("backends").into_iter();
    backends
        .find(|one| one["name"] == backend)
        .expect("the backend")
}

async fn a_draining_backend_loses_its_keys_and_then_its_tunnels(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let drain = "drain = { rate = '50/s' }";
    let proxy = Proxy::start(site(&[(&a, "active"), (&b, "active")], drain))
        .await
        .over(over);
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let key = format!("/?key={number}");
        let mut ws = proxy.ws(&key).await;
        match &*ws.greeting().await {
            "a" => of_a.push((key, ws)),
            _ => of_b.push((key, ws)),
        }
    }
    let draining = site(&[(&a, "draining"), (&b, "active")], drain);
    proxy.reload(&draining).await;
    let begun = proxy
        .log
        .wait("draining a backend", &[("backend", "a")])
        .await;
    assert_eq!(begun.number("tunnels"), of_a.len() as u64);
    let state = listed(&proxy, "a").await;
    assert_eq!(
        (&state["state"], &state["state_by"]),
        (&"draining".into(), &"config".into())
    );
    for (key, ws) in of_a {
        assert_eq!(proxy.get(&key).await.text(), "b");
        assert_eq!(ws.closed().await, Some(1012));
    }
    proxy
        .log
        .wait("backend is drained", &[("backend", "a")])
        .await;
    let causes = proxy.log.all(|event| event.message == "tunnel closed");
    assert!(
        causes.iter().all(|event| event.text("cause") == "drain"),
        "{causes:?}"
    );
    for (_, ws) in &mut of_b {
        ws.echo("still here").await;
    }
    // With both out there is nobody, and no panic that would say otherwise.
    proxy
        .reload(site(&[(&a, "draining"), (&b, "disabled")], drain))
        .await;
    assert_eq!(proxy.get("/").await.head.status, 503);
    let status = proxy.status().await;
    assert_eq!(status["upstreams"][0]["panic"], false);
    proxy
        .reload(site(&[(&a, "active"), (&b, "active")], drain))
        .await;
    assert_eq!(proxy.get("/").await.head.status, 200);
}

async fn a_drain_that_is_taken_back_leaves_the_rest(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let slowly = "drain = { window = '1h' }";
    let proxy = Proxy::start(site(&[(&a, "active"), (&b, "disabled")], slowly))
        .await
        .over(over);
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    proxy
        .reload(site(&[(&a, "draining"), (&b, "active")], slowly))
        .await;
    proxy.log.wait("draining a backend", &[]).await;
    let log = proxy.log.tail();
    proxy
        .reload(site(&[(&a, "active"), (&b, "disabled")], slowly))
        .await;
    log.wait(
        "backend has another state",
        &[("backend", "a"), ("state", "active")],
    )
    .await;
    ws.echo("still here").await;
    let mut another = proxy.ws("/").await;
    assert_eq!(another.greeting().await, "a");
}

async fn a_backend_that_is_removed_while_it_drains_is_drained_to_the_end(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let drain = "drain = { window = '2s' }";
    let proxy = Proxy::start(site(&[(&a, "active"), (&b, "disabled")], drain))
        .await
        .over(over);
    let mut tunnels = Vec::new();
    for _ in 0..10 {
        tunnels.push(proxy.ws("/").await);
    }
    proxy
        .reload(site(&[(&a, "draining"), (&b, "active")], drain))
        .await;
    proxy.reload(site(&[(&b, "active")], drain)).await;
    for ws in tunnels {
        assert_eq!(ws.closed().await, Some(1012));
    }
    let begun = proxy
        .log
        .all(|event| event.message.starts_with("draining a"));
    assert_eq!(begun.len(), 1, "{begun:?}");
}

async fn a_handshake_that_waits_goes_elsewhere_when_its_backend_is_taken_out(over: Over) {
    use crate::kit::RawBackend;
    let (raw, other) = (RawBackend::start().await, Echo::start("other").await);
    let text = |of_raw: &str| {
        let upstream = "admission = { max_handshakes_in_flight = 1 }";
        let text = site(&[(&other, "active")], upstream);
        let entry = format!("name = 'raw', address = '{}'", raw.address());
        let entry = format!("backends = [{{ {entry}, state = '{of_raw}' }}, ");
        text.replace("backends = [", &entry)
    };
    let proxy = Proxy::start(text("active")).await.over(over);
    let mut found = None;
    for number in 0..100 {
        let shaken = handshake(&format!("/?key={number}"), "localhost", "");
        let mut wire = proxy.connect().await;
        wire.send(&shaken).await;
        let at_backend = tokio::select! {
            at_backend = raw.accept() => at_backend,
            _ = wire.response_head() => continue,
        };
        found = Some((shaken, wire, at_backend));
        break;
    }
    let (shaken, mut first, mut at_backend) = found.expect("a key of the raw backend");
    at_backend.request().await;
    let mut second = proxy.connect().await;
    second.send(&shaken).await;
    while listed(&proxy, "raw").await["queued"] != 1 {}
    proxy.reload(text("draining")).await;
    at_backend.switch("").await;
    assert_eq!(first.response_head().await.status, 101);
    let head = second.response_head().await;
    assert_eq!(head.header("x-backend"), Some("other"), "{head:?}");
}

async fn a_disabled_backend_keeps_its_tunnels_and_is_not_probed(over: Over) {
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let probes = "health = { type = 'http', interval = '20ms' }";
    let proxy = Proxy::start(site(&[(&a, "active"), (&b, "disabled")], probes))
        .await
        .over(over);
    let mut ws = proxy.ws("/").await;
    assert_eq!(ws.greeting().await, "a");
    eventually("probes of a", || a.connections() > 5).await;
    assert_eq!(b.connections(), 0);
    proxy
        .reload(site(&[(&a, "disabled"), (&b, "active")], probes))
        .await;
    assert_eq!(listed(&proxy, "a").await["state"], "disabled");
    eventually("probes of b", || b.connections() > 5).await;
    let before = a.connections();
    eventually("more probes of b", || b.connections() > 20).await;
    assert!(a.connections() <= before + 1, "one may have been under way");
    ws.echo("still here").await;
    assert_eq!(proxy.get("/").await.text(), "b");
}

const TUNNELS: usize = 3_000;
/// A third of them.
const DRAINED: f64 = TUNNELS as f64 / 3.0;
const RATE: f64 = 100.0;
/// Each tunnel sends a message this often.
const BEAT: Duration = Duration::from_secs(5);

/// Talks until the tunnel ends or it is time to stop; whether it was closed. Every byte that comes
/// must belong to a frame that is due.
async fn talk(mut wire: Wire, number: usize, stop: Arc<AtomicBool>) -> bool {
    let text = format!("tunnel {number} says something");
    let first = Instant::now() + BEAT.mul_f64(number as f64 / TUNNELS as f64);
    let mut beat = tokio::time::interval_at(first.into(), BEAT);
    let mut due = 0;
    loop {
        tokio::select! {
            open = wire.readable() => assert!(open, "an end without Close"),
            _ = beat.tick() => {
                if due == 0 && stop.load(Ordering::Relaxed) {
                    return false;
                }
                wire.send(masked(Opcode::Text, true, text.as_bytes())).await;
                due += 1;
                continue;
            }
        }
        let frame = wire.frame().await;
        if frame.opcode == Opcode::Close {
            assert_eq!(frame.close_code(), Some(1012));
            wire.send(masked(Opcode::Close, true, &close_payload(1012)))
                .await;
            // Nothing behind the Close, and no reset.
            assert_eq!(wire.end().await, End::Eof);
            return true;
        }
        assert_eq!(
            (frame.opcode, frame.text(), frame.last),
            (Opcode::Text, &*text, true)
        );
        due -= 1;
    }
}

async fn open(address: &str) -> (Wire, String) {
    let mut wire = dial(address).await;
    wire.send(handshake("/", "localhost", "")).await;
    let head = wire.response_head().await;
    assert_eq!(head.status, 101, "{head:?}");
    let greeting = wire.frame().await;
    (wire, greeting.text().to_owned())
}

/// Over HTTP/1.1 alone: the pace is one for all tunnels, and the
/// smaller drains are over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_thousand_tunnels_of_which_a_third_is_drained_at_100_a_second() {
    let _alone = alone().await;
    raise_file_limit(3 * TUNNELS);
    let (a, b, c) = (
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    );
    let site = |of_b: &str| {
        let drain = "balance = 'round_robin'\ndrain = { rate = '100/s' }";
        let text = site(&[(&a, "active"), (&b, of_b), (&c, "active")], drain);
        text.replace("sticky = 'query:key'", "")
    };
    let proxy = Setup::new().beside().start(site("active")).await;
    let address = proxy.address("main").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..TUNNELS {
        let (wire, greeting) = open(&address).await;
        let (stop, of_b) = (Arc::clone(&stop), greeting == "hello from b");
        clients.spawn(async move { (of_b, talk(wire, number, stop).await) });
    }
    assert_eq!(proxy.tunnels_of("b").await as f64, DRAINED);

    proxy.reload(site("draining")).await;
    let begun = proxy
        .log
        .wait("draining a backend", &[("backend", "b")])
        .await;
    assert_eq!(begun.number("tunnels") as f64, DRAINED);
    let start = Instant::now();
    let mut samples = tokio::time::interval(Duration::from_millis(250));
    let mut worst: f64 = 0.0;
    let took = loop {
        samples.tick().await;
        let left = proxy.tunnels_of("b").await as f64;
        let passed = start.elapsed();
        let expected = (DRAINED - RATE * passed.as_secs_f64()).max(0.0);
        worst = worst.max((left - expected).abs());
        if left == 0.0 {
            break passed;
        }
        assert!(passed < Duration::from_secs(60), "{left} left");
    };
    println!("drained in {took:?}, at worst {worst} from the line");
    assert!(worst <= DRAINED / 10.0, "{worst} from the line");
    proxy
        .log
        .wait("backend is drained", &[("backend", "b")])
        .await;
    what_is_left_was_told(&proxy);
    assert_eq!(proxy.status().await["tunnels"], TUNNELS - DRAINED as usize);
    stop.store(true, Ordering::Relaxed);
    let all = tokio::time::timeout(3 * BEAT, clients.join_all()).await;
    for (of_b, closed) in all.expect("every client to come to an end") {
        assert_eq!(closed, of_b, "those of b, and no others");
    }
}

/// Every five seconds, and each time fewer, until the end was told.
fn what_is_left_was_told(proxy: &Proxy) {
    let told = proxy
        .log
        .all(|event| event.message == "still draining a backend" && event.text("backend") == "b");
    let mut left: Vec<f64> = told.iter().map(|it| it.number("tunnels") as f64).collect();
    left.insert(0, DRAINED);
    assert!(left.len() > 1, "nothing was told");
    assert!(
        left.is_sorted_by(|before, after| before > after),
        "{left:?}"
    );
    // Half of the time has passed at the first.
    assert!(
        (left[1] - DRAINED / 2.0).abs() <= DRAINED / 10.0,
        "{left:?}"
    );
}

/// A client that comes back as soon as it is closed, or refused, until it is time to stop.
async fn come_back(address: String, stop: Arc<AtomicBool>, connected: Arc<AtomicUsize>) {
    let stopped = async {
        eventually_stopped(&stop).await;
    };
    tokio::pin!(stopped);
    loop {
        let mut wire = dial(&address).await;
        wire.send(handshake("/", "localhost", "")).await;
        if wire.response_head().await.status == 503 {
            continue;
        }
        assert_eq!(wire.frame().await.opcode, Opcode::Text);
        connected.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            open = wire.readable() => assert!(open, "an end without Close"),
            () = &mut stopped => return,
        }
        assert_eq!(wire.frame().await.close_code(), Some(1012));
        connected.fetch_sub(1, Ordering::Relaxed);
        wire.send(masked(Opcode::Close, true, &close_payload(1012)))
            .await;
        wire.eof().await;
    }
}

async fn eventually_stopped(stop: &AtomicBool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
    }
}

/// No more than the rate, but for what a busy machine holds up for a moment and lets go at once.
fn keeps_the_cap(arrivals: &[Instant], rate: f64) {
    let late = Duration::from_millis(250);
    for (from, start) in arrivals.iter().enumerate() {
        for (to, end) in arrivals.iter().enumerate().skip(from) {
            let most = rate * (*end - *start + late).as_secs_f64() + 1.0;
            let count = (to - from) as f64;
            assert!(count <= most, "{count} in {:?}", *end - *start);
        }
    }
}

/// Over HTTP/1.1 alone: the pace is one for all tunnels, and the smaller
/// drains are over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deploy_whose_clients_come_back_never_passes_the_cap() {
    const CLIENTS: usize = 240;
    const CAP: f64 = 60.0;
    let _alone = alone().await;
    let backends = [
        Echo::start("a").await,
        Echo::start("b").await,
        Echo::start("c").await,
    ];
    let site = |draining: Option<usize>| {
        let state = |index| {
            if draining == Some(index) {
                "draining"
            } else {
                "active"
            }
        };
        let all: Vec<_> = backends
            .iter()
            .enumerate()
            .map(|(i, one)| (one, state(i)))
            .collect();
        // Far faster than the clients are let in again.
        let upstream = "balance = 'least_connections'\ndrain = { rate = '500/s' }\n\
                        admission = { handshake_rate = '60/s', queue_timeout = '5s' }";
        site(&all, upstream).replace("sticky = 'query:key'", "")
    };
    let proxy = Setup::new().beside().start(site(None)).await;
    let address = proxy.address("main").await;
    let (stop, connected) = (Arc::default(), Arc::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (stop, connected) = (Arc::clone(&stop), Arc::clone(&connected));
        clients.spawn(come_back(address.clone(), stop, connected));
    }
    let everybody = async |connected: &AtomicUsize| {
        eventually("everybody to be there", || {
            connected.load(Ordering::Relaxed) == CLIENTS
        })
        .await;
    };
    everybody(&connected).await;
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        let log = proxy.log.tail();
        proxy.reload(site(Some(index))).await;
        log.wait("backend is drained", &[("backend", name)]).await;
        everybody(&connected).await;
        assert_eq!(proxy.tunnels_of(name).await, 0);
    }
    proxy.reload(site(None)).await;
    stop.store(true, Ordering::Relaxed);
    soon("every client to come to an end", clients.join_all()).await;
    for backend in &backends {
        let arrivals = backend.arrivals();
        assert!(arrivals.len() > CLIENTS / 3, "{}", arrivals.len());
        keeps_the_cap(&arrivals, CAP);
    }
}
