//! What the metrics say of the process, of TLS and of the configuration.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::kit::{Authority, Echo, Proxy, Setup, Site, TlsVersion, dial, nobody, soon};

#[tokio::test]
async fn tls_handshakes_and_the_ends_of_certificates() {
    let (authority, backend) = (Authority::new(), Echo::start("a").await);
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let proxy = setup.start(Site::one(backend.address()).tls()).await;
    for version in [TlsVersion::V12, TlsVersion::V13] {
        proxy
            .tls(&authority.client_with(version, None), "localhost")
            .await;
    }
    proxy
        .connect_plainly()
        .await
        .send("GET / HTTP/1.1\r\n\r\n")
        .await;
    for version in ["TLSv1.2", "TLSv1.3"] {
        let counted =
            format!("longhaul_tls_handshakes_total{{version=\"{version}\",resumed=\"false\"}}");
        proxy.settles(&counted, 1.0).await;
    }
    proxy
        .settles("longhaul_tls_failures_total{refusal=\"not_tls\"}", 1.0)
        .await;
    let page = proxy.samples().await;
    let prefix = "longhaul_certificate_expiry_timestamp_seconds{chain=\"";
    let ends: Vec<_> = page
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .collect();
    let [(name, end)] = ends[..] else {
        panic!("one certificate: {ends:?}");
    };
    assert!(name.ends_with("site.pem\"}"), "{name}");
    // rcgen's certificates end in the year 4096.
    assert!((6.7e10..6.8e10).contains(end), "{end}");
}

#[tokio::test]
async fn what_is_in_force_and_whether_the_last_edit_is() {
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address());
    let proxy = Proxy::start(&site).await;
    let of_hash = |status: &serde_json::Value| {
        let hash = status["config_hash"].as_str().expect("a hash").to_owned();
        format!("longhaul_config_info{{hash=\"{hash}\"}}")
    };
    let first = of_hash(&proxy.status().await);
    let page = proxy.samples().await;
    assert_eq!(page[&first], 1.0);
    assert_eq!(page["longhaul_config_last_reload_ok"], 1.0);
    let at = page["longhaul_config_last_reload_timestamp_seconds"];
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    assert!((now.as_secs_f64() - at).abs() < 60.0, "{at}");
    proxy.refuse("[nonsense").await;
    proxy.settles("longhaul_config_last_reload_ok", 0.0).await;
    let state = |state: &str| {
        format!("longhaul_backend_state{{upstream=\"app\",backend=\"a\",state=\"{state}\"}}")
    };
    assert_eq!(proxy.samples().await[&state("active")], 1.0);
    let draining = site
        .to_string()
        .replace("name = \"a\"", "name = \"a\", state = \"draining\"");
    proxy.reload(draining).await;
    proxy.settles("longhaul_config_last_reload_ok", 1.0).await;
    let page = proxy.samples().await;
    assert_eq!(
        (page[&state("active")], page[&state("draining")]),
        (0.0, 1.0)
    );
    assert_eq!(page.get(&first), None, "only the one in force");
    assert_eq!(page[&of_hash(&proxy.status().await)], 1.0);
}

/// Over HTTP/1.1 alone: it counts the sockets of tunnels, which streams have not.
#[tokio::test]
async fn the_process_and_its_limits() {
    let backend = Echo::start("a").await;
    let proxy = Setup::new()
        .after("ulimit -n 1000; ulimit -v 8000000")
        .start(Site::one(backend.address()))
        .await;
    let before = proxy.samples().await;
    assert_eq!(before["process_max_fds"], 1000.0);
    assert_eq!(
        before["process_virtual_memory_max_bytes"],
        8_000_000.0 * 1024.0
    );
    let resident = before["process_resident_memory_bytes"];
    assert!((1e6..before["longhaul_memory_limit_bytes"]).contains(&resident));
    let open = before["process_open_fds"];
    assert!((10.0..200.0).contains(&open), "{open}");
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        let mut ws = proxy.ws("/").await;
        ws.greeting().await;
        tunnels.push(ws);
    }
    let more = proxy.samples().await["process_open_fds"];
    assert!(
        (open + 40.0..open + 80.0).contains(&more),
        "{open} and then {more}"
    );
    assert!(before["process_cpu_seconds_total"] > 0.0);
}

#[tokio::test]
async fn every_thread_says_how_late_it_is() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address()).top("workers = 2")).await;
    for worker in ["control", "worker", "relay", "tunnels-0", "tunnels-1"] {
        let lag = format!("longhaul_worker_lag_seconds_count{{worker=\"{worker}\"}}");
        let seen = async { while proxy.samples().await.get(&lag).is_none_or(|n| *n < 1.0) {} };
        soon(lag.clone(), seen).await;
    }
    let busy = |worker: &str| format!("longhaul_worker_busy_seconds_total{{worker=\"{worker}\"}}");
    let page = proxy.samples().await;
    for worker in ["worker-0", "worker-1", "relay-0", "relay-1"] {
        assert!(page.contains_key(&busy(worker)), "{worker}");
    }
}

#[tokio::test]
async fn a_scraper_gets_the_format_that_it_asks_for() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    let plain = proxy.admin("/metrics").await;
    let kind = plain.head.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(
        plain
            .text()
            .contains("\n# TYPE longhaul_connections_total counter\n")
    );
    assert!(!plain.text().contains("# EOF"));
    let socket = format!("unix:{}", proxy.path("admin.sock").display());
    let mut wire = dial(&socket).await;
    // As Prometheus asks.
    wire.send(
        "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;\
         version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n",
    )
    .await;
    let open = wire.response().await;
    let kind = open.head.header("content-type").expect("a content type");
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    assert!(
        open.text()
            .contains("\n# TYPE longhaul_connections counter\n")
    );
    assert!(open.text().ends_with("# EOF\n"));
}
