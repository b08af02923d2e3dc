//! Probes of backends: what each type asks and believes, what becomes of a backend that is down, and
//! what a reload changes about it.

use std::time::Duration;

use crate::kit::{
    Authority, Echo, Event, Opcode, Proxy, RawBackend, Setup, Site, Wire, nobody, plain, soon,
};

/// One backend, and another that is always there for those who must go on.
async fn site(address: &str, other: &Echo, health: &str) -> Site {
    Site::of(&[("a", address), other.entry()])
        .upstream("sticky = 'query:key'")
        .upstream(&format!(
            "health = {{ interval = '50ms', rise = 1, fall = 1, {health} }}"
        ))
}

pub(super) async fn turned(proxy: &Proxy, message: &str) -> Event {
    proxy.log.wait(message, &[("backend", "a")]).await
}

/// Probes of `a` that came to each of these results.
async fn results<const N: usize>(proxy: &Proxy, results: [&str; N]) -> [f64; N] {
    let page = proxy.samples().await;
    results.map(|result| {
        let of = format!(r#"{{upstream="app",backend="a",result="{result}"}}"#);
        let counted = page.get(&format!("longhaul_probes_total{of}"));
        counted.copied().unwrap_or_default()
    })
}

async fn health_of(proxy: &Proxy, backend: &str) -> String {
    let status = proxy.status().await;
    let backends = status["upstreams"][0]["backends"].as_array().cloned();
    let backends = backends.expect("backends");
    let found = backends.iter().find(|one| one["name"] == backend);
    let health = found.unwrap_or_else(|| panic!("no {backend}: {status}"))["health"].as_str();
    health.expect("a word").to_owned()
}

/// A key that goes to `backend` when it is up.
pub(super) async fn key_of(proxy: &Proxy, backend: &str) -> String {
    for number in 0..200 {
        let key = format!("/?key={number}");
        if proxy.get(&key).await.text() == backend {
            return key;
        }
    }
    panic!("no key goes to {backend}");
}

#[tokio::test]
async fn a_tcp_probe_finds_who_listens() {
    let other = Echo::start("other").await;
    let address = nobody().await;
    let proxy = Proxy::start(site(&address, &other, "type = 'tcp'").await).await;
    let down = turned(&proxy, "backend is down").await;
    assert!(
        down.text("reason").contains("connecting failed"),
        "{down:?}"
    );
    assert_eq!(health_of(&proxy, "a").await, "down");
    assert_eq!(health_of(&proxy, "other").await, "up");
    for number in 0..20 {
        let answer = proxy.get(&format!("/?key={number}")).await;
        assert_eq!(answer.text(), "other");
    }
    assert!(
        proxy
            .log
            .all(|event| event.message == "backend not reached")
            .is_empty()
    );
    let up = r#"longhaul_backend_up{upstream="app",backend="a"}"#;
    assert_eq!(proxy.metric(up).await, 0.0);
    let _back = Echo::start_on("a", &address).await;
    turned(&proxy, "backend is up").await;
    assert_eq!(proxy.metric(up).await, 1.0);
    key_of(&proxy, "a").await;
    let said = proxy.log.all(|event| event.message == "backend is down");
    assert_eq!(said.len(), 1, "once, not for each probe: {said:?}");
    let [connect, ok] = results(&proxy, ["connect", "ok"]).await;
    assert!(connect >= 1.0 && ok >= 1.0, "{connect} and {ok}");
}

/// Plays one probe's backend.
async fn play(backend: &RawBackend, answer: &str) -> Wire {
    let mut wire = backend.accept().await;
    wire.request().await;
    // A probe that has seen enough leaves early.
    let _ = wire.try_send(answer).await;
    wire
}

#[tokio::test]
async fn an_http_probe_looks_at_status_and_body() {
    let other = Echo::start("other").await;
    let raw = RawBackend::start().await;
    let health = "type = 'http', path = '/health?x=1', body = 'fine', \
                  headers = { Host = 'app.example', x-probe = '1' }";
    let proxy = Proxy::start(site(raw.address(), &other, health).await).await;
    let mut wire = raw.accept().await;
    let request = wire.request().await;
    assert_eq!((&*request.method, &*request.target), ("GET", "/health?x=1"));
    assert_eq!(request.all("host"), ["app.example"]);
    assert_eq!(request.header("x-probe"), Some("1"));
    assert!(
        request
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with("longhaul/"))
    );
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nall is fine")
        .await;
    let good = "HTTP/1.1 204 No\r\n\r\n";
    for (answer, result) in [
        (
            "HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nfine",
            "the status is 503",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
            "the body",
        ),
        (good, "the body"),
        (
            "HTTP/1.1 302 No\r\ncontent-length: 4\r\n\r\nfine",
            "the status is 302",
        ),
        ("SSH-2.0\r\n\r\n", "not HTTP"),
    ] {
        let log = proxy.log.tail();
        // Whoever has sent its last word waits for its effect, as probes go on.
        let _wire = play(&raw, answer).await;
        let down = log.wait("backend is down", &[("backend", "a")]).await;
        assert!(down.text("reason").contains(result), "{answer}: {down:?}");
        let _wire = play(&raw, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await;
        log.wait("backend is up", &[("backend", "a")]).await;
    }
    let counted = results(&proxy, ["status", "body", "protocol", "ok", "handshake"]).await;
    assert_eq!(counted, [2.0, 2.0, 1.0, 6.0, 0.0]);
}

#[tokio::test]
async fn a_websocket_probe_checks_the_handshake_and_the_pong() {
    let other = Echo::start("other").await;
    let raw = RawBackend::start().await;
    let health = "type = 'websocket', path = '/ws', ping = true, timeout = '2s'";
    let proxy = Proxy::start(site(raw.address(), &other, health).await).await;
    // A 101 with the answer to somebody else's key.
    let _wire = play(&raw, &crate::kit::switching("")).await;
    let down = turned(&proxy, "backend is down").await;
    assert!(
        down.text("reason").contains("sec-websocket-accept"),
        "{down:?}"
    );
    // Right, and the Pong behind a greeting.
    let mut wire = shake_hands(&raw).await;
    let ping = wire.frame().await;
    assert_eq!((ping.opcode, ping.masked), (Opcode::Ping, true));
    wire.send(plain(Opcode::Text, true, b"hello")).await;
    wire.send(plain(Opcode::Pong, true, b"unasked")).await;
    wire.send(plain(Opcode::Pong, true, &ping.payload)).await;
    turned(&proxy, "backend is up").await;
    let close = wire.frame().await;
    assert_eq!(
        (close.opcode, close.close_code()),
        (Opcode::Close, Some(1000))
    );
    drop(wire);
    // Right, but the Ping goes unanswered.
    let log = proxy.log.tail();
    let _wire = shake_hands(&raw).await;
    let down = log.wait("backend is down", &[("backend", "a")]).await;
    assert!(down.text("reason").contains("within timeout"), "{down:?}");
    let counted = results(&proxy, ["handshake", "ok", "timeout", "ping"]).await;
    assert_eq!(counted, [1.0, 1.0, 1.0, 0.0]);
}

async fn shake_hands(raw: &RawBackend) -> Wire {
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    let mut wire = raw.accept().await;
    let request = wire.request().await;
    assert_eq!(request.header("upgrade"), Some("websocket"));
    let key = request.header("sec-websocket-key").expect("a key");
    let answer = crate::kit::switching("");
    let right = answer.replace(crate::kit::ACCEPT, &derive_accept_key(key.as_bytes()));
    wire.send(right).await;
    wire
}

#[tokio::test]
async fn a_status_that_the_config_calls_good_is_good() {
    let other = Echo::start("other").await;
    let raw = RawBackend::start().await;
    let health = "type = 'websocket', status = [401], initial = 'down'";
    let proxy = Proxy::start(site(raw.address(), &other, health).await).await;
    assert_eq!(health_of(&proxy, "a").await, "down");
    let _wire = play(&raw, "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await;
    turned(&proxy, "backend is up").await;
}

#[tokio::test]
async fn probes_go_over_tls_and_verify() {
    let other = Echo::start("other").await;
    let (right, wrong) = (Authority::new(), Authority::new());
    let pair = right.pair(&["localhost"]);
    let raw = RawBackend::tls(right.acceptor(&pair, None)).await;
    let setup = Setup::new();
    setup.write("right.pem", right.pem());
    setup.write("wrong.pem", wrong.pem());
    let site = |ca: &str| {
        Site::of(&[("a", raw.address()), other.entry()]).upstream(&format!(
            "scheme = 'https'\ntls = {{ ca = '{ca}.pem', server_name = 'localhost' }}\n\
             health = {{ type = 'http', interval = '50ms', rise = 1, fall = 1 }}"
        ))
    };
    let proxy = setup.start(site("wrong")).await;
    assert!(raw.try_accept().await.is_err());
    let down = turned(&proxy, "backend is down").await;
    assert!(down.text("reason").contains("tls"), "{down:?}");
    proxy.edit(site("right"));
    let good = async {
        loop {
            if let Ok(wire) = raw.try_accept().await {
                return wire;
            }
        }
    };
    let mut wire = soon("a probe with the right CA", good).await;
    wire.request().await;
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    wire.send(good).await;
    turned(&proxy, "backend is up").await;
}

#[tokio::test]
async fn a_websocket_probe_goes_over_tls_too() {
    let other = Echo::start("other").await;
    let authority = Authority::new();
    let pair = authority.pair(&["localhost"]);
    let raw = RawBackend::tls(authority.acceptor(&pair, None)).await;
    let setup = Setup::new();
    setup.write("ca.pem", authority.pem());
    let health = "type = 'websocket', ping = true, timeout = '2s', initial = 'down'";
    let site = site(raw.address(), &other, health).await;
    let tls = "scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'localhost' }";
    let proxy = setup.start(site.upstream(tls)).await;
    assert_eq!(health_of(&proxy, "a").await, "down");
    let mut wire = shake_hands(&raw).await;
    let ping = wire.frame().await;
    assert_eq!((ping.opcode, ping.masked), (Opcode::Ping, true));
    wire.send(plain(Opcode::Pong, true, &ping.payload)).await;
    turned(&proxy, "backend is up").await;
    assert_eq!(wire.frame().await.close_code(), Some(1000));
    drop(wire);
    let _wire = play(&raw, &crate::kit::switching("")).await;
    let down = turned(&proxy, "backend is down").await;
    assert!(down.text("reason").contains("sec-websocket-accept"));
}

#[tokio::test]
async fn verdicts_outlive_reloads_and_end_with_the_probes() {
    let other = Echo::start("other").await;
    let raw = RawBackend::start().await;
    let health = "type = 'http', timeout = '100ms'";
    let with = site(raw.address(), &other, health).await;
    let proxy = Proxy::start(&with).await;
    turned(&proxy, "backend is down").await;
    proxy
        .reload(with.clone().route("idle_timeout = '1h'"))
        .await;
    assert_eq!(health_of(&proxy, "a").await, "down");
    let without = Site::of(&[("a", raw.address()), other.entry()]).upstream("sticky = 'query:key'");
    proxy.reload(&without).await;
    assert_eq!(health_of(&proxy, "a").await, "up");
    // Some were begun before.
    let quiet = async {
        let second = Duration::from_secs(1);
        while tokio::time::timeout(second, raw.try_accept()).await.is_ok() {}
    };
    soon("a second without a probe", quiet).await;
    let said = proxy.log.all(|event| event.message == "backend is down");
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn with_none_up_all_are_used_and_below_the_threshold_too() {
    let (one, two) = (Echo::start("one").await, Echo::start("two").await);
    let dead = nobody().await;
    let raw = RawBackend::start().await;
    let health = "health = { type = 'tcp', interval = '50ms', rise = 1, fall = 1 }";
    let site = Site::of(&[one.entry(), ("dead", &dead), ("raw", raw.address())]);
    let site = site.upstream("balance = 'round_robin'").upstream(health);
    let proxy = Proxy::start(&site).await;
    proxy
        .log
        .wait("backend is down", &[("backend", "dead")])
        .await;
    assert_eq!(proxy.status().await["upstreams"][0]["panic"], false);
    let message = "too few backends are up: all are used";
    proxy
        .reload(site.clone().upstream("panic_threshold = 0.7"))
        .await;
    proxy.log.wait(message, &[("upstream", "app")]).await;
    assert_eq!(proxy.status().await["upstreams"][0]["panic"], true);
    proxy.reload(&site).await;
    proxy.log.wait("enough backends are up again", &[]).await;
    // None up: the probe's answer is never good, and requests still pass.
    let strict = Site::of(&[one.entry(), two.entry()])
        .upstream("health = { type = 'http', status = [299], interval = '50ms', fall = 1 }");
    let log = proxy.log.tail();
    proxy.reload(strict).await;
    log.wait(message, &[("upstream", "app")]).await;
    assert_eq!(proxy.get("/").await.head.status, 200);
}
