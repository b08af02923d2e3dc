//! Attackers that have a tunnel and use it badly.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ground::{Ground, drain};
use crate::kit::{Opcode, masked, plain, soon};
use crate::place::give_way;

/// What an attacker hands the kernel or takes from it at once.
const PART: usize = 16 * 1024;
/// Nothing taken for so long: the other side is full.
const FULL: Duration = Duration::from_millis(100);

/// Two hundred clients that have everything echoed and read nothing.
pub async fn slow_readers(ground: Arc<Ground>) {
    let message = masked(Opcode::Binary, true, &[7; 60_000]);
    let mut held = Vec::new();
    for number in 0..200 {
        let mut tunnel = ground.tunnel("/", "", number).await;
        stuff(&mut tunnel, &message, 4 << 20).await;
        held.push(tunnel);
    }
}

/// Writes until nothing more is taken, or so much.
async fn stuff(tunnel: &mut TcpStream, message: &[u8], most: usize) {
    for _ in 0..most / message.len() {
        // A half of one may be sent: nobody will miss the rest.
        match timeout(FULL, tunnel.write_all(message)).await {
            Ok(Ok(())) => give_way(),
            _ => return,
        }
    }
}

/// Frames of 2⁶³ − 1 bytes that begin, and go on for a while.
pub async fn giants(ground: Arc<Ground>) {
    let mut header = vec![0x82, 0xff];
    header.extend_from_slice(&(u64::MAX >> 1).to_be_bytes());
    header.extend_from_slice(&[1, 2, 3, 4]);
    let mut held = Vec::new();
    for number in 0..200 {
        let mut tunnel = ground.tunnel("/", "", number).await;
        tunnel.write_all(&header).await.expect("to send");
        stuff(&mut tunnel, &[9; 60_000], 1 << 20).await;
        held.push(tunnel);
    }
}

/// What is no frame (RFC 6455 section 5.2), each ways to break the rule.
pub async fn broken(ground: Arc<Ground>) {
    let frames: [&[u8]; 8] = [
        // A reserved opcode, reserved bits, and no mask.
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0xb1, 0x80, 0, 0, 0, 0],
        &[0x81, 0x00],
        // Control frames that are too long, and in parts.
        &[0x89, 0xfe, 0x01, 0x00, 0, 0, 0, 0],
        &[0x09, 0x80, 0, 0, 0, 0],
        // A length with its highest bit, and one that is longer than need be.
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0x82, 0xfe, 0x00, 0x05, 0, 0, 0, 0],
        // More of a message that has not begun.
        &[0x80, 0x80, 0, 0, 0, 0],
    ];
    for number in 0..50 {
        for frame in frames {
            let mut tunnel = ground.tunnel("/", "", number).await;
            tunnel.write_all(frame).await.expect("to send");
            let _ = tunnel.shutdown().await;
            drain(&mut tunnel).await;
        }
    }
}

/// As many messages as go, of no bytes at all, by fifty clients that read nothing.
pub async fn tiny(ground: Arc<Ground>) {
    let messages = masked(Opcode::Text, true, b"").repeat(5_000);
    let mut held = Vec::new();
    for number in 0..50 {
        let mut tunnel = ground.tunnel("/", "", number).await;
        stuff(&mut tunnel, &messages, 10 * messages.len()).await;
        held.push(tunnel);
    }
}

/// Messages of no bytes at all, two hundred thousand each way by fifty clients at once.
pub async fn tiny_both_ways(ground: Arc<Ground>) {
    let none = [
        masked(Opcode::Text, true, b""),
        plain(Opcode::Text, true, b""),
    ];
    let [there, back] = none.map(|frame| frame.repeat(200_000));
    exchange(50, &ground, "", there, back).await;
}

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// Sixty messages of permessage-deflate (RFC 7692) at once, each of which inflates to
/// 100 MB, both ways: bytes as all others, which longhaul passes on as they came, never
/// looks into, and holds only a little of.
pub async fn zip_bombs(ground: Arc<Ground>) {
    let bomb = bomb();
    let [mut there, mut back] = [
        masked(Opcode::Binary, true, &bomb),
        plain(Opcode::Binary, true, &bomb),
    ];
    for frame in [&mut there, &mut back] {
        frame[0] |= 0x40;
    }
    exchange(60, &ground, DEFLATE, there, back).await;
}

/// So many tunnels at once, of each of which the client sends the one and the attackers'
/// own backend the other, as fast as they go.
async fn exchange(
    count: usize,
    ground: &Arc<Ground>,
    extra: &'static str,
    there: Vec<u8>,
    back: Vec<u8>,
) {
    let bytes = Arc::new([there, back]);
    let mut tunnels = JoinSet::new();
    for number in 0..count {
        let (ground, bytes) = (Arc::clone(ground), Arc::clone(&bytes));
        tunnels.spawn(async move { exchange_one(&ground, number, extra, &bytes).await });
    }
    tunnels.join_all().await;
}

/// Which of the backend's ends it gets is all the same: each sends the same.
async fn exchange_one(ground: &Ground, number: usize, extra: &str, bytes: &[Vec<u8>; 2]) {
    let [there, back] = bytes;
    let behind = async {
        let mut server = ground.raw.accept().await;
        let asked = server.request().await;
        let offers = asked.header("sec-websocket-extensions").is_some();
        assert_eq!(offers, !extra.is_empty());
        server.switch(extra).await;
        server
    };
    let (mut client, mut server) = tokio::join!(ground.tunnel("/raw", extra, number), behind);
    let sent = async {
        for part in there.chunks(PART) {
            let written = soon("room", client.write_all(part)).await;
            written.expect("to send");
            give_way();
        }
    };
    let came = async {
        for part in there.chunks(PART) {
            let bytes = server.take_exactly(part.len()).await;
            assert!(bytes == part, "it came as another");
            give_way();
        }
    };
    tokio::join!(sent, came);
    let sent = async {
        for part in back.chunks(PART) {
            server.send(part).await;
            give_way();
        }
    };
    let came = async {
        let mut bytes = [0; PART];
        for part in back.chunks(PART) {
            let read = soon("all of it", client.read_exact(&mut bytes[..part.len()])).await;
            read.expect("all of it");
            assert!(bytes[..part.len()] == *part, "it came back as another");
            give_way();
        }
    };
    tokio::join!(sent, came);
}

/// 100,000,000 zeros, deflated with the fixed codes (RFC 1951 section 3.2.6): one of
/// them, and then "the last one again, 258 times" in 13 bits.
fn bomb() -> Vec<u8> {
    let mut bits = vec![false, true, false];
    let mut code = |value: u32, length: u32| {
        bits.extend((0..length).rev().map(|bit| value >> bit & 1 == 1));
    };
    code(0b0011_0000, 8);
    for _ in 0..100_000_000 / 258 {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    // The end of the block, and an empty one, of which RFC 7692 section 7.2.1 cuts the
    // last four bytes off.
    code(0, 7);
    code(0, 3);
    let byte = |bits: &[bool]| {
        (0..)
            .zip(bits)
            .fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at)
    };
    bits.chunks(8).map(byte).collect()
}
