//! The tunnels of others: a thousand clients, with and without TLS, that have a message
//! echoed every second, and some that go to the backend directly; they and their backend
//! on a thread of their own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::interval_at;

use crate::ground::Proxied;
use crate::kit::{Echo, Opcode, TlsClient, Wire, dial, eventually, handshake, masked};
use crate::place;

pub const TUNNELS: u64 = 1_000;
/// One of as many comes over TLS.
const SECURE: u64 = 5;
/// What these suffer is the machine's doing.
const DIRECT: u64 = 200;
const BEAT: Duration = Duration::from_secs(1);

/// Those whose backend is there.
pub struct Arrived {
    backend: String,
    seen: Arc<Seen>,
    go: oneshot::Sender<(Places, oneshot::Sender<()>)>,
    thread: JoinHandle<()>,
}

/// Those who have their tunnels.
pub struct Crowd {
    seen: Arc<Seen>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    through: Mutex<Vec<Duration>>,
    direct: Mutex<Vec<Duration>>,
    echoes: AtomicU64,
    stop: AtomicBool,
}

/// Where its members connect.
struct Places {
    plain: String,
    tls: String,
    client: TlsClient,
    backend: String,
}

/// What some time has brought.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// The 99th of a hundred echoes, through longhaul.
    pub through: Duration,
    pub direct: Duration,
}

impl Arrived {
    pub fn backend(&self) -> &str {
        &self.backend
    }

    pub async fn gather(self, proxied: &Proxied) -> Crowd {
        let (all, gathered) = oneshot::channel();
        let places = Places {
            plain: proxied.ground.plain.clone(),
            tls: proxied.ground.tls.clone(),
            client: proxied.client.clone(),
            backend: self.backend,
        };
        assert!(self.go.send((places, all)).is_ok(), "a crowd that waits");
        gathered.await.expect("every tunnel");
        Crowd {
            seen: self.seen,
            thread: self.thread,
        }
    }
}

impl Crowd {
    pub async fn arrive() -> Arrived {
        let seen = Arc::new(Seen::default());
        let theirs = Arc::clone(&seen);
        let (is, place) = oneshot::channel();
        let (go, gone) = oneshot::channel();
        let thread = thread::spawn(move || {
            place::first();
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let echo = Echo::start("a").await;
                is.send(echo.address().to_owned())
                    .expect("someone who waits");
                let (places, all) = gone.await.expect("places");
                live(places, theirs, all).await;
            });
        });
        Arrived {
            backend: place.await.expect("a backend"),
            seen,
            go,
            thread,
        }
    }

    /// Waits until every tunnel has had its echo, and twice.
    pub async fn two_rounds(&self) {
        let so_far = self.seen.echoes.load(Ordering::Relaxed);
        let enough = || self.seen.echoes.load(Ordering::Relaxed) >= so_far + 2 * TUNNELS;
        eventually("two rounds of echoes", || {
            enough() || self.thread.is_finished()
        })
        .await;
        assert!(!self.thread.is_finished(), "a tunnel of others is lost");
    }

    /// Of all echoes since it was asked last.
    pub fn latency(&self) -> Latency {
        let p99 = |times: &Mutex<Vec<Duration>>| {
            let mut times = std::mem::take(&mut *times.lock().expect("no panic"));
            times.sort_unstable();
            times
                .get(times.len() * 99 / 100)
                .copied()
                .unwrap_or_default()
        };
        Latency {
            through: p99(&self.seen.through),
            direct: p99(&self.seen.direct),
        }
    }

    /// Ends every tunnel; each has all that it sent.
    pub async fn leave(self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        eventually("the crowd to leave", || self.thread.is_finished()).await;
        self.thread.join().expect("no tunnel of others to be lost");
    }
}

async fn live(places: Places, seen: Arc<Seen>, all: oneshot::Sender<()>) {
    let Places {
        plain,
        tls,
        client,
        backend,
    } = places;
    let mut tunnels = Vec::new();
    for number in 0..TUNNELS {
        let wire = match number % SECURE {
            0 => client.connect(&tls, "localhost").await.expect("TLS"),
            _ => dial(&plain).await,
        };
        tunnels.push(open(wire).await);
    }
    for _ in 0..DIRECT {
        tunnels.push(open(dial(&backend).await).await);
    }
    all.send(()).expect("someone who waits");
    let count = tunnels.len();
    let mut lives = JoinSet::new();
    for (number, stream) in tunnels.into_iter().enumerate() {
        let seen = Arc::clone(&seen);
        // Spread over the beat, so that it is a load and not a burst.
        let share = (number * 7 % count) as f64 / count as f64;
        lives.spawn(talk(stream, number as u64, share, seen));
    }
    while let Some(life) = lives.join_next().await {
        life.expect("no tunnel of others to be lost");
    }
}

/// A tunnel whose backend has greeted.
async fn open(mut wire: Wire) -> Wire {
    wire.send(handshake("/good", "localhost", "")).await;
    assert_eq!(wire.response_head().await.status, 101);
    assert_eq!(&wire.take(14).await[2..], b"hello from a");
    wire
}

async fn talk(mut wire: Wire, number: u64, share: f64, seen: Arc<Seen>) {
    let first = tokio::time::Instant::now() + BEAT.mul_f64(share);
    let mut beats = interval_at(first, BEAT);
    let times = if number < TUNNELS {
        &seen.through
    } else {
        &seen.direct
    };
    let mut turn = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        beats.tick().await;
        turn += 1;
        let message = format!("tunnel {number} message {turn}");
        let start = Instant::now();
        let frame = masked(Opcode::Text, true, message.as_bytes());
        wire.send(frame).await;
        let back = wire.take(2 + message.len()).await;
        assert_eq!(&back[2..], message.as_bytes());
        times.lock().expect("no panic").push(start.elapsed());
        if number < TUNNELS {
            seen.echoes.fetch_add(1, Ordering::Relaxed);
        }
    }
    // Its port is free at once.
    wire.abort();
}
