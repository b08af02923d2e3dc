//! The promise longhaul is made for: 2,000 live tunnels do not notice 136 reloads,
//! nor do 500 on ten connections of HTTP/2 notice 20.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::kit::{
    Echo, Opcode, Over, Proxy, Setup, Site, alone, dial, handshake, masked, over_each,
    raise_file_limit, soon,
};

over_each!(
    on two threads:
    live_tunnels_notice_no_reload,
);

/// How much there is of each.
#[derive(Clone, Copy)]
struct Scale {
    tunnels: u64,
    reloads: u64,
    /// After as many the memory stays as it is.
    settled: u64,
}

impl Scale {
    fn of(over: Over) -> Self {
        match over {
            Over::Http1 => Self {
                tunnels: 2_000,
                reloads: 136,
                settled: 20,
            },
            Over::Http2 => Self {
                tunnels: 500,
                reloads: 20,
                settled: 10,
            },
        }
    }
}

/// Tunnels of one connection of HTTP/2.
const TOGETHER: u64 = 50;
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

/// A byte stream to a backend, whatever carries it.
trait Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Channel for T {}

async fn open(address: &str) -> Box<dyn Channel> {
    let mut wire = dial(address).await;
    wire.send(handshake("/live", "localhost", "")).await;
    assert_eq!(wire.response_head().await.status, 101);
    assert!(wire.frame().await.text().starts_with("hello from "));
    let (transport, ahead) = wire.into_parts();
    assert!(ahead.is_empty(), "{ahead:?}");
    Box::new(transport)
}

/// As many tunnels through longhaul.
async fn gather(proxy: &Proxy, over: Over, tunnels: u64) -> Vec<Box<dyn Channel>> {
    let mut gathered: Vec<Box<dyn Channel>> = Vec::new();
    if over == Over::Http1 {
        let address = proxy.address("main").await;
        for _ in 0..tunnels {
            gathered.push(open(&address).await);
        }
        return gathered;
    }
    for _ in 0..tunnels / TOGETHER {
        let client = proxy.h2().await;
        for _ in 0..TOGETHER {
            let mut stream = client.connect("/live", "localhost", &[]);
            assert_eq!(stream.status().await, 200);
            assert!(text(&mut stream, GREETING).await.starts_with("hello from "));
            gathered.push(Box::new(stream));
        }
    }
    gathered
}

/// Of both backends.
const GREETING: usize = "hello from one".len();

/// The text of the next message, of as many bytes.
async fn text(channel: &mut (impl AsyncRead + Unpin), length: usize) -> String {
    let mut frame = vec![0; 2 + length];
    soon("a message", channel.read_exact(&mut frame))
        .await
        .expect("a message");
    assert_eq!(frame[..2], [0x81, length as u8], "one frame of text");
    String::from_utf8(frame.split_off(2)).expect("UTF-8")
}

/// Sends numbered messages and wants each back, in order, once, in time. The first
/// comes after `share` of the beat.
async fn live(mut channel: Box<dyn Channel>, tunnel: u64, share: f64, seen: Arc<Seen>) -> u64 {
    // Spread over the beat, so that it is a load and not a burst.
    let first = tokio::time::Instant::now() + BEAT.mul_f64(share);
    let mut beats = tokio::time::interval_at(first, BEAT);
    let mut number = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        beats.tick().await;
        number += 1;
        let message = format!("tunnel {tunnel} message {number}");
        let start = Instant::now();
        send(&mut channel, Opcode::Text, message.as_bytes()).await;
        assert_eq!(text(&mut channel, message.len()).await, message);
        let micros = start.elapsed().as_micros() as u64;
        seen.slowest_micros.fetch_max(micros, Ordering::Relaxed);
        seen.echoes.fetch_add(1, Ordering::Relaxed);
    }
    // Nothing doubled is waiting behind the last one.
    send(&mut channel, Opcode::Close, &1000_u16.to_be_bytes()).await;
    let mut close = [0; 2];
    soon("a Close frame", channel.read_exact(&mut close))
        .await
        .expect("a Close frame");
    assert_eq!(close[0], 0x88, "{close:?}");
    number
}

async fn send(channel: &mut Box<dyn Channel>, opcode: Opcode, payload: &[u8]) {
    let frame = masked(opcode, true, payload);
    soon("to send", channel.write_all(&frame))
        .await
        .expect("to send");
}

/// Edits, adds and removes other routes; gives the resident memory after it has
/// settled.
async fn reload_all(proxy: &Proxy, backends: &[&Echo], scale: Scale) -> u64 {
    let mut settled = 0;
    for generation in 1..=scale.reloads {
        let event = proxy.reload(site(backends, generation)).await;
        assert_eq!(event.number("generation"), generation + 1);
        if generation == scale.settled {
            settled = proxy.memory();
        }
    }
    settled
}

async fn live_tunnels_notice_no_reload(over: Over) {
    let _alone = alone().await;
    let scale = Scale::of(over);
    let count = scale.tunnels;
    raise_file_limit(3 * count as usize);
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let backends = [&one, &two];
    let proxy: Proxy = Setup::new().beside().start(site(&backends, 0)).await;
    let seen = Arc::new(Seen::default());
    let mut tunnels = JoinSet::new();
    for (tunnel, channel) in (0..).zip(gather(&proxy, over, count).await) {
        let share = tunnel as f64 / count as f64;
        tunnels.spawn(live(channel, tunnel, share, seen.clone()));
    }
    let control = Arc::new(Seen::default());
    let mut controls = JoinSet::new();
    for number in 0..CONTROLS {
        let channel = open(one.address()).await;
        let share = number as f64 / CONTROLS as f64;
        controls.spawn(live(channel, number, share, control.clone()));
    }
    assert_eq!(proxy.status().await["tunnels"], count);
    let pid = proxy.pid();

    let settled = reload_all(&proxy, &backends, scale).await;
    let at_the_end = proxy.memory();

    // Every tunnel must have beaten since the last reload.
    let so_far = seen.echoes.load(Ordering::Relaxed);
    crate::kit::eventually("one more round of echoes", || {
        seen.echoes.load(Ordering::Relaxed) >= so_far + 2 * count
    })
    .await;
    assert_eq!(proxy.status().await["tunnels"], count);
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
    in_time(&seen, &control);
    println!("{messages} messages, RSS {settled} -> {at_the_end}");
    assert!(proxy.running());
    assert_eq!(proxy.pid(), pid);
    let (least, most) = (settled as f64 * 0.98, settled as f64 * 1.02);
    assert!(
        (least..=most).contains(&(at_the_end as f64)),
        "resident memory from {settled} to {at_the_end} bytes"
    );
}

fn in_time(seen: &Seen, control: &Seen) {
    let slowest = Duration::from_micros(seen.slowest_micros.load(Ordering::Relaxed));
    let machine = Duration::from_micros(control.slowest_micros.load(Ordering::Relaxed));
    println!("slowest {slowest:?}, without longhaul {machine:?}");
    // An echo through longhaul has twice as many hops on which to wait for a core.
    let allowed = match machine < QUIET {
        true => LATE,
        false => LATE + 2 * machine,
    };
    assert!(
        slowest < allowed,
        "the slowest echo took {slowest:?}, without longhaul {machine:?}"
    );
}
