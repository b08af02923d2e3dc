//! What relays in the product: tunnels between plain sockets run on the engine's
//! threads and their bulk goes through pipes; a tunnel with HTTP/2 on a side
//! stays in tokio.
//!
//! The kernel tells, not longhaul: whose time it was, and what is in the pipes.

use std::time::Duration;

use crate::kit::{Opcode, Over, Proxy, RawBackend, Setup, Site, Wire, masked, over_each, plain};

over_each!(
    tunnels_over_tcp_run_where_they_should,
    tunnels_over_unix_sockets_run_where_they_should,
);

/// What the engine calls its threads, up to their numbers.
const ENGINE: &str = "tunnels-";

const MESSAGES: usize = 2_000;

/// Bytes of a message of bulk.
const BULK: usize = 16 << 20;

/// What longhaul reads at once: so much at most waits for a socket where bytes
/// are read and written.
const READ: usize = 64 << 10;

async fn tunnels_over_tcp_run_where_they_should(over: Over) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address())).await.over(over);
    run_where_they_should(over, &proxy, &backend).await;
}

async fn tunnels_over_unix_sockets_run_where_they_should(over: Over) {
    let setup = Setup::new();
    let backend = RawBackend::unix(&setup.path("backend.sock"));
    let front = setup.path("front.sock");
    let listener = format!("address = 'unix:{}'", front.display());
    let site = Site::one(backend.address()).listener(&listener);
    let proxy = setup.start(site).await.over(over);
    run_where_they_should(over, &proxy, &backend).await;
}

async fn run_where_they_should(over: Over, proxy: &Proxy, backend: &RawBackend) {
    let (mut client, mut server) = proxy.tunnel(backend).await;

    let [engine, others] = spent(proxy, exchange(&mut client, &mut server)).await;
    match over {
        Over::Http1 => assert!(engine > 4 * others, "{engine:?} and {others:?}"),
        Over::Http2 => assert!(others > 4 * engine, "{engine:?} and {others:?}"),
    }

    let payload = vec![0x5a; BULK];
    let up = masked(Opcode::Binary, true, &payload);
    let most_up = stream(proxy, up, &mut client, &mut server).await;
    let down = plain(Opcode::Binary, true, &payload);
    let most_down = stream(proxy, down, &mut server, &mut client).await;
    match over {
        Over::Http1 => assert!(
            most_up > READ as u64 && most_down > READ as u64,
            "{most_up} and {most_down} bytes"
        ),
        Over::Http2 => assert_eq!([most_up, most_down], [0, 0]),
    }
}

/// What the engine's threads and what all others spent on a core during `work`.
async fn spent(proxy: &Proxy, work: impl Future<Output = ()>) -> [Duration; 2] {
    let now = || {
        let engine = proxy.cpu_of(ENGINE);
        [engine, proxy.cpu().saturating_sub(engine)]
    };
    let before = now();
    work.await;
    let after = now();
    [after[0] - before[0], after[1].saturating_sub(before[1])]
}

/// Short messages there and back.
async fn exchange(client: &mut Wire, server: &mut Wire) {
    for _ in 0..MESSAGES {
        client.send(masked(Opcode::Text, true, b"ask")).await;
        assert_eq!(server.frame().await.text(), "ask");
        server.send(plain(Opcode::Text, true, b"answer")).await;
        assert_eq!(client.frame().await.text(), "answer");
    }
}

/// Sends all of it, to a reader that is never quite done with what there is: so
/// what cannot be passed on yet waits in longhaul. Most bytes in pipes meanwhile.
async fn stream(proxy: &Proxy, bytes: Vec<u8>, from: &mut Wire, to: &mut Wire) -> u64 {
    let reads = async {
        let mut most = 0;
        for expected in bytes.chunks(READ) {
            assert!(to.take(expected.len()).await == expected, "other bytes");
            most = most.max(proxy.piped());
        }
        most
    };
    tokio::join!(from.send(&bytes), reads).1
}
