//! Each way in which a tunnel can end: who, why, and what both sides see.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

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
    let mut frame = [0; 7];
    ends.client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x88, 0x05, 0x03, 0xf4, b'b', b'y', b'e']);
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
