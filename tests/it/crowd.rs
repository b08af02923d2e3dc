//! The promise longhaul is made for: 2,000 live tunnels do not notice 136 reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::kit::{
    Echo, Opcode, Proxy, Setup, Site, Wire, alone, dial, handshake, masked, raise_file_limit,
};

const TUNNELS: u64 = 2_000;
const RELOADS: u64 = 136;
/// Connections that go to the backend directly: what they suffer is the machine's doing.
const CONTROLS: u64 = 50;
/// Each tunnel sends a message this often.
const BEAT: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_millis(250);
/// With no message later than this where longhaul is not in between, the machine has no
/// part in what is late.
const QUIET: Duration = Duration::from_millis(25);

/// What all tunnels have seen so far.
#[derive(Default)]
struct Seen {
    echoes: AtomicU64,
    slowest_micros: AtomicU64,
    stop: AtomicBool,
}

/// Other routes and upstreams come, change and go with every generation.
fn site(backends: &[&Echo], generation: u64) -> Site {
    let entries: Vec<_> = backends.iter().map(|one| one.entry()).collect();
    let mut site = Site::of(&entries)
        .route("path = '/live'")
        .upstream("balance = 'round_robin'");
    for n in generation % 5..generation % 5 + 10 {
        site = site.more(&format!(
            "[[routes]]\nname = 'other-{n}'\nhost = 'other-{n}.test'\n\
             idle_timeout = '{}s'\nupstream = 'other-{n}'\n[upstreams.other-{n}]\n\
             backends = [{{ name = 'o{generation}', address = '127.0.0.1:9' }}]\n",
            generation + 1
        ));
    }
    site
}

async fn open(address: &str) -> Wire {
    let mut wire = dial(address).await;
    wire.send(handshake("/live", "localhost", "")).await;
    assert_eq!(wire.response_head().await.status, 101);
    assert!(wire.frame().await.text().starts_with("hello from "));
    wire
}

/// Sends numbered messages and wants each back, in order, once, in time.
async fn live(mut wire: Wire, tunnel: u64, seen: Arc<Seen>) -> u64 {
    // Spread over the beat, so that it is a load and not a burst.
    let first = tokio::time::Instant::now() + BEAT.mul_f64(tunnel as f64 / TUNNELS as f64);
    let mut beats = tokio::time::interval_at(first, BEAT);
    let mut number = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        beats.tick().await;
        number += 1;
        let text = format!("tunnel {tunnel} message {number}");
        let start = Instant::now();
        wire.send(masked(Opcode::Text, true, text.as_bytes())).await;
        let frame = wire.frame().await;
        assert_eq!((frame.opcode, frame.text()), (Opcode::Text, text.as_str()));
        let micros = start.elapsed().as_micros() as u64;
        seen.slowest_micros.fetch_max(micros, Ordering::Relaxed);
        seen.echoes.fetch_add(1, Ordering::Relaxed);
    }
    // Nothing doubled is waiting behind the last one.
    wire.send(masked(Opcode::Close, true, &1000_u16.to_be_bytes()))
        .await;
    assert_eq!(wire.frame().await.opcode, Opcode::Close);
    number
}

/// Edits, adds and removes other routes; gives the resident memory after the 20th time.
async fn reload_all(proxy: &Proxy, backends: &[&Echo]) -> u64 {
    let mut after_20 = 0;
    for generation in 1..=RELOADS {
        let event = proxy.reload(site(backends, generation)).await;
        assert_eq!(event.number("generation"), generation + 1);
        if generation == 20 {
            after_20 = proxy.memory();
        }
    }
    after_20
}

/// Over HTTP/1.1 alone: `h2_abuse` has a crowd on HTTP/2, and tests/apps
/// a reload with sockets of browsers on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_tunnels_through_136_reloads() {
    let _alone = alone().await;
    raise_file_limit(3 * TUNNELS as usize);
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let backends = [&one, &two];
    let proxy = Setup::new().beside().start(site(&backends, 0));
    let proxy: Proxy = proxy.await;
    let address = proxy.address("main").await;
    let seen = Arc::new(Seen::default());
    let mut wires = Vec::new();
    for _ in 0..TUNNELS {
        wires.push(open(&address).await);
    }
    let mut tunnels = JoinSet::new();
    for (tunnel, wire) in (0..).zip(wires) {
        tunnels.spawn(live(wire, tunnel, seen.clone()));
    }
    let control = Arc::new(Seen::default());
    let mut controls = JoinSet::new();
    for number in 0..CONTROLS {
        let wire = open(one.address()).await;
        controls.spawn(live(wire, number * TUNNELS / CONTROLS, control.clone()));
    }
    assert_eq!(proxy.status().await["tunnels"], TUNNELS);
    let pid = proxy.pid();

    let after_20 = reload_all(&proxy, &backends).await;
    let at_the_end = proxy.memory();

    // Every tunnel must have beaten since the last reload.
    let so_far = seen.echoes.load(Ordering::Relaxed);
    crate::kit::eventually("one more round of echoes", || {
        seen.echoes.load(Ordering::Relaxed) >= so_far + 2 * TUNNELS
    })
    .await;
    assert_eq!(proxy.status().await["tunnels"], TUNNELS);
    assert_eq!(
        proxy
            .log
            .all(|event| event.message == "tunnel closed")
            .len(),
        0
    );
    seen.stop.store(true, Ordering::Relaxed);
    control.stop.store(true, Ordering::Relaxed);
    controls.join_all().await;
    let messages: u64 = tunnels.join_all().await.into_iter().sum();
    assert_eq!(
        messages,
        seen.echoes.load(Ordering::Relaxed),
        "each message came back once"
    );

    let slowest = Duration::from_micros(seen.slowest_micros.load(Ordering::Relaxed));
    println!("{messages} messages, slowest {slowest:?}, RSS {after_20} -> {at_the_end}");
    let machine = Duration::from_micros(control.slowest_micros.load(Ordering::Relaxed));
    println!("slowest without longhaul {machine:?}");
    // An echo through longhaul has twice as many hops on which to wait for a core.
    let allowed = match machine < QUIET {
        true => LATE,
        false => LATE + 2 * machine,
    };
    assert!(
        slowest < allowed,
        "the slowest echo took {slowest:?}, without longhaul {machine:?}"
    );
    assert!(proxy.running());
    assert_eq!(proxy.pid(), pid);
    let (least, most) = (after_20 as f64 * 0.98, after_20 as f64 * 1.02);
    assert!(
        (least..=most).contains(&(at_the_end as f64)),
        "resident memory from {after_20} to {at_the_end} bytes"
    );
}
