//! The registry: what lives, finding it, and closing many without a stampede.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

use super::*;

/// `count` tunnels and their far ends.
fn many(registry: &Arc<Registry>, count: u64) -> Vec<(DuplexStream, DuplexStream)> {
    (0..count)
        .map(|id| {
            let (client, near_client) = duplex(1024);
            let (backend, near_backend) = duplex(1024);
            let ticket = registry.open(facts(id), &options(Framing::WebSocket));
            tokio::spawn(relay(leg(near_client), leg(near_backend), ticket));
            (client, backend)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn it_counts_and_selects_what_lives() {
    let registry = registry();
    let far = many(&registry, 200);
    assert_eq!(registry.len(), 200);
    let chosen = registry.select(&|tunnel| &*tunnel.facts().labels.backend == "chat-1");
    assert_eq!(chosen.len(), 100);
    assert!(chosen.iter().all(|tunnel| tunnel.id() % 2 == 1));
    drop(far);
    registry.closed().await;
    assert_eq!(registry.len(), 0);
    assert!(registry.select(&|_| true).is_empty());
    registry.closed().await;
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_tunnel_leaves_the_registry() {
    let registry = registry();
    let (near_client, near_backend) = (duplex(8).0, duplex(8).0);
    let ticket = registry.open(facts(1), &options(Framing::Opaque));
    let relay = relay(leg(near_client), leg(near_backend), ticket);
    assert_eq!(registry.len(), 1);
    drop(relay);
    assert!(registry.is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_closes_are_spread_over_the_window() {
    let registry = registry();
    let far = many(&registry, 300);
    let start = Instant::now();
    let mut told = Vec::new();
    for (mut client, backend) in far {
        told.push(tokio::spawn(async move {
            let mut close = [0; 4];
            client.read_exact(&mut close).await.unwrap();
            assert_eq!(close[2..], 1012u16.to_be_bytes());
            drop(backend);
            Instant::now()
        }));
    }
    let everyone = registry.select(&|_| true);
    registry
        .close_paced(everyone, drain(Some(1012)), Duration::from_secs(30))
        .await;
    assert!(start.elapsed() <= Duration::from_secs(31));
    let mut thirds = [0; 3];
    for at in told {
        let at = (at.await.unwrap() - start).as_secs_f64();
        thirds[(at / 10.0).min(2.0) as usize] += 1;
    }
    // 100 each; 50 is six standard deviations away.
    assert!(thirds.iter().all(|third| *third > 50), "{thirds:?}");
    registry.closed().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_order_stands() {
    let registry = registry();
    let ticket = registry.open(facts(1), &options(Framing::WebSocket));
    assert!(ticket.tunnel().close(Arc::new(drain(Some(1012)))));
    assert!(!ticket.tunnel().close(Arc::new(drain(Some(1001)))));
}

#[tokio::test(start_paused = true)]
async fn closed_waits_for_the_last_one() {
    let registry = registry();
    let ticket = registry.open(facts(1), &options(Framing::WebSocket));
    let waits = timeout(Duration::from_secs(100), registry.closed()).await;
    assert!(waits.is_err());
    let closed = registry.closed();
    tokio::pin!(closed);
    tokio::select! {
        biased;
        () = &mut closed => panic!("one is left"),
        () = std::future::ready(()) => {}
    }
    drop(ticket);
    closed.await;
}

#[tokio::test(start_paused = true)]
async fn it_knows_for_how_long_each_side_was_silent() {
    let registry = registry();
    let (mut client, near_client) = duplex(64);
    let (_backend, near_backend) = duplex(64);
    let (tunnel, task) = start(
        &registry,
        &options(Framing::WebSocket),
        near_client,
        near_backend,
    );
    sleep(Duration::from_secs(20)).await;
    client.write_all(&[0x89, 0x80, 1, 2, 3, 4]).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let (inward, outward) = registry.idle(&tunnel);
    assert!((9.8..10.2).contains(&inward.as_secs_f64()), "{inward:?}");
    assert!((29.8..30.2).contains(&outward.as_secs_f64()), "{outward:?}");
    task.abort();
    registry.closed().await;
}
