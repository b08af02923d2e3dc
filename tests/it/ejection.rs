//! Backends that are ejected by what their clients meet there, and how many may be.

use crate::kit::{
    Echo, Event, Fixed, Over, Proxy, RawBackend, Site, eventually, handshake, nobodies, nobody,
    over_each,
};

over_each!(
    what_a_client_gets_wrong_ejects_nobody_and_what_a_server_gets_wrong_does,
    a_backend_that_answers_no_handshake_is_ejected,
    the_tunnels_of_the_ejected_are_drained_if_the_upstream_says_so,
);

/// A backend `a`, and another that is always there for those who must go on.
pub(super) fn site(address: &str, other: &Echo, ejection: &str) -> Site {
    Site::of(&[("a", address), other.entry()])
        .upstream("sticky = 'query:key'")
        .upstream(&format!(
            "ejection = {{ failures = 3, time = '1h', max_time = '1h', {ejection} }}"
        ))
}

/// Keys that go to `a`, one for each of whatever else is asked for them.
pub(super) fn keys() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("/?key={number}"))
}

pub(super) fn is_ejected(event: &Event) -> bool {
    event.is("backend is ejected", &[("backend", "a")])
}

pub(super) fn ejected(proxy: &Proxy) -> bool {
    !proxy.log.all(is_ejected).is_empty()
}

