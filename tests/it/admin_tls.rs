//! The admin API over TLS: who comes in by a certificate, what they may, and that the
//! certificates of both sides can be renewed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use crate::kit::{
    Authority, Echo, Pair, Proxy, Response, Setup, Site, TlsClient, TlsVersion, Wire, Ws, dial,
    longhaul, nobody,
};

const TOKEN: &str = "a-token-of-an-operator";

/// What signs the server's certificate, and what those of its clients.
struct World {
    servers: Authority,
    clients: Authority,
}

impl World {
    fn new() -> Self {
        Self {
            servers: Authority::new(),
            clients: Authority::new(),
        }
    }

    /// With this in `[admin]` beside TLS.
    async fn start(&self, backend: &str, more: &str) -> Proxy {
        let setup = Setup::new();
        setup.write("clients.pem", self.clients.pem());
        let token = setup.write("token", TOKEN);
        fs::set_permissions(token, Permissions::from_mode(0o600)).expect("to set its mode");
        let pair = self.servers.pair(&["localhost", "127.0.0.1"]);
        setup.write_pair("admin", &pair);
        setup.start(site(backend, more)).await
    }

    fn client(&self, pair: Option<&Pair>) -> TlsClient {
        self.servers.client_with(TlsVersion::Any, pair)
    }
}

const CERTIFIED: &str = "client_certificates = { ca = 'clients.pem', operators = \
                         ['subject:CN=alice', 'dns:bob.ops.example'] }";

fn site(backend: &str, more: &str) -> Site {
    Site::one(backend).more(&format!(
        "[admin]\nsocket = 'admin.sock'\nlisten = '127.0.0.1:0'\n\
         certificates = [{{ chain = 'admin.pem', key = 'admin.key' }}]\n{more}"
    ))
}

async fn address(proxy: &Proxy) -> String {
    let status = proxy.status().await;
    let address = status["admin_listen"].as_str();
    address.expect("an address").to_owned()
}

