//! The admin socket: who may use it, what the status says, what the metrics count.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::kit::{Echo, Over, Proxy, Setup, Site, dial, handshake, nobody, over_each, soon};

over_each!(
    the_status_says_what_is_in_force,
    the_metrics_count_what_happens,
);

/// Gauges are brought up to date every second.
async fn settles(proxy: &Proxy, metric: &str, value: f64) {
    soon(format!("{metric} to be {value}"), async {
        while proxy.metric(metric).await.total_cmp(&value).is_ne() {}
    })
    .await;
}

#[tokio::test]
async fn the_socket_has_its_mode_and_goes_with_the_process() {
    for (key, mode) in [("", 0o600), ("mode = '0660'", 0o660)] {
        let admin = format!("[admin]\nsocket = 'admin.sock'\n{key}\n");
        let setup = Setup::new();
        let socket = setup.path("admin.sock");
        let proxy = setup.start(Site::one(&nobody().await).more(&admin)).await;
        let found = fs::metadata(&socket)
            .expect("the socket")
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode);
        proxy.terminate();
        proxy.exit().await;
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn admin_connections_are_few_at_a_time_and_have_one_request() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    let socket = format!("unix:{}", proxy.path("admin.sock").display());
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(dial(&socket).await);
    }
    let mut waits = dial(&socket).await;
    waits.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    waits.silent_for(Duration::from_millis(300)).await;
    idle.pop();
    assert_eq!(waits.response().await.head.status, 200);
    // Nothing more on this one.
    waits.eof().await;
}

async fn the_status_says_what_is_in_force(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await.over(over);
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    proxy.get("/").await;
    let status = proxy.status().await;
    assert_eq!(status["pid"].as_i64(), Some(proxy.pid().into()));
    assert_eq!(status["generation"], 1);
    assert!(!status["config_hash"].as_str().expect("a hash").is_empty());
    assert_eq!(status["last_reload"]["ok"], true);
    assert!(status["last_reload"]["at_unix"].as_u64() > Some(1_700_000_000));
    assert_eq!(status["tunnels"], 1);
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["name"], "app");
    let listed = &upstream["backends"][0];
    assert_eq!(
        (listed["name"].as_str(), listed["address"].as_str()),
        (Some("a"), Some(backend.address()))
    );
    assert_eq!(
        (&listed["weight"], &listed["tunnels"]),
        (&1.into(), &1.into())
    );
    ws.close(1000).await;
    proxy.log.wait("tunnel closed", &[]).await;
    assert_eq!(proxy.status().await["tunnels"], 0);
}

#[tokio::test]
async fn another_path_is_404_and_another_method_is_refused() {
    let proxy = Proxy::start(Site::one(&nobody().await)).await;
    assert_eq!(proxy.admin("/nothing").await.head.status, 404);
    let (code, answer) = proxy.ask_admin("/live", Some(serde_json::json!({}))).await;
    assert_eq!(code, 405, "{answer}");
}

async fn the_metrics_count_what_happens(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address()).route("path = '/here/*'"))
        .await
        .over(over);
    settles(&proxy, "longhaul_connections_active", 0.0).await;
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let mut ws = proxy.ws("/here").await;
        ws.greeting().await;
        tunnels.push(ws);
    }
    assert_eq!(proxy.metric("longhaul_tunnels_active").await, 3.0);
    assert_eq!(proxy.metric("longhaul_tunnels_opened_total").await, 3.0);
    // A tunnel on a stream has a place of its own beside its connection's.
    let places = if over == Over::Http1 { 3.0 } else { 6.0 };
    settles(&proxy, "longhaul_connections_active", places).await;

    assert_eq!(proxy.get("/here").await.head.status, 200);
    assert_eq!(proxy.get("/nowhere").await.head.status, 404);
    let mut wire = proxy.connect().await;
    wire.send(handshake("/here", "h", "").replace("13", "8"))
        .await;
    assert_eq!(wire.response().await.head.status, 426);
    settles(&proxy, "longhaul_requests_total{status=\"2xx\"}", 1.0).await;
    settles(&proxy, "longhaul_requests_total{status=\"4xx\"}", 2.0).await;
    settles(&proxy, "longhaul_refusals_total{refusal=\"no_route\"}", 1.0).await;
    settles(
        &proxy,
        "longhaul_refusals_total{refusal=\"bad_handshake\"}",
        1.0,
    )
    .await;

    for ws in tunnels {
        ws.close(4000).await;
    }
    settles(&proxy, "longhaul_tunnels_active", 0.0).await;
    let closed =
        "longhaul_tunnels_closed_total{ended_by=\"client\",cause=\"close\",close_code=\"4xxx\"";
    settles(&proxy, closed, 3.0).await;
    drop(wire);
    settles(&proxy, "longhaul_connections_active", 0.0).await;

    assert_eq!(proxy.metric("longhaul_config_generation").await, 1.0);
    proxy.refuse("[nonsense").await;
    settles(&proxy, "longhaul_reloads_total{result=\"rejected\"}", 1.0).await;
    assert_eq!(proxy.metric("longhaul_config_generation").await, 1.0);
}
