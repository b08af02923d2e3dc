//! Back pressure of each stream by itself: one that stalls costs a bounded amount of
//! memory, and the other streams of its connection nothing.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::h2::{open, ping_pong, site};
use crate::kit::h2::Stream;
use crate::kit::{RawBackend, Setup, Site, Wire};

/// How long nothing may pass until a stream counts as stalled.
const QUIET: Duration = Duration::from_millis(500);
/// Of a frame that does not end while a test lasts.
const ENDLESS: u64 = 4_000_000_000;

/// What one stopped backend leaves unread costs the others nothing, however small
/// its pieces are.
#[tokio::test]
async fn tiny_messages_to_a_stopped_backend_leave_the_others_alone() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(open(&client, &backend).await);
    }
    let (mut stream, mut server) = open(&client, &backend).await;
    let before = proxy.memory();
    // The backend reads nothing: one frame of 4 GB in pieces of 20 bytes. Its
    // socket takes some megabytes first, and then longhaul the window.
    let header = masked_header();
    stream.write_all(&header).await.expect("to send");
    let mut tiny = 0;
    while let Ok(sent) = tokio::time::timeout(QUIET, stream.write(&[7; 20])).await {
        tiny += sent.expect("to send");
    }
    assert!(tiny > 20 * 1000, "{tiny}");
    for other in &mut others {
        ping_pong(other, "beside tiny messages").await;
    }
    let grown = proxy.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown}");
    server.take(header.len() + tiny).await;
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
    while let Ok(written) = tokio::time::timeout(QUIET, stream.write(&block)).await {
        sent += written.expect("to send");
    }
    sent
}

async fn flood(server: &mut Wire) {
    server.send(plain_header()).await;
    server.send_until_stalled(QUIET).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_one_stream_has_the_others() {
    let (proxy, backend) = site("", "").await;
    let client = proxy.h2().await;
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(open(&client, &backend).await);
    }
    let (_stream, mut server) = open(&client, &backend).await;
    let before = proxy.memory();
    flood(&mut server).await;
    for other in &mut others {
        ping_pong(other, "beside what nobody reads").await;
    }
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

/// Streams that are stalled to the brim, and how much longhaul has grown for each.
async fn grown(more: &str, up: bool, down: bool) -> u64 {
    const STREAMS: u64 = 32;
    let backend = RawBackend::start().await;
    // What the allocator keeps for the next to ask is nobody's.
    let setup = Setup::new().after("export MIMALLOC_PURGE_DELAY=0");
    let proxy = setup.start(Site::one(backend.address()).more(more)).await;
    let client = proxy.h2().await;
    let mut tunnels = Vec::new();
    for _ in 0..STREAMS {
        let mut tunnel = open(&client, &backend).await;
        // What every stream has once it was used is not what stalls.
        ping_pong(&mut tunnel, "before").await;
        tunnels.push(tunnel);
    }
    let before = proxy.memory();
    let mut stalled = JoinSet::new();
    for (mut stream, mut server) in tunnels {
        // Neither reads what the other sends.
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
    let _open = stalled.join_all().await;
    proxy.memory().saturating_sub(before) / STREAMS
}

#[tokio::test]
async fn a_stalled_stream_costs_its_window_and_little_more() {
    for (window, kib) in [("4KiB", 4 + 64), ("64KiB", 256)] {
        let more = format!("[http2]\nstream_window = '{window}'");
        let each = grown(&more, true, false).await;
        assert!(each <= kib << 10, "{window}: {each} bytes a stream");
    }
}

#[tokio::test]
async fn a_stream_that_is_stalled_both_ways_costs_at_most_256_kib() {
    let each = grown("", true, true).await;
    assert!(each <= 256 << 10, "{each} bytes a stream");
}