/// Whether `a` is ejected, and how often it was for what cannot be connected to.
async fn counted(proxy: &Proxy) -> [f64; 2] {
    let page = proxy.samples().await;
    let of = r#"upstream="app",backend="a""#;
    [
        page[&format!("longhaul_backend_ejected{{{of}}}")],
        page[&format!(r#"longhaul_ejections_total{{{of},report="connect"}}"#)],
    ]
}

pub(super) async fn reported(proxy: &Proxy, report: &str) -> f64 {
    let labels = format!(r#"{{upstream="app",backend="a",report="{report}"}}"#);
    proxy
        .metric(&format!("longhaul_reports_total{labels}"))
        .await
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_ejected_and_comes_back_more_slowly_each_time() {
    let other = Echo::start("other").await;
    let address = nobody().await;
    let site = site(&address, &other, "").to_string();
    let proxy = Proxy::start(site.replace(" time = '1h'", " time = '400ms'")).await;
    for in_a_row in [1, 2] {
        let log = proxy.log.tail();
        for key in keys() {
            if proxy.log.all(is_ejected).len() == in_a_row {
                break;
            }
            assert_eq!(proxy.get(&key).await.text(), "other");
        }
        let event = log
            .wait("backend is ejected", &[("reason", "connect")])
            .await;
        assert_eq!(event.number("in_a_row"), in_a_row as u64);
        log.wait("backend is up", &[("backend", "a")]).await;
    }
    assert!(reported(&proxy, "connect").await >= 6.0);
    assert_eq!(counted(&proxy).await, [0.0, 2.0]);
}

#[tokio::test]
async fn the_ejected_get_nothing_and_the_status_says_so() {
    let other = Echo::start("other").await;
    let proxy = Proxy::start(site(&nobody().await, &other, "")).await;
    for key in keys() {
        if ejected(&proxy) {
            break;
        }
        proxy.get(&key).await;
    }
    let log = proxy.log.tail();
    for key in keys().take(20) {
        assert_eq!(proxy.get(&key).await.text(), "other");
    }
    assert!(
        log.all(|event| event.message == "backend not reached")
            .is_empty()
    );
    let status = proxy.status().await;
    let backend = &status["upstreams"][0]["backends"][0];
    assert_eq!(backend["health"], "ejected");
    assert_eq!(backend["ejection"]["report"], "connect");
    assert!(backend["ejection"]["seconds_left"].as_f64() > Some(3000.0));
    let up = r#"longhaul_backend_up{upstream="app",backend="a"}"#;
    assert_eq!(proxy.metric(up).await, 0.0);
    assert_eq!(counted(&proxy).await, [1.0, 1.0]);
    let another = r#"longhaul_backend_ejected{upstream="app",backend="other"}"#;
    assert_eq!(proxy.samples().await[another], 0.0);
}

async fn what_a_client_gets_wrong_ejects_nobody_and_what_a_server_gets_wrong_does(over: Over) {
    let other = Echo::start("other").await;
    let fixed = Fixed::start("HTTP/1.1 404 Not Found").await;
    let proxy = Proxy::start(site(fixed.address(), &other, ""))
        .await
        .over(over);
    for status in [400, 401, 403, 404, 426, 429, 501, 505] {
        fixed.set(&format!("HTTP/1.1 {status} No"));
        let before = fixed.requests().len();
        for key in keys().take(12) {
            proxy.get(&key).await;
            let mut wire = proxy.connect().await;
            wire.send(handshake(&key, "localhost", "")).await;
            wire.response_head().await;
        }
        assert!(fixed.requests().len() > before + 4, "{status}");
    }
    assert!(!ejected(&proxy));
    fixed.set("HTTP/1.1 503 No");
    for key in keys() {
        if ejected(&proxy) {
            break;
        }
        proxy.get(&key).await;
    }
    assert_eq!(
        proxy.log.wait_for(is_ejected).await.text("reason"),
        "status"
    );
}

async fn a_backend_that_answers_no_handshake_is_ejected(over: Over) {
    let other = Echo::start("other").await;
    let raw = RawBackend::start().await;
    let site = site(raw.address(), &other, "").route("handshake_timeout = '100ms'");
    let proxy = Proxy::start(site).await.over(over);
    for key in keys() {
        if ejected(&proxy) {
            break;
        }
        let mut wire = proxy.connect().await;
        wire.send(handshake(&key, "localhost", "")).await;
        let status = wire.response_head().await.status;
        assert!(matches!(status, 101 | 504), "{status}");
    }
    assert_eq!(
        proxy.log.wait_for(is_ejected).await.text("reason"),
        "timeout"
    );
}

async fn the_tunnels_of_the_ejected_are_drained_if_the_upstream_says_so(over: Over) {
    let (raw, other) = (RawBackend::start().await, Echo::start("other").await);
    let policy = "on_unhealthy = 'drain'\ndrain = { window = '0s' }";
    let proxy = Proxy::start(site(raw.address(), &other, "").upstream(policy))
        .await
        .over(over);
    let mut key = None;
    for candidate in keys() {
        let mut wire = proxy.connect().await;
        wire.send(handshake(&candidate, "localhost", "")).await;
        let at_backend = tokio::select! {
            at_backend = raw.accept() => at_backend,
            _ = wire.response_head() => continue,
        };
        key = Some((candidate, wire, at_backend));
        break;
    }
    let (key, mut client, mut at_backend) = key.expect("a key of a");
    at_backend.request().await;
    at_backend.switch("").await;
    assert_eq!(client.response_head().await.status, 101);
    for _ in 0..3 {
        let failing = async {
            let mut wire = raw.accept().await;
            wire.request().await;
            wire.send("HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await;
        };
        let (answer, ()) = tokio::join!(proxy.get(&key), failing);
        assert_eq!(answer.head.status, 500);
    }
    assert_eq!(client.frame().await.close_code(), Some(1012));
    proxy.log.wait_for(is_ejected).await;
}

/// Asks until `count` are ejected, and then as often again: no more may follow.
async fn only_are_ejected(proxy: &Proxy, count: usize) {
    let all = || proxy.log.all(|event| event.message == "backend is ejected");
    for _ in 0..40 {
        proxy.get("/").await;
    }
    eventually(format!("{count} to be ejected"), || all().len() == count).await;
    for _ in 0..40 {
        proxy.get("/").await;
    }
    assert_eq!(all().len(), count, "{:?}", all());
}

#[tokio::test]
async fn no_more_are_ejected_than_may_be() {
    let nobodies: [String; 4] = nobodies().await;
    let site = |count: usize, max_ejected: &str| {
        let named = ["a", "b", "c", "d"].into_iter().zip(nobodies.iter());
        let entries: Vec<_> = named.map(|(name, at)| (name, &**at)).take(count).collect();
        Site::of(&entries).upstream(&format!(
            "balance = 'round_robin'\n\
             ejection = {{ failures = 2, time = '1h', max_time = '1h', {max_ejected} }}"
        ))
    };
    for (count, max_ejected, most) in [
        (2, "", 1),
        (4, "max_ejected = 0.25", 1),
        (4, "max_ejected = 0.75", 3),
        // Less than one is none.
        (4, "max_ejected = 0.2", 0),
    ] {
        let proxy = Proxy::start(site(count, max_ejected)).await;
        assert_eq!(proxy.get("/").await.head.status, 502);
        only_are_ejected(&proxy, most).await;
    }
    // What is edited holds for those that are out already.
    let proxy = Proxy::start(site(4, "max_ejected = 0.25")).await;
    only_are_ejected(&proxy, 1).await;
    proxy.reload(site(4, "max_ejected = 0.5")).await;
    only_are_ejected(&proxy, 2).await;
}

#[tokio::test]
async fn where_too_many_are_ejected_all_are_used() {
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let [a, b] = nobodies().await;
    let site = Site::of(&[("a", &a), ("b", &b), one.entry(), two.entry()]).upstream(
        "balance = 'round_robin'\npanic_threshold = 0.6\n\
         ejection = { failures = 2, time = '1h', max_time = '1h', max_ejected = 1.0 }",
    );
    let proxy = Proxy::start(site).await;
    let not_reached = |event: &Event| event.message == "backend not reached";
    let panics = |event: &Event| event.message.starts_with("too few backends are up");
    for _ in 0..40 {
        assert_eq!(proxy.get("/").await.head.status, 200);
    }
    proxy.log.wait_for(panics).await;
    // Three of four were enough, two are not.
    let ejected = proxy.log.all(|event| event.message == "backend is ejected");
    assert_eq!(ejected.len(), 2, "{ejected:?}");
    assert_eq!(proxy.status().await["upstreams"][0]["panic"], true);
    let log = proxy.log.tail();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.head.status, 200);
    }
    for backend in ["a", "b"] {
        let of = |event: &Event| not_reached(event) && event.text("backend") == backend;
        log.wait_for(of).await;
    }
}

#[tokio::test]
async fn reports_that_are_not_listed_do_not_count() {
    let other = Echo::start("other").await;
    let fixed = Fixed::start("HTTP/1.1 500 No").await;
    let proxy = Proxy::start(site(fixed.address(), &other, "reports = ['connect']")).await;
    for key in keys().take(30) {
        proxy.get(&key).await;
    }
    assert!(fixed.requests().len() > 5);
    assert!(!ejected(&proxy));
    assert!(
        reported(&proxy, "status").await > 5.0,
        "they are counted all the same"
    );
}
