//! Clients that ask for much and take none of it: what waits for their windows ends
//! in time, stream by stream. Their connection lives, for a window that opens, and
//! a thousand tunnels beside it notice nothing.

use std::time::{Duration, Instant};

use crate::h2_abuse::{Crowd, GET, beside};
use crate::kit::h2::{Code, Flag, Frame, Kind, Raw, Setting};
use crate::kit::{Echo, Opcode, Proxy, Setup, Site, alone, masked, soon};

/// Streams of the client, the half of them tunnels.
const STREAMS: u32 = 100;
/// Where every connection's window begins, whatever the settings (RFC 9113 section
/// 6.9.2).
const WINDOW: usize = 65_535;
/// Most that longhaul may grow by.
const MEMORY: u64 = 16 << 20;

const CONNECT: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "h"),
    ("sec-websocket-version", "13"),
];

async fn site() -> (Proxy, Echo) {
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address()).more("[tcp]\nuser_timeout = '1s'");
    (Setup::new().beside().start(site).await, backend)
}

/// A connection with windows for its streams of this size.
async fn open(proxy: &Proxy, window: u32) -> Raw {
    let settings = [
        // The heads of answers that nobody waits for are not decoded.
        (Setting::HEADER_TABLE_SIZE, 0),
        (Setting::INITIAL_WINDOW_SIZE, window),
    ];
    Raw::open_with(proxy, &settings).await.0
}

/// Requests and tunnels whose answers find no window.
async fn ask(raw: &mut Raw, from: u32) {
    for stream in (from..from + 2 * STREAMS).step_by(2) {
        let frame = match stream % 4 {
            1 => raw.headers(stream, Flag::END_STREAM, &GET),
            _ => raw.headers(stream, 0, &CONNECT),
        };
        raw.send(frame).await;
    }
}

/// Waits until each of those has been reset, and for no GOAWAY.
async fn all_reset(raw: &mut Raw, from: u32) {
    let start = Instant::now();
    let mut resets = 0;
    while resets < STREAMS {
        let reset = |frame: &Frame| frame.kind == Kind::RST_STREAM && frame.stream >= from;
        let frame = raw.until(reset).await;
        assert_ne!(frame.number(0), Code::NO_ERROR, "{frame:?}");
        resets += 1;
    }
    assert!(start.elapsed() > Duration::from_millis(800));
}

/// What the client asks for once it opens its windows comes.
async fn lives(raw: &mut Raw, stream: u32) {
    raw.send(Frame::settings(&[(Setting::INITIAL_WINDOW_SIZE, 65_535)]))
        .await;
    raw.send(Frame::credit(0, 65_535)).await;
    let get = raw.headers(stream, Flag::END_STREAM, &GET);
    raw.send(get).await;
    assert_eq!(raw.status(stream).await, 200);
    let body = raw.of_stream(stream).await;
    assert_eq!((body.kind, &*body.payload), (Kind::DATA, &b"a"[..]));
}

/// The tunnels' lines say why, and those of the crowd are all there.
async fn all_is_well(proxy: &Proxy, crowd: &mut Crowd, memory: u64) {
    proxy
        .log
        .wait("tunnel closed", &[("cause", "peer_timeout")])
        .await;
    let grown = proxy.memory().saturating_sub(memory);
    assert!(grown < MEMORY, "grew by {grown}");
    let others_gone = async { while proxy.status().await["tunnels"] != 1000 {} };
    soon("the crowd alone", others_gone).await;
    crowd.echo().await;
}

#[tokio::test]
async fn streams_whose_window_stays_closed_end_in_time() {
    let _machine = alone().await;
    let (proxy, _backend) = site().await;
    let mut crowd = Crowd::gather(&proxy).await;
    crowd.echo().await;
    let memory = proxy.memory();
    let mut raw = open(&proxy, 0).await;
    let stall = async {
        ask(&mut raw, 1).await;
        all_reset(&mut raw, 1).await;
    };
    beside("streams' windows", &proxy, &mut crowd, stall).await;
    lives(&mut raw, 1 + 2 * STREAMS).await;
    all_is_well(&proxy, &mut crowd, memory).await;
}

/// The streams have all the window that they want, and the connection has none.
#[tokio::test]
async fn streams_end_in_time_when_their_connections_window_stays_closed() {
    /// Those that use the window up: one message each, within their own.
    const GREEDY: u32 = 5;
    let _machine = alone().await;
    let (proxy, _backend) = site().await;
    let mut crowd = Crowd::gather(&proxy).await;
    crowd.echo().await;
    let memory = proxy.memory();
    let mut raw = open(&proxy, 1 << 30).await;
    let from = 1 + 2 * GREEDY;
    let stall = async {
        use_up(&mut raw, GREEDY).await;
        ask(&mut raw, from).await;
        all_reset(&mut raw, from).await;
    };
    beside("a connection's window", &proxy, &mut crowd, stall).await;
    lives(&mut raw, from + 2 * STREAMS).await;
    drop(raw);
    all_is_well(&proxy, &mut crowd, memory).await;
}

/// Has so many tunnels echo more than the connection's window takes.
async fn use_up(raw: &mut Raw, tunnels: u32) {
    let message = masked(Opcode::Binary, true, &[7; 20_000]);
    for stream in (1..1 + 2 * tunnels).step_by(2) {
        let connect = raw.headers(stream, 0, &CONNECT);
        raw.send(connect).await;
        for part in message.chunks(16_384) {
            raw.send(Frame::data(stream, part)).await;
        }
    }
    let mut taken = 0;
    while taken < WINDOW {
        taken += raw
            .until(|frame| frame.kind == Kind::DATA)
            .await
            .payload
            .len();
    }
    assert_eq!(taken, WINDOW);
}
