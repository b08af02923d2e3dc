//! What comes behind the end of a stream, over more than one connection's first
//! frames: tunnels that are half closed, and the window that it takes.

use super::LAST;
use super::cases::{CLOSED, WEBSOCKET, get};
use crate::kit::h2::{Flag, Frame, Kind, Raw};
use crate::kit::{Echo, Opcode, Proxy, RawBackend, Site, Wire, masked, plain};

/// A tunnel on this stream, and the backend's end of it.
async fn open(raw: &mut Raw, stream: u32, backend: &RawBackend) -> Wire {
    let connect = raw.headers(stream, 0, WEBSOCKET);
    raw.send(connect).await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    server.send(request.switching("")).await;
    assert_eq!(raw.status(stream).await, 200);
    server
}

/// Section 5.1, "half-closed (remote)".
#[tokio::test]
async fn what_comes_behind_the_end_of_a_tunnel_ends_that_one_alone() {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    let (mut raw, _) = Raw::open(&proxy).await;
    let mut server = open(&mut raw, 1, &backend).await;
    for stream in [3, 5] {
        let mut half_closed = open(&mut raw, stream, &backend).await;
        raw.send(Frame::data(stream, []).ending()).await;
        half_closed.eof().await;
        let late = plain(Opcode::Text, true, b"late");
        half_closed.send(&late).await;
        assert_eq!(raw.of_stream(stream).await.payload, late);
        let log = proxy.log.tail();
        let more = match stream {
            3 => Frame::data(stream, *b"more"),
            _ => raw.headers(stream, Flag::END_STREAM, &[("x-sum", "1")]),
        };
        raw.send(more).await;
        let reset = raw.of_stream(stream).await;
        assert_eq!(reset.kind, Kind::RST_STREAM);
        assert!(CLOSED.contains(&reset.number(0)), "{reset:?}");
        // A tunnel that reads no more of its client hears of it when it writes.
        half_closed.send(&late).await;
        log.wait("tunnel closed", &[("ended_by", "client")]).await;
    }
    let message = masked(Opcode::Text, true, b"hi");
    raw.send(Frame::data(1, message)).await;
    assert_eq!(server.frame().await.text(), "hi");
}

/// Sections 5.1 and 6.9: it counts for the connection's window all the same.
#[tokio::test]
async fn data_that_is_thrown_away_gives_its_credit_back() {
    const LARGEST: u32 = 16 * 1024;
    let backend = Echo::start("a").await;
    let more = "[http2]\nmax_streams = 1\nstream_window = '64KiB'";
    let proxy = Proxy::start(Site::one(backend.address()).more(more)).await;
    let (mut raw, _) = Raw::open(&proxy).await;
    let frame = get(&mut raw, &[]);
    raw.send(frame).await;
    let mut window = 65_535;
    for _ in 0..64 {
        while window < LARGEST {
            let credit = raw.until(|frame| frame.kind == Kind::WINDOW_UPDATE && frame.stream == 0);
            window += credit.await.number(0);
        }
        raw.send(Frame::data(1, vec![0; LARGEST as usize])).await;
        window -= LARGEST;
    }
    raw.send(Frame::new(Kind::PING, 0, 0, LAST)).await;
    raw.until(|frame| frame.payload == LAST).await;
}
