//! Attackers that do much, quickly.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::ground::{Ground, drain};
use crate::kit::handshake;

/// Three hundred heads of a megabyte at once, in one line and in many: refused at
/// `max_request_head`. Held whole they would be 300 MB.
pub async fn header_bombs(ground: Arc<Ground>) {
    let head = |bomb: &str| -> Arc<str> {
        format!("GET /fixed HTTP/1.1\r\nHost: localhost\r\n{bomb}\r\n").into()
    };
    let long = head(&format!("X: {}\r\n", "y".repeat(1 << 20)));
    let many = head(&"A: b\r\n".repeat(1 << 17));
    let mut bombs = JoinSet::new();
    for number in 0..300 {
        let (ground, head) = (Arc::clone(&ground), [&long, &many][number % 2].clone());
        bombs.spawn(async move {
            let mut stream = ground.connect(&ground.plain, number).await;
            // longhaul need not take all of it.
            let _ = stream.write_all(head.as_bytes()).await;
            drain(&mut stream).await;
        });
    }
    bombs.join_all().await;
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
