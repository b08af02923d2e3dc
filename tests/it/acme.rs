//! Certificates by ACME, from a CA that is strict and sometimes wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::acme::{Ca, Mood};
use crate::kit::{
    Authority, Echo, Event, Over, Proxy, Setup, Site, TlsVersion, longhaul, over_each,
};

mod waits;

over_each!(a_renewal_touches_no_tunnel);

const NAMES: &str = "certificates = 'acme'\nacme_names = ['a.test']";
const QUICK: &str = "retry_interval = '200ms'\nmax_retry_interval = '400ms'";

/// `main` speaks TLS by this CA, `plain` redirects.
fn site(ca: &Ca, backend: &Echo, names: &str, more: &str) -> Site {
    Site::one(backend.address())
        .listener(names)
        .more("[listeners.plain]\naddress = '127.0.0.1:0'\nredirect_to_https = true\n")
        .more(&ca.section("storage", more))
}

fn setup(ca: &Ca) -> Setup {
    let setup = Setup::new();
    setup.write("ca.pem", ca.authority.pem());
    setup
}

/// Lets the CA see the listeners.
async fn show(ca: &Ca, proxy: &Proxy) {
    ca.looks_at_http(&proxy.address("plain").await);
    ca.looks_at_tls(&proxy.address("main").await);
}

async fn issued(proxy: &Proxy, name: &str) -> Event {
    proxy
        .log
        .wait("certificate issued", &[("name", name)])
        .await
}

async fn failed(proxy: &Proxy, error: &str) -> Event {
    let is_it = |event: &Event| {
        event.message == "certificate not issued" && event.text("error").contains(error)
    };
    proxy.log.wait_for(is_it).await
}

/// What `/status` says of a name.
async fn standing(proxy: &Proxy, name: &str) -> Value {
    let status = proxy.status().await;
    let all = status["acme"].as_array().expect("a list").clone();
    let found = all.into_iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {status}"))
}

fn modes(dir: &Path, found: &mut Vec<(String, u32)>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("facts").permissions().mode() & 0o777;
        found.push((entry.file_name().to_string_lossy().into_owned(), mode));
        if entry.path().is_dir() {
            modes(&entry.path(), found);
        }
    }
}

#[tokio::test]
async fn the_first_certificate_comes_by_http_and_is_kept_for_the_owner_alone() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let contact = "contact = ['ops@example.com']\nchallenges = ['http-01']";
    let proxy = setup(&ca).start(site(&ca, &backend, NAMES, contact)).await;
    let client = ca.authority.client();
    // It has begun without a certificate: whoever asks for the name is refused.
    let ordering = proxy.log.wait("ordering a certificate", &[]).await;
    assert_eq!(ordering.text("challenge"), "http-01");
    assert!(proxy.try_tls(&client, "a.test").await.is_err());
    let refused = [("refusal", "no_certificate")];
    proxy.log.wait("tls handshake failed", &refused).await;
    assert_eq!(
        standing(&proxy, "a.test").await["not_after_unix"],
        Value::Null
    );

    ca.looks_at_http(&proxy.address("plain").await);
    issued(&proxy, "a.test").await;
    let mut wire = proxy.tls(&client, "a.test").await;
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(wire.response().await.text(), "a");
    assert_eq!(ca.contact(), json!(["mailto:ops@example.com"]));

    let mut found = Vec::new();
    modes(&proxy.path("storage"), &mut found);
    for (name, mode) in &found {
        let expected = if name.starts_with("localhost") {
            0o700
        } else {
            0o600
        };
        assert_eq!(*mode, expected, "{name} of {found:?}");
    }
    for name in ["account.json", "a.test.pem", "lock"] {
        assert!(
            found.iter().any(|(one, _)| one == name),
            "{name} of {found:?}"
        );
    }
    let days = 90.0 * 86_400.0;
    let now = std::time::UNIX_EPOCH.elapsed().expect("now").as_secs_f64();
    let ends = "longhaul_certificate_expiry_timestamp_seconds{chain=\"acme:a.test\"}";
    assert!((proxy.metric(ends).await - now - days).abs() < 3600.0);
    assert_eq!(
        proxy
            .metric("longhaul_acme_orders_total{result=\"ok\"}")
            .await,
        1.0
    );
    let standing = standing(&proxy, "a.test").await;
    let next = standing["next_attempt_unix"].as_f64().expect("a time");
    // A third of its life before its end, or up to a tenth of that later.
    assert!(
        (58.0..66.0).contains(&((next - now) / 86_400.0)),
        "{standing}"
    );
    let mut status = longhaul();
    status
        .args(["status", "--admin"])
        .arg(proxy.path("admin.sock"));
    let output = status.output().expect("to run longhaul");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = text.lines().find(|line| line.starts_with("a.test"));
    assert!(
        line.is_some_and(|line| line.contains(&next.to_string())),
        "{text}"
    );
    // Only who has the token is answered; others meet the redirect.
    let mut wire = proxy.connect_to("plain").await;
    let path = "/.well-known/acme-challenge/none";
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
        .await;
    assert_eq!(wire.response().await.head.status, 308);
}

