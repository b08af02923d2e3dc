//! Attackers that say nothing, or never enough, and wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::ground::{Ground, drain};
use crate::kit::handshake;

/// `first_byte_timeout` and `tls_handshake_timeout` of the ground.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between the accept and what is measured here.
const COARSE: Duration = Duration::from_millis(500);
const MANY: usize = 10_000;
const FEWER: usize = 1_000;
/// Of those who send a little again and again.
const DRIP: Duration = Duration::from_millis(200);

/// Who connects and says nothing is closed after `first_byte_timeout`.
pub async fn connect(ground: Arc<Ground>) {
    hold(&ground, &ground.plain, MANY, b"").await;
}

/// Who begins a TLS handshake and stops is closed after `tls_handshake_timeout`.
pub async fn half_hellos(ground: Arc<Ground>) {
    let half = &ground.hello[..ground.hello.len() / 2];
    hold(&ground, &ground.tls, MANY, half).await;
}

/// Opens as many connections, says this on each, and waits until longhaul has
/// closed every one.
async fn hold(ground: &Ground, address: &str, count: usize, first: &[u8]) {
    let mut held = Vec::new();
    for number in 0..count {
        let mut stream = ground.connect(address, number).await;
        // It may be closed already.
        let _ = stream.write_all(first).await;
        held.push(stream);
    }
    let last = Instant::now();
    for mut stream in held {
        drain(&mut stream).await;
    }
    // None is refused: each has its time, the last as the first.
    let (lasted, given) = (last.elapsed(), DEADLINE - COARSE);
    assert!(lasted > given, "the last is closed after {lasted:?}");
}

/// A byte of a head at a time is no progress: all of it has one deadline.
pub async fn slow_heads(ground: Arc<Ground>) {
    drip(
        &ground,
        FEWER,
        "GET /fixed HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    )
    .await;
}

/// Nor is a byte of a body, once there is none for `request_body_timeout`.
pub async fn slow_bodies(ground: Arc<Ground>) {
    let head = "POST /deaf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    drip(&ground, FEWER / 2, head).await;
}

/// Begins as many requests, adds bytes for three seconds, and leaves.
async fn drip(ground: &Ground, count: usize, first: &str) {
    let mut held = Vec::new();
    for number in 0..count {
        let mut stream = ground.connect(&ground.plain, number).await;
        stream.write_all(first.as_bytes()).await.expect("to send");
        held.push(stream);
    }
    let mut ticks = interval(DRIP);
    for _ in 0..15 {
        ticks.tick().await;
        for stream in &mut held {
            // Most are closed in the meantime.
            let _ = stream.try_write(b"x");
        }
    }
}

/// Who has ended its half and stays: before a request, within one, and in a tunnel.
pub async fn half_open(ground: Arc<Ground>) {
    let mut held = JoinSet::new();
    for number in 0..FEWER {
        let ground = Arc::clone(&ground);
        held.spawn(async move {
            let asked = handshake("/", "localhost", "");
            let silent = ended(&ground, number, b"").await;
            let within = ended(&ground, FEWER + number, &asked.as_bytes()[..40]).await;
            let tunnel = ended(&ground, 2 * FEWER + number, asked.as_bytes()).await;
            for mut stream in [silent, within, tunnel] {
                drain(&mut stream).await;
            }
        });
    }
    held.join_all().await;
}

async fn ended(ground: &Ground, number: usize, first: &[u8]) -> TcpStream {
    let mut stream = ground.connect(&ground.plain, number).await;
    stream.write_all(first).await.expect("to send");
    stream.shutdown().await.expect("to end");
    stream
}