async fn asked(client: &TlsClient, address: &str, line: &str, headers: &str) -> Response {
    let wire = client.connect(address, "localhost").await;
    let mut wire = wire.expect("a handshake");
    let body = if line.starts_with("POST") { "{}" } else { "" };
    let length = body.len();
    wire.send(format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire.response().await
}

/// Whether this client is told anything at all.
async fn is_heard(client: &TlsClient, address: &str) -> bool {
    let Ok(mut wire) = client.connect(address, "localhost").await else {
        return false;
    };
    // In TLS 1.3 the client is done before its certificate is looked at.
    let request = format!("GET /status HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let _ = wire.try_send(request).await;
    wire.readable().await
}

#[tokio::test]
async fn a_certificate_says_who_asks_and_the_config_what_they_may() {
    let world = World::new();
    let proxy = world.start(&nobody().await, CERTIFIED).await;
    let address = address(&proxy).await;
    for (name, role, code) in [
        ("alice", "operator", 400),
        ("bob.ops.example", "operator", 400),
        ("carol", "reader", 403),
        // Another subject, and another name.
        ("alice.example", "reader", 403),
    ] {
        let client = world.client(Some(&world.clients.client_pair(name)));
        let status = asked(&client, &address, "GET /status", "").await;
        let status: Value = serde_json::from_slice(&status.body).expect("JSON");
        let who = format!("certificate:CN={name}");
        assert_eq!(status["asked_by"]["who"], who);
        assert_eq!(status["asked_by"]["role"], role, "{name}");
        let log = proxy.log.tail();
        let answer = asked(&client, &address, "POST /tunnels/close", "").await;
        assert_eq!(answer.head.status, code, "{name}: {}", answer.text());
        let line = log.wait("operator action", &[("outcome", "refused")]).await;
        assert_eq!(line.text("who"), who);
        if role == "reader" {
            let reason = format!("{who} may only read");
            assert!(line.text("reason").contains(&reason), "{}", line.line);
        }
    }
    // A page of the same origin, and one of another: which a browser would show the
    // certificate to as well.
    let alice = world.client(Some(&world.clients.client_pair("alice")));
    for (origin, code) in [
        (format!("https://{address}"), 200),
        (format!("http://{address}"), 403),
        ("https://evil.example".to_owned(), 403),
    ] {
        let origin = format!("Origin: {origin}\r\n");
        let answer = asked(&alice, &address, "GET /status", &origin).await;
        assert_eq!(answer.head.status, code, "{origin}");
    }
}

#[tokio::test]
async fn without_a_good_certificate_nobody_is_heard() {
    let world = World::new();
    let proxy = world.start(&nobody().await, CERTIFIED).await;
    let address = address(&proxy).await;
    let foreign = world.servers.client_pair("alice");
    let expired = world.clients.expired_client_pair("alice");
    for (pair, refusal) in [
        (None, "no_client_certificate"),
        (Some(&foreign), "bad_client_certificate"),
        (Some(&expired), "bad_client_certificate"),
    ] {
        let log = proxy.log.tail();
        assert!(!is_heard(&world.client(pair), &address).await, "{refusal}");
        let line = log.wait("admin tls handshake failed", &[]).await;
        assert_eq!(line.text("refusal"), refusal);
    }
    let mut plain = dial(&address).await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let told = plain.response().await;
    assert_eq!(told.head.status, 400);
    assert!(told.text().contains("https"), "{}", told.text());
    // More who say nothing than are listened to are in nobody's way but each other's.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(dial(&address).await);
    }
    assert_eq!(proxy.admin("/status").await.head.status, 200);
    drop(silent);
    let good = world.client(Some(&world.clients.client_pair("carol")));
    assert!(is_heard(&good, &address).await);
}

#[tokio::test]
async fn beside_a_token_a_certificate_need_not_be_there() {
    let world = World::new();
    let more = format!("{CERTIFIED}\ntoken_file = 'token'");
    let proxy = world.start(&nobody().await, &more).await;
    let address = address(&proxy).await;
    let (none, carol) = (None, world.clients.client_pair("carol"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (pair, token, code) in [
        (none, "", 401),
        (none, "not-the-operators-token", 401),
        (none, TOKEN, 400),
        (Some(&carol), "", 403),
        // What is shown in the request itself counts.
        (Some(&carol), TOKEN, 400),
        (Some(&carol), "not-the-operators-token", 401),
    ] {
        let header = if token.is_empty() {
            String::new()
        } else {
            bearer(token)
        };
        let client = world.client(pair);
        let answer = asked(&client, &address, "POST /tunnels/close", &header).await;
        assert_eq!(answer.head.status, code, "{token}: {}", answer.text());
    }
    // But one that is shown must be good.
    let foreign = world.servers.client_pair("alice");
    assert!(!is_heard(&world.client(Some(&foreign)), &address).await);
}

/// Over HTTP/1.1 alone: it is about the admin API, which speaks that.
#[tokio::test]
async fn the_dashboard_is_told_over_tls() {
    let world = World::new();
    let backend = Echo::start("a").await;
    let proxy = world.start(backend.address(), CERTIFIED).await;
    let address = address(&proxy).await;
    let client = world.client(Some(&world.clients.client_pair("carol")));
    let page = asked(&client, &address, "GET /", "").await;
    assert_eq!(page.head.status, 200);
    let policy = page.head.header("content-security-policy");
    let own = format!("wss://{address};");
    assert!(policy.expect("a policy").contains(&own), "{policy:?}");
    let wire = client.connect(&address, "localhost").await;
    let offer = format!("Origin: https://{address}\r\nSec-WebSocket-Protocol: longhaul.watch\r\n");
    let mut watch = Ws::open(wire.expect("a handshake"), "/watch", &address, &offer).await;
    for _ in 0..2 {
        let told: Value = serde_json::from_str(&watch.text().await).expect("JSON");
        assert!(told["upstreams"].is_array(), "{told}");
    }
}

async fn shown(client: &TlsClient, address: &str) -> Wire {
    let wire = client.connect(address, "localhost").await;
    wire.expect("a handshake")
}

#[tokio::test]
async fn certificates_of_both_sides_are_renewed_and_tls_is_not_taken_off() {
    let world = World::new();
    let backend = nobody().await;
    let proxy = world.start(&backend, CERTIFIED).await;
    let address = address(&proxy).await;
    let alice = world.client(Some(&world.clients.client_pair("alice")));
    let before = shown(&alice, &address).await.peer_certificate();
    // A bad one leaves what is there.
    let log = proxy.log.tail();
    proxy.write("admin.pem", "no certificate");
    log.wait_for(|event| event.message.contains("kept as it was"))
        .await;
    assert_eq!(shown(&alice, &address).await.peer_certificate(), before);
    let next = world.servers.pair(&["localhost"]);
    proxy.write("admin.key", &next.key);
    let log = proxy.log.tail();
    proxy.write("admin.pem", &next.chain);
    let loaded = |text: &str| text.contains("admin.pem loaded");
    log.wait_for(|event| loaded(event.text("changes"))).await;
    assert_eq!(
        shown(&alice, &address).await.peer_certificate(),
        next.leaf()
    );
    let ends = proxy
        .metric("longhaul_certificate_expiry_timestamp_seconds{chain=")
        .await;
    assert!(ends > 0.0);
    // So is the CA, and who may what.
    let log = proxy.log.tail();
    let others = Authority::new();
    proxy.write("clients.pem", others.pem());
    log.wait("config reloaded", &[]).await;
    assert!(!is_heard(&alice, &address).await);
    let dave = world.client(Some(&others.client_pair("dave")));
    let close = asked(&dave, &address, "POST /tunnels/close", "").await;
    assert_eq!(close.head.status, 403);
    let now = CERTIFIED.replace("CN=alice", "CN=dave");
    proxy.reload(site(&backend, &now)).await;
    let close = asked(&dave, &address, "POST /tunnels/close", "").await;
    assert_eq!(close.head.status, 400);
    // An edit that would have it speak without, or to everybody, waits for a restart.
    let by_token = site(&backend, "token_file = 'token'");
    let plain = by_token.to_string();
    proxy
        .reload(plain.replace("certificates =", "# certificates ="))
        .await;
    assert!(!is_heard(&alice, &address).await);
    assert!(is_heard(&dave, &address).await);
    proxy.reload(by_token).await;
    let none = world.client(None);
    let status = asked(&none, &address, "GET /status", "").await;
    assert_eq!(status.head.status, 401);
}

/// Over HTTP/1.1 alone: it is about the way to the admin API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_ask_over_tls() {
    let world = World::new();
    let backend = Echo::start("a").await;
    let proxy = world.start(backend.address(), CERTIFIED).await;
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    for name in ["alice", "carol"] {
        let pair = world.clients.client_pair(name);
        proxy.write(&format!("{name}.pem"), pair.chain);
        proxy.write(&format!("{name}.key"), pair.key);
    }
    proxy.write("servers.pem", world.servers.pem());
    let url = format!("https://{}", address(&proxy).await);
    let run = |words: &[&str], ca: &str, name: Option<&str>| -> Output {
        let mut command = longhaul();
        command.args(words).arg("--ca").arg(proxy.path(ca));
        if let Some(name) = name {
            command
                .arg("--certificate")
                .arg(proxy.path(&format!("{name}.pem")));
            command
                .arg("--certificate-key")
                .arg(proxy.path(&format!("{name}.key")));
        }
        command.output().expect("to run longhaul")
    };
    let says = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let listed = run(&["tunnels", "--admin", &url], "servers.pem", Some("carol"));
    assert!(says(&listed.stdout).contains("1 of 1"), "{listed:?}");
    let close = [
        "tunnels", "close", "--all", "--window", "0s", "--admin", &url,
    ];
    let refused = run(&close, "servers.pem", Some("carol"));
    assert!(
        says(&refused.stderr).contains("may only read"),
        "{refused:?}"
    );
    for (ca, name, said) in [
        ("servers.pem", None, "certificate"),
        ("clients.pem", Some("alice"), "certificate"),
        ("nothing.pem", Some("alice"), "cannot be read"),
    ] {
        let refused = run(&["status", "--admin", &url], ca, name);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let stderr = says(&refused.stderr);
        assert!(
            stderr.to_lowercase().contains(&said.to_lowercase()),
            "{stderr}"
        );
    }
    let config = proxy.config_path().display().to_string();
    let check = ["check", &config, "--against", &url];
    let checked = run(&check, "servers.pem", Some("carol"));
    assert!(
        says(&checked.stdout).contains("0 would be closed"),
        "{checked:?}"
    );
    let plain = run(
        &["status", "--admin", "http://127.0.0.1:1"],
        "servers.pem",
        None,
    );
    assert!(
        says(&plain.stderr).contains("https://HOST:PORT"),
        "{plain:?}"
    );
    let closed = run(&close, "servers.pem", Some("alice"));
    assert!(closed.status.success(), "{closed:?}");
    assert_eq!(ws.closed().await, Some(1012));
    let who = [("who", "certificate:CN=alice"), ("outcome", "done")];
    proxy.log.wait("operator action", &who).await;
}

#[tokio::test]
async fn a_token_in_the_clear_is_warned_of() {
    let setup = Setup::new();
    let token = setup.write("token", TOKEN);
    fs::set_permissions(token, Permissions::from_mode(0o600)).expect("to set its mode");
    let authority = Authority::new();
    let pair = authority.pair(&["localhost"]);
    setup.write_pair("admin", &pair);
    let check = |more: &str| {
        let admin = format!("[admin]\ntoken_file = 'token'\n{more}");
        let text = Proxy::complete(Site::one("127.0.0.1:9").more(&admin));
        let file = setup.write("longhaul.toml", text);
        let checked = longhaul().arg("check").arg(&file).output().expect("to run");
        assert!(checked.status.success(), "{checked:?}");
        String::from_utf8_lossy(&checked.stdout).into_owned()
    };
    let warning = "warning: the admin API at 0.0.0.0:0 speaks plain HTTP";
    let tls = "certificates = [{ chain = 'admin.pem', key = 'admin.key' }]";
    assert!(check("listen = '0.0.0.0:0'").contains(warning));
    assert!(!check("listen = '127.0.0.1:0'").contains("plain HTTP"));
    assert!(!check(&format!("listen = '0.0.0.0:0'\n{tls}")).contains("plain HTTP"));
}
