//! What a server must keep of RFC 9113 and RFC 8441, with frames made by hand:
//! each case has its section, what is sent on a fresh connection beside a tunnel,
//! and what must come of it. Where the connection lives so does the tunnel.

mod cases;
mod ends;

use std::collections::BTreeSet;

use cases::{BESIDE, CASES, Case, Fate, REFUSED, WEBSOCKET, get};

use crate::kit::h2::{Flag, Frame, Kind, Raw, Setting};
use crate::kit::{Echo, Opcode, Proxy, RawBackend, Site, masked};

/// What has come of a case.
#[derive(Debug, Default)]
struct Seen {
    reset: Option<u32>,
    status: Option<u16>,
    goaway: Option<u32>,
    ended: bool,
    pong: bool,
    /// The tunnel has brought its message back.
    echoed: bool,
}

const LAST: [u8; 8] = *b"the last";

async fn play(proxy: &Proxy, case: &Case) -> Seen {
    let (mut raw, _) = Raw::open(proxy).await;
    let connect = raw.headers(1, 0, WEBSOCKET);
    raw.send(connect).await;
    assert_eq!(raw.status(1).await, 200);
    assert_eq!(raw.of_stream(1).await.kind, Kind::DATA, "the greeting");
    let mut bytes = Vec::new();
    for mut frame in (case.play)(&mut raw) {
        frame.stream += if frame.stream == 0 { 0 } else { BESIDE };
        bytes.extend(frame.bytes());
    }
    bytes.extend(Frame::new(Kind::PING, 0, 0, LAST).bytes());
    // The other side may end the connection before it has read everything.
    let _ = raw.wire.try_send(bytes).await;
    let waits_for_stream = matches!(case.fate, Fate::Stream(_) | Fate::Status(_));
    let mut seen = watch(&mut raw, waits_for_stream).await;
    seen.echoed = seen.goaway.is_none() && !seen.ended && echoes(&mut raw).await;
    seen
}

async fn watch(raw: &mut Raw, waits_for_stream: bool) -> Seen {
    let mut seen = Seen::default();
    let mut pings = 0;
    loop {
        let Some(frame) = raw.next_frame().await else {
            seen.ended = true;
            return seen;
        };
        match frame.kind {
            Kind::GOAWAY => seen.goaway = Some(frame.number(4)),
            Kind::RST_STREAM if frame.stream == 1 + BESIDE => seen.reset = Some(frame.number(0)),
            Kind::HEADERS => {
                let fields = raw.decode(&frame);
                if frame.stream == 1 + BESIDE && fields[0].0 == ":status" {
                    seen.status = Some(fields[0].1.parse().expect("a status"));
                }
            }
            Kind::PING if frame.payload == LAST => seen.pong = true,
            _ => {}
        }
        let answered = seen.reset.is_some() || seen.status.is_some();
        if !seen.pong || seen.goaway.is_some() {
            continue;
        }
        if answered || !waits_for_stream && pings > 0 {
            return seen;
        }
        if pings == 0 {
            // What was to come of it may come behind the first answer.
            pings += 1;
            seen.pong = false;
            let _ = raw.try_send(Frame::new(Kind::PING, 0, 0, LAST)).await;
        }
    }
}

/// Whether the tunnel lives.
async fn echoes(raw: &mut Raw) -> bool {
    let message = masked(Opcode::Text, true, b"still here");
    let _ = raw.try_send(Frame::data(1, message)).await;
    while let Some(frame) = raw.next_frame().await {
        if frame.stream == 1 {
            return frame.kind == Kind::DATA && frame.payload.ends_with(b"still here");
        }
    }
    false
}

fn agrees(fate: &Fate, seen: &Seen) -> bool {
    let one_of = |codes: &[u32], code: Option<u32>| code.is_some_and(|code| codes.contains(&code));
    let connection = |codes| one_of(codes, seen.goaway) && seen.ended;
    let alive = seen.pong && seen.goaway.is_none() && seen.echoed;
    match fate {
        Fate::Connection(codes) => connection(codes),
        Fate::Stream(codes) => one_of(codes, seen.reset) && alive,
        Fate::Status(status) => seen.status == Some(*status) && alive,
        Fate::Fine => alive,
    }
}

