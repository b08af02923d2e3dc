//! The kit against itself: its client talks to its backends without longhaul between.

use crate::kit::{Echo, RawBackend, Ws, handshake, switching};

/// Over HTTP/1.1 alone: it is about the kit, and has no longhaul.
#[tokio::test]
async fn the_client_and_the_echo_backend_understand_each_other() {
    let backend = Echo::start("a").await;
    let mut ws = Ws::open(
        crate::kit::dial(backend.address()).await,
        "/",
        "localhost",
        "",
    )
    .await;
    assert_eq!(ws.head.header("x-backend"), Some("a"));
    assert_eq!(ws.greeting().await, "a");
    ws.echo("one").await;
    ws.close(1000).await;
    assert_eq!((backend.connections(), backend.requests().len()), (1, 1));
}

/// Over HTTP/1.1 alone: it is about the kit, and has no longhaul.
#[tokio::test]
async fn the_raw_backend_sees_what_the_client_sent() {
    let backend = RawBackend::start().await;
    let mut client = crate::kit::dial(backend.address()).await;
    client.send(handshake("/x?y", "h", "A: b\r\n")).await;
    let mut server = backend.accept().await;
    let request = server.request().await;
    assert_eq!(
        (request.target.as_str(), request.header("a")),
        ("/x?y", Some("b"))
    );
    server.send(switching("")).await;
    assert_eq!(client.response_head().await.status, 101);
    client.finish().await;
    server.eof().await;
    server.finish().await;
    client.eof().await;
}
