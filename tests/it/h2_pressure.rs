//! Back pressure of each stream by itself: one that stalls costs a bounded amount of
//! memory, and the other streams of its connection nothing.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::h2::{open, ping_pong, site};
use crate::kit::h2::{H2, Stream};
use crate::kit::{Opcode, RawBackend, Setup, Site, Wire, masked};

/// How long nothing may pass until a stream counts as stalled.
const QUIET: Duration = Duration::from_millis(500);
/// How much longer the others may take beside a stalled stream than without, beside
/// what the machine makes of it.
const LATE: Duration = Duration::from_millis(250);
/// Of a frame that does not end while a test lasts.
const ENDLESS: u64 = 4_000_000_000;

/// The other tunnels of a connection.
struct Others {
    tunnels: Vec<(Stream, Wire)>,
    /// What a message both ways through each of them took with nothing beside.
    machine: Duration,
}

impl Others {
    async fn open(client: &H2, backend: &RawBackend) -> Self {
        let mut tunnels = Vec::new();
        for _ in 0..99 {
            tunnels.push(open(client, backend).await);
        }
        let mut others = Self {
            tunnels,
            machine: Duration::ZERO,
        };
        // The first messages are not like those that follow.
        others.round().await;
        others.machine = others.round().await;
        others
    }

    /// A message through each, one after the other, and one back.
    async fn round(&mut self) -> Duration {
        let start = Instant::now();
        for tunnel in &mut self.tunnels {
            ping_pong(tunnel, "beside a stalled stream").await;
        }
        start.elapsed()
    }

    async fn notice_nothing(&mut self) {
        let (machine, took) = (self.machine, self.round().await);
        println!("{took:?} beside a stalled stream, {machine:?} without");
        assert!(took < LATE + 2 * machine, "{took:?}, without {machine:?}");
    }
}

/// What one stopped backend leaves unread costs the others nothing, however small
/// the messages are.
#[tokio::test]
async fn tiny_messages_to_a_stopped_backend_leave_the_others_alone() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    let mut others = Others::open(&client, &backend).await;
    let (mut stream, mut server) = open(&client, &backend).await;
    let before = proxy.memory();
    // The backend reads nothing. Its socket takes some megabytes of messages first,
    // and then longhaul the window: thousands of them.
    let message = masked(Opcode::Text, true, b"a tiny message");
    let (mut messages, mut sent) = (0, 0);
    while let Ok(written) = timeout(QUIET, stream.write(&message[sent..])).await {
        sent = (sent + written.expect("to send")) % message.len();
        messages += usize::from(sent == 0);
    }
    let window = 64 * 1024 / message.len();
    assert!(messages > 1000 + window, "{messages}");
    others.notice_nothing().await;
    let grown = proxy.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown}");
    let bytes = server.take(messages * message.len()).await;
    assert!(bytes.chunks(message.len()).all(|one| one == message));
}

fn masked_header() -> Vec<u8> {
    [&[0x82, 255][..], &ENDLESS.to_be_bytes(), &[0; 4]].concat()
}

fn plain_header() -> Vec<u8> {
    [&[0x82, 127][..], &ENDLESS.to_be_bytes()].concat()
}

/// Sends until nothing more is taken; how much was.
async fn stuff(stream: &mut Stream) -> usize {
    let header = masked_header();
    stream.write_all(&header).await.expect("to send");
    let (block, mut sent) = (vec![0x55; 64 * 1024], header.len());
    loop {
        match timeout(QUIET, stream.write(&block)).await {
            Ok(written) => sent += written.expect("to send"),
            Err(_) if stream.is_stalled() => return sent,
            // The machine has much else to do.
            Err(_) => {}
        }
    }
}

async fn flood(server: &mut Wire) {
    server.send(plain_header()).await;
    server.send_until_stalled(QUIET).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_one_stream_has_the_others() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    let mut others = Others::open(&client, &backend).await;
    let (_stream, mut server) = open(&client, &backend).await;
    let before = proxy.memory();
    flood(&mut server).await;
    others.notice_nothing().await;
    let grown = proxy.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown}");
}