#[tokio::test]
async fn by_tls_without_a_client_certificate_where_clients_need_one() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let clients = Authority::new();
    let setup = setup(&ca);
    setup.write("clients.pem", clients.pem());
    let site = Site::one(backend.address())
        .listener(NAMES)
        .listener("client_certificates = { ca = 'clients.pem' }")
        .more(&ca.section("storage", ""));
    let proxy = setup.start(site).await;
    // There is no plain listener, so nothing else is tried.
    let ordering = proxy.log.wait("ordering a certificate", &[]).await;
    assert_eq!(ordering.text("challenge"), "tls-alpn-01");
    ca.looks_at_tls(&proxy.address("main").await);
    issued(&proxy, "a.test").await;
    proxy
        .log
        .wait("acme proof shown", &[("listener", "main")])
        .await;
    assert_eq!(proxy.metric("longhaul_tls_failures_total").await, 0.0);
    let pair = clients.client_pair("device");
    let own = ca.authority.client_with(TlsVersion::Any, Some(&pair));
    let mut wire = proxy.tls(&own, "a.test").await;
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(wire.response().await.text(), "a");
    // No proof is left for who comes later.
    let late = own.alpn(&["acme-tls/1"]);
    assert!(proxy.try_tls(&late, "a.test").await.is_err());
}

#[tokio::test]
async fn a_restart_orders_nothing_and_of_two_processes_one_orders() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let shared = tempfile::tempdir().expect("a directory");
    let storage = shared.path().join("acme").display().to_string();
    let site = |names: &str| {
        Site::one(backend.address())
            .listener(&format!("certificates = 'acme'\nacme_names = [{names}]"))
            .more(&ca.section(&storage, ""))
    };
    let first = setup(&ca).start(site("'a.test'")).await;
    ca.looks_at_tls(&first.address("main").await);
    issued(&first, "a.test").await;
    first.terminate();
    assert!(first.exit().await.success());
    drop(first);

    // What is stored serves from the first connection on, and the CA hears nothing.
    let asked = ca.requests();
    let second = setup(&ca).start(site("'a.test'")).await;
    let client = ca.authority.client();
    second.tls(&client, "a.test").await;
    assert_eq!((ca.requests(), ca.orders().len()), (asked, 1));

    // Of two that want the same, one orders, and the other when that is gone.
    ca.looks_nowhere();
    let both = "'a.test', 'b.test'";
    let third = setup(&ca).beside().start(site(both)).await;
    third.tls(&client, "a.test").await;
    third.log.wait("ordering a certificate", &[]).await;
    second.reload(site(both)).await;
    let other = "another process that has this storage orders the certificates";
    second.log.wait(other, &[]).await;
    assert_eq!(ca.orders(), ["a.test", "b.test"]);
    third.terminate();
    assert!(third.exit().await.success());
    second.log.wait("ordering a certificate", &[]).await;
    ca.looks_at_tls(&second.address("main").await);
    issued(&second, "b.test").await;
    second.tls(&client, "b.test").await;
    assert_eq!(ca.orders(), ["a.test", "b.test", "b.test"]);
    assert_eq!(ca.accounts(), 1);
}

