//! A service manager that does not read its notify socket, or only later.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::kit::{Echo, Proxy, Setup, Site};

/// More than a notify socket takes (`net.unix.max_dgram_qlen`, usually 10).
const RELOADS: u64 = 40;

async fn reload(proxy: &Proxy) {
    let log = proxy.log.tail();
    proxy.signal(Signal::HUP);
    log.wait("config reloaded", &[]).await;
}

#[tokio::test]
async fn one_that_never_reads_stops_neither_reload_nor_admin_nor_stop() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    proxy.stuff_notices().await;
    for n in 1..=RELOADS {
        reload(&proxy).await;
        assert_eq!(proxy.generation().await, 1 + n);
    }
    assert_eq!(proxy.get("/").await.text(), "a");
    let start = Instant::now();
    proxy.terminate();
    assert_eq!(proxy.exit().await.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}

/// Over HTTP/1.1 alone: it is about the service manager.
#[tokio::test]
async fn one_that_is_slow_is_told_everything_in_order() {
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address()).more("[drain]\nwindow = '30s'\n");
    let proxy = Proxy::start(site).await;
    // Stopping takes as long as it lives.
    let _tunnel = proxy.ws("/").await;
    proxy.stuff_notices().await;
    reload(&proxy).await;
    reload(&proxy).await;
    proxy.terminate();
    proxy.log.wait("still draining", &[]).await;
    proxy.read_notices().await;
    for generation in [2, 3] {
        let message = proxy.next_notice().await;
        assert!(message.starts_with("RELOADING=1\n"), "{message}");
        let message = proxy.next_notice().await;
        let status = format!("READY=1\nSTATUS=generation {generation}: ");
        assert!(message.starts_with(&status), "{message}");
    }
    let message = proxy.next_notice().await;
    assert!(message.starts_with("STOPPING=1\n"), "{message}");
}

#[tokio::test]
async fn one_that_comes_back_hears_of_the_last_state() {
    let backend = Echo::start("a").await;
    let watchdog = Setup::new().after("export WATCHDOG_USEC=3000000");
    let proxy = watchdog.start(Site::one(backend.address())).await;
    proxy.stuff_notices().await;
    for _ in 0..RELOADS {
        reload(&proxy).await;
    }
    proxy.read_notices().await;
    let status = format!("STATUS=generation {}: ", 1 + RELOADS);
    let message = proxy.notice(&status).await;
    assert!(message.starts_with("READY=1\n"), "{message}");
    proxy.notice("WATCHDOG=1").await;
    proxy.terminate();
    proxy.notice("STOPPING=1").await;
    assert_eq!(proxy.exit().await.code(), Some(0));
}