/// A backend that reads all the time, and never as fast as the client sends.
#[tokio::test]
async fn a_backend_that_never_catches_up_costs_no_more_than_one_that_stands() {
    const PASSED: usize = 64 << 20;
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    let (mut stream, mut server) = open(&client, &backend).await;
    let stalled = stuff(&mut stream).await;
    let before = proxy.memory();
    let block = vec![0x55; 64 * 1024];
    let sending = async {
        loop {
            stream.write_all(&block).await.expect("to send");
        }
    };
    let reading = async {
        for _ in 0..PASSED / block.len() {
            server.take(block.len()).await;
        }
    };
    tokio::select! {
        () = sending => {}
        () = reading => {}
    }
    let grown = proxy.memory().saturating_sub(before);
    assert!(grown < 1 << 20, "grew by {grown} behind {stalled}");
}

/// How much longhaul has grown for each of some streams that are stalled to the brim.
struct Grown {
    /// For the first of them: most of it is what their connection and the
    /// allocator have from then on, however many streams there are.
    first: u64,
    /// For all of them.
    each: u64,
}

/// How many are the first, and all.
const STREAMS: [u64; 2] = [32, 96];

impl Grown {
    async fn by(more: &str, up: bool, down: bool) -> Self {
        let backend = RawBackend::start().await;
        // What the allocator keeps for the next to ask is nobody's.
        let setup = Setup::new().after("export MIMALLOC_PURGE_DELAY=0");
        let proxy = setup.start(Site::one(backend.address()).more(more)).await;
        let client = proxy.h2().await;
        let mut tunnels = Vec::new();
        for _ in 0..STREAMS[1] {
            let mut tunnel = open(&client, &backend).await;
            // What every stream has once it was used is not what stalls.
            ping_pong(&mut tunnel, "before").await;
            tunnels.push(tunnel);
        }
        let before = proxy.memory();
        let grown = |count: u64| proxy.memory().saturating_sub(before) / count;
        let others = tunnels.split_off(STREAMS[0] as usize);
        let _first = stall(tunnels, up, down).await;
        let first = grown(STREAMS[0]);
        let _others = stall(others, up, down).await;
        let each = grown(STREAMS[1]);
        println!("{first}, {each} bytes a stream");
        Self { first, each }
    }
}

/// Has neither side read what the other sends, until nothing more is taken.
async fn stall(tunnels: Vec<(Stream, Wire)>, up: bool, down: bool) -> Vec<(Stream, Wire)> {
    let mut stalled = JoinSet::new();
    for (mut stream, mut server) in tunnels {
        stalled.spawn(async move {
            let sending = async {
                if up {
                    stuff(&mut stream).await;
                }
            };
            let answering = async {
                if down {
                    flood(&mut server).await;
                }
            };
            tokio::join!(sending, answering);
            (stream, server)
        });
    }
    stalled.join_all().await
}

/// Beyond the window at most 64 KiB, and by default 256 KiB in all.
#[tokio::test]
async fn a_stalled_stream_costs_its_window_and_little_more() {
    for (window, of_first, of_each) in [("4KiB", 4 + 64, 4 + 64), ("64KiB", 256, 64 + 64)] {
        let more = format!("[http2]\nstream_window = '{window}'");
        let Grown { first, each } = Grown::by(&more, true, false).await;
        assert!(first <= of_first << 10, "{window}: {first} bytes a stream");
        assert!(each <= of_each << 10, "{window}: {each} bytes a stream");
    }
}

#[tokio::test]
async fn a_stream_that_is_stalled_both_ways_costs_at_most_256_kib() {
    let Grown { first, each } = Grown::by("", true, true).await;
    for bytes in [first, each] {
        assert!(bytes <= 256 << 10, "{bytes} bytes a stream");
    }
}