async fn a_renewal_touches_no_tunnel(over: Over) {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    // Its time for renewal is over when it comes: the wait alone is left.
    ca.issues_for(Duration::from_secs(600), Duration::from_secs(150));
    let site = site(&ca, &backend, NAMES, QUICK);
    let proxy = setup(&ca).start(site).await.over(over);
    show(&ca, &proxy).await;
    issued(&proxy, "a.test").await;
    let client = ca.authority.client();
    let log = proxy.log.tail();
    let wire = proxy.tls(&client, "a.test").await;
    let mut tunnel = crate::kit::Ws::open(wire, "/", "a.test", "").await;
    tunnel.greeting().await;
    ca.issues_for(Duration::from_secs(3600), Duration::from_secs(86_400));
    // One more may have been under way with the old dates.
    log.wait("certificate issued", &[("days", "1.0")]).await;
    tunnel.echo("still there").await;
    assert_eq!(proxy.generation().await, 1);
    let standing = standing(&proxy, "a.test").await;
    assert_eq!(standing["error"], Value::Null);
    let mut after = proxy.tls(&client, "a.test").await;
    after.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(after.response().await.text(), "a");
    assert!(ca.orders().len() >= 2);
    assert_eq!(ca.accounts(), 1);
}

#[tokio::test]
async fn whatever_is_wrong_with_the_ca_is_said_and_waited_for() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    ca.behaves(Mood::Garbage("<html>no directory</html>".to_owned()));
    let proxy = setup(&ca).start(site(&ca, &backend, NAMES, QUICK)).await;
    let first = failed(&proxy, "is no directory of a CA").await;
    assert_eq!(first.text("name"), "a.test");
    // URLs that are none would have the protocol's crate panic.
    let urls = r#"{"newNonce":"no url","newAccount":"x","newOrder":"y"}"#;
    let log = proxy.log.tail();
    ca.behaves(Mood::Garbage(urls.to_owned()));
    log.wait("certificate not issued", &[]).await;
    ca.behaves(Mood::Garbage("x".repeat(300 * 1024)));
    failed(&proxy, "larger than 256 KiB").await;
    let said = standing(&proxy, "a.test").await;
    assert!(
        said["error"].is_string() && said["last_attempt_unix"].is_u64(),
        "{said}"
    );
    ca.behaves(Mood::Refuses(403, None));
    failed(&proxy, "too many of everything").await;
    show(&ca, &proxy).await;
    ca.behaves(Mood::WrongKey);
    failed(&proxy, "does not belong").await;
    assert!(
        proxy
            .try_tls(&ca.authority.client(), "a.test")
            .await
            .is_err()
    );
    // All of it is no matter to what is served, and over when the CA is well.
    let mut wire = proxy.connect_to("plain").await;
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(wire.response().await.head.status, 308);
    ca.behaves(Mood::Good);
    issued(&proxy, "a.test").await;
    assert_eq!(standing(&proxy, "a.test").await["error"], Value::Null);
    proxy.tls(&ca.authority.client(), "a.test").await;
}

#[tokio::test]
async fn a_ca_that_is_silent_is_given_up_and_one_that_is_gone_waited_for() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    ca.behaves(Mood::Silent);
    let patience = |time: &str| format!("{QUICK}\norder_timeout = '{time}'");
    let config = |time: &str| site(&ca, &backend, NAMES, &patience(time));
    let proxy = setup(&ca).start(config("300ms")).await;
    failed(&proxy, "order_timeout has passed").await;
    show(&ca, &proxy).await;
    ca.behaves(Mood::Good);
    let gone = config("1m")
        .to_string()
        .replace("https://localhost:", "https://localhost:9/");
    proxy.reload(gone).await;
    failed(&proxy, "connecting to localhost failed").await;
    proxy.reload(config("1m")).await;
    issued(&proxy, "a.test").await;
    proxy.tls(&ca.authority.client(), "a.test").await;
}

