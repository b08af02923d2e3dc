//! Attackers that do much, quickly.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::io::AsyncWriteExt;

use crate::ground::{Ground, drain};
use crate::kit::handshake;

/// Heads of a megabyte, in one line and in many: refused at `max_request_head`.
pub async fn header_bombs(ground: Arc<Ground>) {
    let long = format!("X: {}\r\n", "y".repeat(1 << 20));
    let many = "A: b\r\n".repeat(1 << 17);
    for number in 0..150 {
        for bomb in [&long, &many] {
            let mut stream = ground.connect(&ground.plain, number).await;
            let head = format!("GET /fixed HTTP/1.1\r\nHost: localhost\r\n{bomb}\r\n");
            // longhaul need not take all of it.
            let _ = stream.write_all(head.as_bytes()).await;
            drain(&mut stream).await;
        }
    }
}

/// Ten thousand connections, one after the other, that are reset at once: some behind
/// a request, some within one.
pub async fn churn(ground: Arc<Ground>) {
    let request = b"GET /fixed HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for number in 0..10_000 {
        let mut stream = ground.connect(&ground.plain, number).await;
        let sent = [0, request.len() / 2, request.len()][number % 3];
        stream.write_all(&request[..sent]).await.expect("to send");
        stream.set_zero_linger().expect("to reset");
    }
}

/// Two thousand tunnels, of which each ends as soon as it is there or before.
pub async fn handshakes(ground: Arc<Ground>) {
    for number in 0..1_000 {
        let tunnel = ground.tunnel("/", "", number).await;
        tunnel.set_zero_linger().expect("to reset");
        let mut other = ground.connect(&ground.plain, number).await;
        let asked = handshake("/", "localhost", "");
        other.write_all(asked.as_bytes()).await.expect("to send");
        other.set_zero_linger().expect("to reset");
    }
}

/// Random bytes, and half of what was meant, on every listener.
pub async fn garbage(ground: Arc<Ground>) {
    let mut random = StdRng::seed_from_u64(1);
    let mut noise = vec![0; 8 * 1024];
    for number in 0..100 {
        for address in [&ground.plain, &ground.tls, &ground.dressed, &ground.admin] {
            random.fill_bytes(&mut noise);
            let parts: [&[u8]; 3] = [b"", &ground.hello, b"GET / HTTP/1.1\r\nHost: "];
            let mut stream = ground.connect(address, number).await;
            let _ = stream.write_all(parts[number % 3]).await;
            let _ = stream.write_all(&noise[..1 + number * 80]).await;
            let _ = stream.shutdown().await;
            drain(&mut stream).await;
        }
    }
}
