//! What holds up an order and what does not: limits of the CA, clocks, others that
//! order the same, and edits that are refused.

use std::time::{Duration, UNIX_EPOCH};

use super::*;

const BOTH: &str = "certificates = 'acme'\nacme_names = ['a.test', 'b.test']";
const DAY: u64 = 86_400;

#[tokio::test]
async fn a_limit_of_one_name_holds_up_that_name_alone_and_a_day_at_most() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    ca.behaves(Mood::Limits("a.test", 10 * DAY));
    let proxy = setup(&ca).start(site(&ca, &backend, NAMES, QUICK)).await;
    let refused = failed(&proxy, "too many of this name").await;
    assert_eq!(refused.text("name"), "a.test");
    let seconds = refused.number("retry_seconds");
    assert!((DAY - 60..=DAY).contains(&seconds), "{seconds}");
    // One that comes after it has the CA to itself.
    show(&ca, &proxy).await;
    proxy.reload(site(&ca, &backend, BOTH, QUICK)).await;
    issued(&proxy, "b.test").await;
    proxy.tls(&ca.authority.client(), "b.test").await;
    proxy.reload(site(&ca, &backend, NAMES, QUICK)).await;
    // Nor does an edit of the names end its wait.
    let next = standing(&proxy, "a.test").await["next_attempt_unix"].as_u64();
    let now = UNIX_EPOCH.elapsed().expect("now").as_secs();
    let left = next.expect("a time").saturating_sub(now);
    assert!((DAY - 60..=DAY).contains(&left), "{left}");
    assert_eq!(ca.orders(), ["b.test"]);
}

#[tokio::test]
async fn a_ca_without_time_holds_up_all_names_and_an_hour_at_most() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    ca.behaves(Mood::Busy(10 * DAY));
    let proxy = setup(&ca).start(site(&ca, &backend, BOTH, QUICK)).await;
    for name in ["a.test", "b.test"] {
        let refused = [("name", name)];
        let refused = proxy.log.wait("certificate not issued", &refused).await;
        let seconds = refused.number("retry_seconds");
        assert!((3540..=3600).contains(&seconds), "{name}: {seconds}");
    }
}

#[tokio::test]
async fn a_certificate_of_a_clock_that_is_ahead_of_ours_is_kept_and_said_once() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    ca.is_ahead(Duration::from_secs(DAY));
    let proxy = setup(&ca).start(site(&ca, &backend, NAMES, QUICK)).await;
    show(&ca, &proxy).await;
    issued(&proxy, "a.test").await;
    let early = "certificate is not valid yet by this clock, which must be behind; it serves";
    let is_early = |event: &Event| event.message == early;
    assert_eq!(proxy.log.all(is_early).len(), 1);
    // A process that begins takes it as it is.
    let storage = proxy.path("storage").display().to_string();
    let other = Site::one(backend.address())
        .listener(NAMES)
        .more(&ca.section(&storage, QUICK));
    let second = setup(&ca).beside().start(other).await;
    second.log.wait(early, &[("name", "a.test")]).await;
    assert_eq!(second.log.all(is_early).len(), 1);
    let now = UNIX_EPOCH.elapsed().expect("now").as_secs();
    let standing = standing(&proxy, "a.test").await;
    let at = |key: &str| standing[key].as_u64().expect("a time");
    assert!(at("not_after_unix") > now + 90 * DAY, "{standing}");
    assert!(at("next_attempt_unix") > now + 58 * DAY, "{standing}");
    assert_eq!(ca.orders(), ["a.test"]);
    // It is the client that has no such clock which refuses it.
    let refused = second.try_tls(&ca.authority.client(), "a.test").await;
    let error = refused.map(drop).expect_err("not valid yet").to_string();
    assert!(error.contains("not valid yet"), "{error}");
}

#[tokio::test]
async fn of_two_processes_that_begin_together_one_orders_and_both_have_it() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let shared = tempfile::tempdir().expect("a directory");
    let storage = shared.path().join("acme").display().to_string();
    let site = || {
        Site::one(backend.address())
            .listener(NAMES)
            .more(&ca.section(&storage, QUICK))
    };
    let (first, second) = tokio::join!(setup(&ca).start(site()), setup(&ca).beside().start(site()));
    let ordering = "ordering a certificate";
    let both = [&first, &second];
    let (one, other) = tokio::select! {
        _ = first.log.wait(ordering, &[]) => (both[0], both[1]),
        _ = second.log.wait(ordering, &[]) => (both[1], both[0]),
    };
    let waits = "another process that has this storage orders the certificates";
    other.log.wait(waits, &[]).await;
    ca.looks_at_tls(&one.address("main").await);
    issued(one, "a.test").await;
    other
        .log
        .wait("certificate taken from the storage", &[("name", "a.test")])
        .await;
    for proxy in both {
        proxy.tls(&ca.authority.client(), "a.test").await;
    }
    assert_eq!((ca.orders().len(), ca.accounts()), (1, 1));
    assert!(other.log.all(|it| it.message == ordering).is_empty());
}

#[tokio::test]
async fn a_name_of_two_listeners_is_ordered_once_and_serves_both() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let other = format!("[listeners.other]\naddress = '127.0.0.1:0'\n{BOTH}\n");
    let site = site(&ca, &backend, NAMES, QUICK).more(&other);
    let proxy = setup(&ca).start(site).await;
    show(&ca, &proxy).await;
    issued(&proxy, "a.test").await;
    issued(&proxy, "b.test").await;
    let client = ca.authority.client();
    proxy.tls(&client, "a.test").await;
    let address = proxy.address("other").await;
    for name in ["a.test", "b.test"] {
        client.connect(&address, name).await.expect("a handshake");
    }
    let mut orders = ca.orders();
    orders.sort();
    assert_eq!(orders, ["a.test", "b.test"]);
}

#[tokio::test]
async fn an_edit_that_is_refused_puts_nothing_in_service() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let shared = tempfile::tempdir().expect("a directory");
    let storage = shared.path().join("acme").display().to_string();
    let of = |storage: &str| {
        Site::one(backend.address())
            .listener(NAMES)
            .more(&ca.section(storage, QUICK))
    };
    let first = setup(&ca).start(of(&storage)).await;
    ca.looks_at_tls(&first.address("main").await);
    issued(&first, "a.test").await;
    first.terminate();
    assert!(first.exit().await.success());
    drop(first);

    ca.looks_nowhere();
    let proxy = setup(&ca).start(of("empty")).await;
    let client = ca.authority.client();
    proxy.log.wait("ordering a certificate", &[]).await;
    // What the config names is read; that it cannot be had is found later.
    let taken = format!("[listeners.taken]\naddress = '{}'\n", backend.address());
    proxy.refuse(of(&storage).more(&taken)).await;
    assert!(proxy.try_tls(&client, "a.test").await.is_err());
    let refused = [("refusal", "no_certificate")];
    proxy.log.wait("tls handshake failed", &refused).await;
    proxy.reload(of(&storage)).await;
    proxy.tls(&client, "a.test").await;
    assert_eq!(ca.orders().len(), 2);
}