#[tokio::test]
async fn no_attempt_comes_before_its_wait_is_over_and_what_the_ca_asks_is_kept() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    ca.behaves(Mood::Refuses(403, None));
    let waits = "retry_interval = '300ms'\nmax_retry_interval = '1h'";
    let proxy = setup(&ca).start(site(&ca, &backend, NAMES, waits)).await;
    show(&ca, &proxy).await;
    let log = proxy.log.tail();
    failed(&proxy, "too many").await;
    let start = Instant::now();
    ca.behaves(Mood::Refuses(429, Some(3600)));
    let is_second = |event: &Event| {
        event.message == "certificate not issued" && event.number("retry_seconds") > 3500
    };
    log.wait_for(is_second).await;
    assert!(
        start.elapsed() >= Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
    let next = standing(&proxy, "a.test").await["next_attempt_unix"].as_u64();
    let now = std::time::UNIX_EPOCH.elapsed().expect("now").as_secs();
    assert!(next.expect("a time") > now + 3500);
    // Nor does a process that is started anew forget its failures.
    ca.behaves(Mood::Good);
    let failures = proxy.path("storage");
    let dir = fs::read_dir(failures).expect("a storage").next();
    let dir = dir.expect("a CA").expect("a CA").path();
    let kept = fs::read_to_string(dir.join("a.test.failed")).expect("failures");
    assert!(kept.starts_with("2 "), "{kept}");
}

#[tokio::test]
async fn a_proof_that_is_not_seen_is_told_and_the_other_way_is_tried() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let proxy = setup(&ca).start(site(&ca, &backend, NAMES, QUICK)).await;
    // The name leads elsewhere: to a backend that knows no token.
    ca.looks_at_http(backend.address());
    let failed = failed(&proxy, "not the proof").await;
    let error = failed.text("error");
    assert!(
        error.contains("could not verify the name by http-01"),
        "{error}"
    );
    ca.looks_at_tls(&proxy.address("main").await);
    issued(&proxy, "a.test").await;
}

#[tokio::test]
async fn an_edit_orders_what_it_adds_and_nothing_else() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let host = |name: &str| format!("[[routes]]\nhost = '{name}'\nupstream = 'app'\n");
    let base = || site(&ca, &backend, "certificates = 'acme'", QUICK).more(&host("a.test"));
    let proxy = setup(&ca).start(base()).await;
    show(&ca, &proxy).await;
    issued(&proxy, "a.test").await;
    proxy.reload(base().route("idle_timeout = '1h'")).await;
    proxy.reload(base().more(&host("b.test"))).await;
    issued(&proxy, "b.test").await;
    let client = ca.authority.client();
    for name in ["a.test", "b.test"] {
        proxy.tls(&client, name).await;
    }
    proxy.reload(base()).await;
    // Who asks for a name that is gone gets the first, as any stranger does.
    assert!(proxy.try_tls(&client, "b.test").await.is_err());
    proxy.reload(base().more(&host("b.test"))).await;
    proxy.tls(&client, "b.test").await;
    assert_eq!(ca.orders(), ["a.test", "b.test"]);
}

#[tokio::test]
async fn an_account_that_the_ca_has_forgotten_is_made_anew() {
    let (ca, backend) = (Ca::start().await, Echo::start("a").await);
    let names = |all: &str| format!("certificates = 'acme'\nacme_names = [{all}]");
    let config = |all: &str| site(&ca, &backend, &names(all), QUICK);
    let proxy = setup(&ca).start(config("'a.test'")).await;
    show(&ca, &proxy).await;
    issued(&proxy, "a.test").await;
    ca.behaves(Mood::Forgetful);
    proxy.reload(config("'a.test', 'b.test'")).await;
    failed(&proxy, "accountDoesNotExist").await;
    ca.behaves(Mood::Good);
    issued(&proxy, "b.test").await;
    assert_eq!(ca.accounts(), 2);
}