#[tokio::test]
async fn every_rule_is_kept() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    assert!(CASES.len() >= 90, "{} cases", CASES.len());
    let mut wrong = Vec::new();
    for case in CASES.iter() {
        let seen = play(&proxy, case).await;
        if !agrees(&case.fate, &seen) {
            let Case {
                section,
                rule,
                fate,
                ..
            } = case;
            wrong.push(format!("section {section}, {rule}: {fate:?}, but {seen:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rules:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let sections: BTreeSet<&str> = CASES.iter().map(|case| case.section).collect();
    assert!(sections.len() > 20, "{sections:?}");
}

/// Section 5.1.2.
#[tokio::test]
async fn streams_beyond_the_limit_are_refused_alone() {
    let backend = RawBackend::start().await;
    let more = "[http2]\nmax_streams = 2";
    let proxy = Proxy::start(Site::one(backend.address()).more(more)).await;
    let (mut raw, settings) = Raw::open(&proxy).await;
    assert!(settings.contains(&(Setting::MAX_CONCURRENT_STREAMS, 2)));
    for stream in [1, 3, 5] {
        let mut frame = get(&mut raw, &[]);
        frame.stream = stream;
        raw.send(frame).await;
    }
    let refused = raw.of_stream(5).await;
    assert_eq!(refused.kind, Kind::RST_STREAM);
    assert!(REFUSED.contains(&refused.number(0)), "{refused:?}");
    for _ in 0..2 {
        let mut server = backend.accept().await;
        server.request().await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    }
    for _ in 0..2 {
        let frame = raw.until(|frame| frame.kind == Kind::HEADERS).await;
        assert!([1, 3].contains(&frame.stream), "{frame:?}");
    }
}

/// Sections 6.9.1 and 6.9.2: never a byte more than there is credit for.
#[tokio::test]
async fn the_clients_windows_are_kept() {
    let backend = Echo::start("a-name-of-twenty-one").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    let (mut raw, _) = Raw::open_with(&proxy, &[(Setting::INITIAL_WINDOW_SIZE, 3)]).await;
    let frame = get(&mut raw, &[]);
    raw.send(frame).await;
    assert_eq!(raw.status(1).await, 200);
    assert_eq!(raw.of_stream(1).await.payload, b"a-n");
    raw.send(Frame::credit(1, 2)).await;
    assert_eq!(raw.of_stream(1).await.payload, b"am");
    // Down by three is a window of less than nothing: two of credit are none.
    raw.send(Frame::settings(&[(Setting::INITIAL_WINDOW_SIZE, 0)]))
        .await;
    raw.send(Frame::credit(1, 3)).await;
    raw.send(Frame::new(Kind::PING, 0, 0, LAST)).await;
    let next = raw
        .until(|frame| frame.kind == Kind::PING || frame.stream == 1)
        .await;
    assert_eq!(next.kind, Kind::PING, "{next:?}");
    raw.send(Frame::credit(1, 100)).await;
    let rest = raw.of_stream(1).await;
    assert_eq!(rest.payload, b"e-of-twenty-one");
}

/// Section 6.5.2: frames are as small as the client wants them, at least 2^14.
#[tokio::test]
async fn the_servers_settings_come_first_and_say_what_it_takes() {
    let backend = Echo::start("a").await;
    let more =
        "[http2]\nmax_streams = 77\nstream_window = '96KiB'\n[limits]\nmax_request_head = '16KiB'";
    let proxy = Proxy::start(Site::one(backend.address()).more(more)).await;
    let (_, settings) = Raw::open(&proxy).await;
    for wanted in [
        (Setting::MAX_CONCURRENT_STREAMS, 77),
        (Setting::INITIAL_WINDOW_SIZE, 96 << 10),
        (Setting::MAX_HEADER_LIST_SIZE, 16 << 10),
        (Setting::ENABLE_CONNECT_PROTOCOL, 1),
    ] {
        assert!(settings.contains(&wanted), "{wanted:?} in {settings:?}");
    }
}

/// Section 10.5.1: too large is the stream's affair.
#[tokio::test]
async fn a_header_block_that_is_too_large_is_431_and_harms_nobody() {
    let backend = Echo::start("a").await;
    let more = "[limits]\nmax_request_head = '16KiB'\nmax_request_headers = 20";
    let proxy = Proxy::start(Site::one(backend.address()).more(more)).await;
    let (mut raw, _) = Raw::open(&proxy).await;
    let connect = raw.headers(1, 0, WEBSOCKET);
    raw.send(connect).await;
    assert_eq!(raw.status(1).await, 200);
    let large = "x".repeat(15_000);
    let mut frame = get(&mut raw, &[("x-one", &large), ("x-two", &large)]);
    frame.stream = 3;
    let rest = frame.payload.split_off(16_000);
    frame.flags &= !Flag::END_HEADERS;
    raw.send(frame).await;
    raw.send(Frame::new(Kind::CONTINUATION, Flag::END_HEADERS, 3, rest))
        .await;
    assert_eq!(raw.status(3).await, 431);
    let names: Vec<String> = (0..30).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "1")).collect();
    let mut frame = get(&mut raw, &many);
    frame.stream = 5;
    raw.send(frame).await;
    assert_eq!(raw.status(5).await, 431);
    proxy
        .log
        .wait("request", &[("status", "431"), ("refusal", "bad_head")])
        .await;
    let message = masked(Opcode::Text, true, b"hi");
    raw.send(Frame::data(1, message)).await;
    // The greeting, and then the echo.
    raw.until(|frame| frame.kind == Kind::DATA && frame.payload.ends_with(b"hi"))
        .await;
}
