//! WebSockets that a backend has not looked at, and says so: GOAWAY that passes over
//! their stream, or REFUSED_STREAM. They are safe to send again (RFC 9113 section
//! 8.7), and no client hears of it.

use std::time::Duration;

use crate::kit::h2::{Code, Flag, Frame, Kind, PREFACE, Raw, Setting};
use crate::kit::{Opcode, Over, Proxy, RawBackend, Site, Wire, handshake, masked, over_each};

over_each!(
    a_handshake_that_was_not_looked_at_is_sent_again,
    it_is_sent_again_once,
    a_handshake_that_was_looked_at_is_not_sent_again,
);

/// Longhaul before a backend by hand, and a client that has asked for a WebSocket.
async fn asking(over: Over) -> (Proxy, RawBackend, Wire) {
    let backend = RawBackend::start().await;
    let keys = "http2 = true\nwebsocket_over_http2 = true";
    let site = Site::one(backend.address()).upstream(keys);
    let proxy = Proxy::start(site).await.over(over);
    let mut client = proxy.connect().await;
    client.send(handshake("/ws", "h", "")).await;
    (proxy, backend, client)
}

/// A new connection at the backend, which allows WebSockets (RFC 8441), up to the
/// first one.
async fn asked(backend: &RawBackend) -> Raw {
    let mut wire = backend.accept().await;
    assert_eq!(wire.take(PREFACE.len()).await, PREFACE);
    let mut raw = Raw::new(wire);
    raw.send(Frame::settings(&[(Setting::ENABLE_CONNECT_PROTOCOL, 1)]))
        .await;
    loop {
        let frame = raw.frame().await;
        match frame.kind {
            Kind::SETTINGS | Kind::PING if !frame.has(Flag::ACK) => {
                let payload = match frame.kind {
                    Kind::PING => frame.payload,
                    _ => Vec::new(),
                };
                raw.send(Frame::new(frame.kind, Flag::ACK, 0, payload))
                    .await;
            }
            Kind::HEADERS => {
                let fields = raw.decode(&frame);
                let path = (":path".to_owned(), "/ws".to_owned());
                assert!(frame.stream == 1 && fields.contains(&path), "{fields:?}");
                return raw;
            }
            _ => {}
        }
    }
}

fn goaway(last_stream: u32) -> Frame {
    let payload = [last_stream.to_be_bytes(), Code::NO_ERROR.to_be_bytes()].concat();
    Frame::new(Kind::GOAWAY, Flag::NONE, 0, payload)
}

fn not_looked_at() -> [Frame; 2] {
    [goaway(0), Frame::reset(1, Code::REFUSED_STREAM)]
}

async fn a_handshake_that_was_not_looked_at_is_sent_again(over: Over) {
    for said in not_looked_at() {
        let (proxy, backend, mut client) = asking(over).await;
        let mut first = asked(&backend).await;
        first.send(said).await;
        let mut second = asked(&backend).await;
        let answer = second.headers(1, Flag::NONE, &[(":status", "200")]);
        second.send(answer).await;
        assert_eq!(client.response_head().await.status, 101);
        let message = masked(Opcode::Text, true, b"hi");
        client.send(&message).await;
        let data = second.until(|frame| frame.kind == Kind::DATA).await;
        assert_eq!(data.payload.len(), message.len());
        // It speaks against no backend.
        assert_eq!(proxy.log.all(|event| event.level == "WARN").len(), 0);
    }
}

async fn it_is_sent_again_once(over: Over) {
    for said in not_looked_at() {
        let (_proxy, backend, mut client) = asking(over).await;
        for _ in 0..2 {
            let mut raw = asked(&backend).await;
            raw.send(said.clone()).await;
        }
        assert_eq!(client.response().await.head.status, 502);
        backend.unvisited_for(Duration::from_millis(200)).await;
    }
}

async fn a_handshake_that_was_looked_at_is_not_sent_again(over: Over) {
    for said in [goaway(1), Frame::reset(1, Code::CANCEL)] {
        let (_proxy, backend, mut client) = asking(over).await;
        let mut raw = asked(&backend).await;
        raw.send(said).await;
        // Nor when the connection ends without an answer.
        drop(raw);
        assert_eq!(client.response().await.head.status, 502);
        backend.unvisited_for(Duration::from_millis(200)).await;
    }
}
