//! Listeners: TCP, Unix, TLS, client certificates, redirects, certificates that change.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use crate::kit::{
    Authority, Echo, End, Over, Pair, Proxy, Setup, Site, TlsVersion, Wire, Ws, dial, over_each,
};

over_each!(
    ipv4_ipv6_and_unix_at_once_each_reported,
    tls_1_2_and_1_3_for_tunnels_and_requests,
    a_new_certificate_serves_new_handshakes_and_leaves_tunnels_alone,
);

async fn get(wire: &mut Wire, host: &str) -> String {
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    wire.response().await.text().to_owned()
}

async fn ipv4_ipv6_and_unix_at_once_each_reported(over: Over) {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let socket = setup.path("front.sock");
    let proxy = setup
        .start(Site::one(backend.address()).more(&format!(
            "[listeners.six]\naddress = '[::1]:0'\n[listeners.any]\naddress = '[::]:0'\n\
             [listeners.unix]\naddress = 'unix:{}'\nmode = '0600'",
            socket.display()
        )))
        .await
        .over(over);
    for listener in ["main", "six", "any", "unix"] {
        let address = proxy.address(listener).await;
        assert!(
            !address.ends_with(":0"),
            "the bound port of {listener}: {address}"
        );
        let mut wire = proxy.connect_to(listener).await;
        assert_eq!(get(&mut wire, "localhost").await, "a", "{listener}");
        let wire = proxy.connect_to(listener).await;
        let mut ws = Ws::open(wire, "/", "localhost", "").await;
        assert_eq!(ws.greeting().await, "a");
        ws.echo(listener).await;
        ws.close(1000).await;
    }
    let mode = fs::metadata(&socket)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // A dual-stack wildcard takes IPv4 too.
    let any = proxy.address("any").await.replace("[::1]", "127.0.0.1");
    assert_eq!(get(&mut dial(&any).await, "localhost").await, "a");
}

#[tokio::test]
async fn the_log_names_every_bound_address() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let front = format!("unix:{}", setup.path("front.sock").display());
    let more = format!("[listeners.local]\naddress = '{front}'\n");
    let proxy = setup.start(Site::one(backend.address()).more(&more)).await;
    let local = [("listener", "local"), ("address", &*front)];
    proxy.log.wait("listening", &local).await;
    let event = proxy.log.wait("listening", &[("listener", "main")]).await;
    assert_eq!(event.text("address"), proxy.address("main").await);
    assert_eq!(
        get(&mut dial(event.text("address")).await, "localhost").await,
        "a"
    );
}

#[tokio::test]
async fn a_unix_socket_left_behind_is_replaced_and_removed_at_the_end() {
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let socket = setup.path("front.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    assert!(socket.exists(), "the file of a dead process");
    let site =
        Site::one(backend.address()).listener(&format!("address = 'unix:{}'", socket.display()));
    let proxy = setup.start(site).await;
    assert_eq!(proxy.get("/").await.text(), "a");
    proxy.terminate();
    assert!(proxy.exit().await.success());
    assert!(!socket.exists());
}

async fn tls_1_2_and_1_3_for_tunnels_and_requests(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let proxy = setup
        .start(Site::one(backend.address()).tls())
        .await
        .over(over);
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let client = authority.client_with(version, None);
        let mut wire = proxy.tls(&client, "localhost").await;
        assert_eq!(get(&mut wire, "localhost").await, "a", "{version:?}");
        let mut ws = Ws::open(proxy.tls(&client, "localhost").await, "/", "localhost", "").await;
        assert_eq!(ws.greeting().await, "a");
        ws.echo(&"x".repeat(100_000)).await;
        ws.close(1000).await;
    }
}

#[tokio::test]
async fn tls_1_3_only_refuses_1_2() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = Site::one(backend.address())
        .tls()
        .listener("tls_1_3_only = true");
    let proxy = setup.start(site).await;
    let old = authority.client_with(TlsVersion::V12, None);
    assert!(proxy.try_tls(&old, "localhost").await.is_err());
    let mut wire = proxy.tls(&authority.client(), "localhost").await;
    assert_eq!(get(&mut wire, "localhost").await, "a");
}

#[tokio::test]
async fn alpn_picks_http_2_unless_the_listener_says_no() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    for (line, picked) in [("", "h2"), ("http2 = false", "http/1.1")] {
        let setup = Setup::with_pair(&authority.pair(&["localhost"]));
        let site = Site::one(backend.address()).tls().listener(line);
        let proxy = setup.start(site).await;
        let client = authority.client().alpn(&["http/1.1", "h2"]);
        let wire = proxy.tls(&client, "localhost").await;
        let alpn = wire.tls().get_ref().1.alpn_protocol();
        assert_eq!(alpn, Some(picked.as_bytes()));
    }
}

