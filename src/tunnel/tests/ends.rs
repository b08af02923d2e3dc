//! Each way in which a tunnel can end: who, why, and what both sides see.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use super::wire::{Chaos, wire};
use super::*;

/// Both far ends of a tunnel over in-memory streams.
struct Ends {
    client: DuplexStream,
    backend: DuplexStream,
    tunnel: Arc<Tunnel>,
    outcome: JoinHandle<Outcome>,
    _registry: Arc<Registry>,
}

fn tunnel(options: &Options) -> Ends {
    let registry = registry();
    let (client, near_client) = duplex(1 << 20);
    let (backend, near_backend) = duplex(1 << 20);
    let (tunnel, outcome) = start(&registry, options, near_client, near_backend);
    Ends {
        client,
        backend,
        tunnel,
        outcome,
        _registry: registry,
    }
}

const HELLO: &[u8] = &[0x81, 0x02, b'h', b'i'];
const CLOSE_1000: &[u8] = &[0x88, 0x02, 0x03, 0xe8];
const CLOSE_1012_BYE: &[u8] = &[0x88, 0x05, 0x03, 0xf4, b'b', b'y', b'e'];

/// Whether between so many seconds have passed since `start`.
fn assert_within(start: Instant, least: f64, most: f64) {
    let passed = start.elapsed().as_secs_f64();
    assert!((least..most).contains(&passed), "{passed} s");
}

async fn expect(stream: &mut DuplexStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(read, bytes);
}