#[tokio::test]
async fn without_http_2_alpn_is_as_strict_as_ever() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let proxy = setup
        .start(Site::one(backend.address()).tls().listener("http2 = false"))
        .await;
    let wire = proxy
        .tls(&authority.client().alpn(&["h2", "http/1.1"]), "localhost")
        .await;
    assert_eq!(
        wire.tls().get_ref().1.alpn_protocol(),
        Some(&b"http/1.1"[..])
    );
    let wire = proxy.tls(&authority.client(), "localhost").await;
    assert_eq!(wire.tls().get_ref().1.alpn_protocol(), None);
    assert!(
        proxy
            .try_tls(&authority.client().alpn(&["h2"]), "localhost")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn sni_chooses_exact_before_wildcard_before_the_first() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::new();
    let pairs = [
        (
            "first",
            authority.pair(&["first.test", "127.0.0.1", "a.b.example.com", "other.test"]),
        ),
        ("wild", authority.pair(&["*.example.com"])),
        ("exact", authority.pair(&["chat.example.com"])),
    ];
    let mut listed = Vec::new();
    for (name, pair) in &pairs {
        setup.write_pair(name, pair);
        listed.push(format!("{{ chain = '{name}.pem', key = '{name}.key' }}"));
    }
    let certificates = format!("certificates = [{}]", listed.join(", "));
    let proxy = setup
        .start(Site::one(backend.address()).listener(&certificates))
        .await;
    let cases = [
        ("chat.example.com", 2),
        ("CHAT.example.com", 2),
        ("news.example.com", 1),
        ("a.b.example.com", 0),
        ("other.test", 0),
        ("127.0.0.1", 0),
    ];
    for (name, index) in cases {
        let wire = proxy.tls(&authority.client(), name).await;
        assert_eq!(wire.peer_certificate(), pairs[index].1.leaf(), "{name}");
    }
}

#[tokio::test]
async fn client_certificates_required_and_optional() {
    let backend = Echo::start("a").await;
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    for (required, bare) in [(true, false), (false, true)] {
        let setup = Setup::with_pair(&servers.pair(&["localhost"]));
        setup.write("clients.pem", clients.pem());
        let line = format!("client_certificates = {{ ca = 'clients.pem', required = {required} }}");
        let site = Site::one(backend.address()).tls().listener(&line);
        let proxy = setup.start(site).await;
        let answered = async |pair: Option<&Pair>| {
            // TLS 1.2 tells the refusal within the handshake, 1.3 behind it.
            let client = servers.client_with(TlsVersion::V12, pair);
            let Ok(mut wire) = proxy.try_tls(&client, "localhost").await else {
                return false;
            };
            get(&mut wire, "localhost").await == "a"
        };
        assert!(answered(Some(&clients.client_pair("ann"))).await);
        assert_eq!(answered(None).await, bare, "required = {required}");
        assert!(!answered(Some(&strangers.client_pair("eve"))).await);

        let client = servers.client_with(TlsVersion::V13, Some(&strangers.client_pair("eve")));
        if let Ok(mut wire) = proxy.try_tls(&client, "localhost").await {
            let sent = wire
                .try_send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            assert!(sent.is_err() || wire.end().await == End::Reset);
        }
    }
}