async fn expect_end(stream: &mut DuplexStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_and_ends_of_stream_follow_them() {
    let mut ends = tunnel(&options(Framing::WebSocket));
    ends.client.write_all(HELLO).await.unwrap();
    expect(&mut ends.backend, HELLO).await;
    ends.client.shutdown().await.unwrap();
    expect_end(&mut ends.backend).await;
    assert_eq!(ends.tunnel.state(), State::HalfClosed);
    ends.backend.write_all(HELLO).await.unwrap();
    ends.backend.write_all(HELLO).await.unwrap();
    ends.backend.shutdown().await.unwrap();
    expect(&mut ends.client, &[HELLO, HELLO].concat()).await;
    expect_end(&mut ends.client).await;
    let outcome = ends.outcome.await.unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Client, Cause::Eof)
    );
    assert_eq!((outcome.bytes_in, outcome.bytes_out), (4, 8));
    assert_eq!((outcome.messages_in, outcome.messages_out), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_drain_says_close_to_both_and_waits_for_their_answers() {
    let mut ends = tunnel(&options(Framing::WebSocket));
    assert!(ends.tunnel.close(Arc::new(drain(Some(1012)))));
    expect(&mut ends.client, CLOSE_1012_BYE).await;
    let mut masked = [0; 11];
    ends.backend.read_exact(&mut masked).await.unwrap();
    assert_eq!(masked[..2], [0x88, 0x85]);

    ends.client.write_all(CLOSE_1000).await.unwrap();
    expect_end(&mut ends.client).await;
    ends.client.shutdown().await.unwrap();
    ends.backend.write_all(CLOSE_1000).await.unwrap();
    ends.backend.shutdown().await.unwrap();
    expect_end(&mut ends.backend).await;
    let start = Instant::now();
    let outcome = ends.outcome.await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(100));
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Longhaul, Cause::Drain)
    );
    assert_eq!(
        (outcome.client_close_code, outcome.backend_close_code),
        (Some(1000), Some(1000))
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_in_flight_is_finished_before_the_close() {
    let mut ends = tunnel(&options(Framing::WebSocket));
    let (begun, done) = ([0x01, 0x04, b'a', b'b'], [b'c', b'd', 0x80, 0x01, b'e']);
    ends.backend.write_all(&begun).await.unwrap();
    expect(&mut ends.client, &begun).await;
    ends.tunnel.close(Arc::new(drain(Some(1012))));
    sleep(Duration::from_secs(2)).await;
    ends.backend
        .write_all(&[&done, HELLO].concat())
        .await
        .unwrap();
    expect(&mut ends.client, &done).await;
    expect(&mut ends.client, CLOSE_1012_BYE).await;
    ends.client.write_all(CLOSE_1000).await.unwrap();
    expect_end(&mut ends.client).await;
    drop((ends.client, ends.backend));
    let outcome = ends.outcome.await.unwrap();
    assert_eq!((outcome.cause, outcome.messages_out), (Cause::Drain, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_finishes_gets_a_plain_end() {
    let mut ends = tunnel(&options(Framing::WebSocket));
    let begun = [0x01, 0x04, b'a', b'b'];
    ends.backend.write_all(&begun).await.unwrap();
    expect(&mut ends.client, &begun).await;
    ends.tunnel.close(Arc::new(drain(Some(1012))));
    let start = Instant::now();
    expect_end(&mut ends.client).await;
    assert_within(start, 5.0, 5.3);
    let outcome = ends.outcome.await.unwrap();
    assert_within(start, 6.0, 6.5);
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Longhaul, Cause::Drain)
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_code_or_without_frames_no_close_is_said() {
    for (framing, code) in [(Framing::WebSocket, None), (Framing::Opaque, Some(1012))] {
        let mut ends = tunnel(&options(framing));
        ends.client.write_all(HELLO).await.unwrap();
        expect(&mut ends.backend, HELLO).await;
        ends.tunnel.close(Arc::new(drain(code)));
        expect_end(&mut ends.client).await;
        expect_end(&mut ends.backend).await;
        drop((ends.client, ends.backend));
        assert_eq!(ends.outcome.await.unwrap().cause, Cause::Drain);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_cursor_gets_a_plain_end() {
    let mut ends = tunnel(&options(Framing::WebSocket));
    ends.client.write_all(&[0x09, 0x00]).await.unwrap();
    expect(&mut ends.backend, &[0x09, 0x00]).await;
    ends.tunnel.close(Arc::new(drain(Some(1012))));
    expect_end(&mut ends.client).await;
    expect_end(&mut ends.backend).await;
}

#[tokio::test(start_paused = true)]
async fn the_peers_own_closing_handshake_passes_untouched() {
    let mut ends = tunnel(&options(Framing::WebSocket));
    ends.client.write_all(CLOSE_1000).await.unwrap();
    expect(&mut ends.backend, CLOSE_1000).await;
    // The answer that the backend owes is its own, even when a drain comes.
    ends.tunnel.close(Arc::new(drain(Some(1012))));
    sleep(Duration::from_secs(1)).await;
    ends.backend.write_all(HELLO).await.unwrap();
    ends.backend.write_all(CLOSE_1000).await.unwrap();
    ends.backend.shutdown().await.unwrap();
    expect(&mut ends.client, &[HELLO, CLOSE_1000].concat()).await;
    expect_end(&mut ends.client).await;
    drop(ends.client);
    expect_end(&mut ends.backend).await;
    let outcome = ends.outcome.await.unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Client, Cause::Close(Some(1000)))
    );
    assert_eq!(outcome.backend_close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_finished_handshake_without_an_end_of_stream_is_cut_by_the_close_timeout() {
    let mut ends = tunnel(&options(Framing::WebSocket));
    ends.backend.write_all(&[0x88, 0x00]).await.unwrap();
    expect(&mut ends.client, &[0x88, 0x00]).await;
    ends.client.write_all(&[0x88, 0x00]).await.unwrap();
    let start = Instant::now();
    let outcome = ends.outcome.await.unwrap();
    assert_within(start, 6.0, 6.5);
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Backend, Cause::Close(None))
    );
}

#[tokio::test(start_paused = true)]
async fn one_side_that_does_not_follow_is_cut_by_the_half_close_timeout() {
    for close in [true, false] {
        let mut ends = tunnel(&options(Framing::WebSocket));
        if close {
            ends.client.write_all(CLOSE_1000).await.unwrap();
        } else {
            ends.client.shutdown().await.unwrap();
        }
        let start = Instant::now();
        expect_end(&mut ends.client).await;
        assert_within(start, 30.0, 30.3);
        let outcome = ends.outcome.await.unwrap();
        assert_within(start, 31.0, 31.5);
        assert_eq!(
            (outcome.ended_by, outcome.cause),
            (Side::Longhaul, Cause::HalfCloseTimeout)
        );
        assert_eq!(outcome.client_close_code, close.then_some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn broken_streams_end_the_tunnel_by_their_own_cause() {
    let table = [
        (ErrorKind::ConnectionReset, Cause::Reset),
        (ErrorKind::TimedOut, Cause::PeerTimeout),
        (ErrorKind::InvalidData, Cause::TlsError),
        (ErrorKind::UnexpectedEof, Cause::TlsEof),
    ];
    for (kind, cause) in table {
        let registry = registry();
        let (near_client, client) = wire(Chaos::none());
        let (mut backend, near_backend) = duplex(1 << 20);
        let (_, task) = start(
            &registry,
            &options(Framing::WebSocket),
            near_client,
            near_backend,
        );
        client.send(HELLO);
        client.break_off(kind);
        expect(&mut backend, HELLO).await;
        expect_end(&mut backend).await;
        drop(backend);
        let outcome = task.await.unwrap();
        assert_eq!((outcome.ended_by, outcome.cause), (Side::Client, cause));
        assert_eq!(outcome.messages_in, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_peer_that_broke_still_arrive() {
    let registry = registry();
    let (near_client, client) = wire(Chaos::none());
    let (near_backend, backend) = wire(Chaos::none());
    let (_, task) = start(
        &registry,
        &options(Framing::WebSocket),
        near_client,
        near_backend,
    );
    // Both in one poll: the write to the backend fails before it is read.
    client.send(HELLO);
    backend.send(&[0x88, 0x02, 0x03, 0xf3]);
    backend.break_off(ErrorKind::ConnectionReset);
    let outcome = task.await.unwrap();
    assert_eq!(client.look().seen, [0x88, 0x02, 0x03, 0xf3]);
    assert!(client.look().shut);
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Backend, Cause::Close(Some(1011)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_all_that_a_broken_peer_had_sent() {
    // The break is met by a write, or by a read.
    for written in [true, false] {
        let registry = registry();
        let (near_client, client) = wire(Chaos::none());
        let (near_backend, backend) = wire(Chaos::none());
        client.stall(true);
        if written {
            client.send(HELLO);
        }
        let bytes: Vec<u8> = (0..500_000).map(|at| (at / 7 + at) as u8).collect();
        backend.send(&bytes);
        backend.break_off(ErrorKind::ConnectionReset);
        let options = options(Framing::Opaque);
        let (tunnel, task) = start(&registry, &options, near_client, near_backend);
        let start = Instant::now();
        sleep(Duration::from_secs(20)).await;
        client.stall(false);
        let outcome = task.await.unwrap();
        assert_within(start, 21.0, 21.5);
        assert!(client.look().seen == bytes && client.look().shut);
        assert_eq!(tunnel.bytes_out(), 500_000);
        let how = (outcome.ended_by, outcome.cause);
        assert_eq!(how, (Side::Backend, Cause::Reset));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_keeps_a_broken_peer_no_longer_than_half_a_close() {
    let registry = registry();
    let (near_client, client) = wire(Chaos::none());
    let (near_backend, backend) = wire(Chaos::none());
    client.stall(true);
    client.send(HELLO);
    backend.send(&[7; 500_000]);
    backend.break_off(ErrorKind::ConnectionReset);
    let options = options(Framing::Opaque);
    let (_, task) = start(&registry, &options, near_client, near_backend);
    let start = Instant::now();
    let outcome = task.await.unwrap();
    assert_within(start, 31.0, 31.5);
    let how = (outcome.ended_by, outcome.cause);
    assert_eq!(how, (Side::Backend, Cause::Reset));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_tunnel_and_a_ping_every_minute_does_not() {
    let mut options = options(Framing::WebSocket);
    options.clocks.idle_timeout = Some(Duration::from_secs(60));
    let mut ends = tunnel(&options);
    for _ in 0..100 {
        sleep(Duration::from_secs(60)).await;
        ends.backend.write_all(&[0x89, 0x00]).await.unwrap();
        expect(&mut ends.client, &[0x89, 0x00]).await;
    }
    let start = Instant::now();
    let mut close = [0; 4];
    ends.client.read_exact(&mut close).await.unwrap();
    assert_eq!(close[2..], 1001u16.to_be_bytes());
    assert_within(start, 60.0, 63.0);
    drop((ends.client, ends.backend));
    let outcome = ends.outcome.await.unwrap();
    assert_eq!(
        (outcome.ended_by, outcome.cause),
        (Side::Longhaul, Cause::IdleTimeout)
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_life_ends_within_its_jitter() {
    let mut options = options(Framing::WebSocket);
    options.clocks.max_lifetime = Some(Duration::from_secs(3600));
    options.clocks.max_lifetime_jitter = 0.5;
    let start = Instant::now();
    let mut last = Duration::ZERO;
    for ends in [(); 20].map(|()| tunnel(&options)) {
        let mut ends = ends;
        let mut close = [0; 4];
        ends.client.read_exact(&mut close).await.unwrap();
        assert_eq!(close[2..], 1012u16.to_be_bytes());
        drop((ends.client, ends.backend));
        let outcome = ends.outcome.await.unwrap();
        assert_eq!(
            (outcome.ended_by, outcome.cause),
            (Side::Longhaul, Cause::MaxLifetime)
        );
        assert!(outcome.duration >= Duration::from_secs(1800));
        last = last.max(outcome.duration);
    }
    assert!(start.elapsed() < Duration::from_secs(3610));
    assert!(last > Duration::from_secs(1810), "no jitter");
}

#[tokio::test(start_paused = true)]
async fn bytes_read_ahead_go_first() {
    let registry = registry();
    let (mut client, near_client) = duplex(64);
    let (mut backend, near_backend) = duplex(64);
    client.write_all(&HELLO[1..]).await.unwrap();
    backend.write_all(&HELLO[3..]).await.unwrap();
    let client_leg = Leg {
        stream: near_client,
        read_ahead: Bytes::from_static(&HELLO[..1]),
    };
    let backend_leg = Leg {
        stream: near_backend,
        read_ahead: Bytes::from_static(&HELLO[..3]),
    };
    let ticket = registry.open(facts(7), &options(Framing::WebSocket));
    let task = tokio::spawn(relay(client_leg, backend_leg, ticket));
    expect(&mut backend, HELLO).await;
    expect(&mut client, HELLO).await;
    drop((client, backend));
    let outcome = task.await.unwrap();
    assert_eq!((outcome.messages_in, outcome.messages_out), (1, 1));
}

#[test]
fn the_words_of_the_log() {
    let words = [
        (Cause::Close(Some(1000)), "close 1000"),
        (Cause::Close(None), "close"),
        (Cause::Eof, "eof"),
        (Cause::TlsEof, "tls_eof"),
        (Cause::Reset, "reset"),
        (Cause::IdleTimeout, "idle_timeout"),
        (Cause::HalfCloseTimeout, "half_close_timeout"),
        (Cause::MaxLifetime, "max_lifetime"),
        (Cause::Drain, "drain"),
        (Cause::Removed, "removed"),
    ];
    for (cause, word) in words {
        assert_eq!(cause.to_string(), word);
    }
    assert_eq!(Side::Longhaul.to_string(), "longhaul");
}