#[tokio::test]
async fn a_plain_listener_redirects_to_https() {
    let backend = Echo::start("a").await;
    let site =
        Site::one(backend.address()).listener("redirect_to_https = true\nredirect_port = 8443");
    let proxy = Proxy::start(site.clone()).await;
    let mut wire = proxy.connect().await;
    wire.send("GET /a/b?c=d HTTP/1.1\r\nHost: Chat.Example.com:8080\r\n\r\n")
        .await;
    let response = wire.response().await;
    assert_eq!(response.head.status, 308);
    let location = response.head.header("location").expect("a location");
    assert_eq!(
        location.to_lowercase(),
        "https://chat.example.com:8443/a/b?c=d"
    );
    // The method must survive the redirect (RFC 9110 section 15.4.9).
    wire.send("POST / HTTP/1.1\r\nHost: chat.example.com\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(wire.response().await.head.status, 308);
    wire.send("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").await;
    let response = wire.response().await;
    assert_eq!(
        response.head.header("location"),
        Some("https://[::1]:8443/")
    );
    assert_eq!(backend.connections(), 0);

    let plain = site
        .to_string()
        .replace("redirect_port = 8443", "redirect_port = 443");
    proxy.reload(plain).await;
    let response = proxy.get("/x").await;
    assert_eq!(
        response.head.header("location"),
        Some("https://localhost/x")
    );
}

/// The certificate that a new handshake gets.
async fn shown(proxy: &Proxy, authority: &Authority) -> Vec<u8> {
    let address = proxy.address("main").await;
    let wire = authority.client().connect(&address, "localhost").await;
    let certificate = wire.expect("a TLS handshake").peer_certificate();
    certificate.to_vec()
}

async fn a_new_certificate_serves_new_handshakes_and_leaves_tunnels_alone(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let [old, new] = [
        authority.pair(&["localhost"]),
        authority.pair(&["localhost"]),
    ];
    let setup = Setup::with_pair(&old);
    let proxy = setup
        .start(Site::one(backend.address()).tls())
        .await
        .over(over);
    let client = authority.client();
    let mut tunnel = Ws::open(proxy.tls(&client, "localhost").await, "/", "localhost", "").await;
    assert_eq!(tunnel.greeting().await, "a");

    // Between the two writes key and chain do not match: the old pair serves on.
    let log = proxy.log.tail();
    proxy.write("site.key", &new.key);
    log.wait_for(|event| event.level == "WARN" && event.line.contains("site."))
        .await;
    assert_eq!(shown(&proxy, &authority).await, old.leaf().to_vec());
    let log = proxy.log.tail();
    proxy.write("site.pem", &new.chain);
    log.wait_for(|event| event.level == "INFO" && event.line.contains("ertificate"))
        .await;
    assert_eq!(shown(&proxy, &authority).await, new.leaf().to_vec());
    tunnel.echo("still here").await;
    tunnel.close(1000).await;
}

#[tokio::test]
async fn junk_expired_and_half_written_pairs_keep_the_last_good_one() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let good = authority.pair(&["localhost"]);
    let expired = authority.expired_pair(&["localhost"]);
    let setup = Setup::with_pair(&good);
    let proxy = setup.start(Site::one(backend.address()).tls()).await;
    let half = &good.chain[..good.chain.len() / 2];
    let bad = [
        ("junk", "junk", good.key.as_str()),
        ("half", half, &good.key),
        ("empty", "", ""),
        ("expired", &expired.chain, &expired.key),
    ];
    for (what, chain, key) in bad {
        let log = proxy.log.tail();
        proxy.write("site.key", key);
        proxy.write("site.pem", chain);
        let warning = log.wait_for(|event| event.level == "WARN").await;
        assert!(warning.line.contains("site."), "{what}: {}", warning.line);
        assert_eq!(
            shown(&proxy, &authority).await,
            good.leaf().to_vec(),
            "{what}"
        );
    }
    let failures = "longhaul_certificate_failures_total";
    assert!(
        proxy.metric(failures).await >= 4.0,
        "{}",
        proxy.admin("/metrics").await.text()
    );
}

/// A Secret volume of Kubernetes: both files are links through `..data`.
#[tokio::test]
async fn a_swapped_certificate_volume_is_noticed_once() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let pairs = [
        authority.pair(&["localhost"]),
        authority.pair(&["localhost"]),
    ];
    let setup = Setup::new();
    let volume = setup.path("volume");
    let put = |version: &str, pair: &Pair| {
        let dir = volume.join(version);
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("tls.crt"), &pair.chain).expect("to write");
        fs::write(dir.join("tls.key"), &pair.key).expect("to write");
        let new = volume.join("..data_tmp");
        symlink(version, &new).expect("a link");
        fs::rename(&new, volume.join("..data")).expect("to rename");
    };
    put("..one", &pairs[0]);
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), volume.join(file)).expect("a link");
    }
    let listed = "certificates = [{ chain = 'volume/tls.crt', key = 'volume/tls.key' }]";
    let proxy = setup
        .start(Site::one(backend.address()).listener(listed))
        .await;
    assert_eq!(shown(&proxy, &authority).await, pairs[0].leaf().to_vec());
    let log = proxy.log.tail();
    let start = Instant::now();
    put("..two", &pairs[1]);
    let event = log.wait("config reloaded", &[]).await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(event.line.contains("tls.crt"), "{}", event.line);
    assert_eq!(shown(&proxy, &authority).await, pairs[1].leaf().to_vec());
    assert_eq!(proxy.generation().await, 2, "once");
}

#[tokio::test]
async fn a_pair_that_does_not_match_stops_the_start() {
    let authority = Authority::new();
    let mut pair = authority.pair(&["localhost"]);
    pair.key = authority.pair(&["localhost"]).key;
    let setup = Setup::with_pair(&pair);
    let proxy = setup.launch(Site::one("127.0.0.1:9").tls()).await;
    assert_eq!(proxy.exit().await.code(), Some(2));
    proxy
        .log
        .wait_for(|event| event.line.contains("site.key"))
        .await;
}

#[tokio::test]
async fn the_end_of_a_tls_connection_is_a_close_notify() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let proxy = setup.start(Site::one(backend.address()).tls()).await;
    let mut wire = proxy.tls(&authority.client(), "localhost").await;
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(wire.response().await.text(), "a");
    wire.eof().await;
}
