//! What a right config comes to: every value, every default, every edge.

use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::{Source, found, parse, parsed};
use crate::config::pattern::{HostPattern, PathPattern};
use crate::config::*;

const LEAST: &str = r#"
[listeners.public]
address = "127.0.0.1:0"
[[routes]]
upstream = "chat"
[upstreams.chat]
backends = [{ address = "Chat.internal:9000" }]
"#;

const SECOND: Duration = Duration::from_secs(1);

fn path(below: &str) -> std::path::PathBuf {
    Path::new("/etc/longhaul").join(below)
}

/// `LEAST` with `line` below a line of it.
fn with(below: &str, line: &str) -> String {
    assert_eq!(LEAST.matches(below).count(), 1);
    LEAST.replace(below, &format!("{below}\n{line}"))
}

#[test]
fn defaults() {
    let config = parsed(LEAST);
    assert_eq!((config.workers, config.admin), (None, None));
    assert_eq!(config.trusted_proxies, []);
    assert_eq!(config.forwarded_header, None);
    assert_eq!(config.limits.max_request_head, 32 * 1024);
    assert_eq!(config.limits.keepalive_timeout, 75 * SECOND);
    assert_eq!(
        config.tcp.keepalive_idle + 3 * config.tcp.keepalive_interval,
        60 * SECOND
    );
    assert_eq!(config.log.level, "info");
    assert_eq!(
        (config.drain.window, config.drain.deadline),
        (30 * SECOND, 60 * SECOND)
    );
    assert_eq!(config.drain.close_code, Some(1012));
    let route = &config.routes[0];
    assert_eq!(route.name, "* /*");
    assert_eq!(
        (&route.host, &route.path),
        (&HostPattern::Any, &PathPattern::any())
    );
    assert_eq!(route.upgrades, ["websocket"]);
    assert_eq!(
        (route.clocks.idle_timeout, route.clocks.pings),
        (None, None)
    );
    let chat = &config.upstreams["chat"];
    assert_eq!(chat.sticky, [StickySource::ClientIp]);
    assert_eq!((chat.scheme, chat.max_attempts), (Scheme::Http, 3));
    let backend = Backend {
        name: "Chat.internal:9000".to_owned(),
        address: BackendAddress::Tcp {
            host: "chat.internal".to_owned(),
            port: 9000,
        },
        weight: 1,
        state: BackendState::Active,
    };
    assert_eq!(chat.backends, [backend]);
}

#[test]
fn listeners() {
    let config = parsed(&format!(
        r#"{LEAST}
[listeners.tls]
address = "[::1]:443"
certificates = [
  {{ chain = "a.pem", key = "/a.key", ocsp = "a.ocsp" }},
  {{ chain = "b.pem", key = "b.key" }},
]
client_certificates = {{ ca = "ca.pem", subject_header = "X-Client-Subject" }}
[listeners.plain]
address = "0.0.0.0:80"
redirect_to_https = true
[listeners.again]
address = "127.0.0.1:0"
[listeners.local]
address = "unix:run/a.sock"
mode = "600"
[admin]
socket = "unix:admin.sock"
"#
    ));
    let tls = &config.listeners["tls"];
    assert_eq!(tls.certificates[0].pair.chain, path("a.pem"));
    assert_eq!(tls.certificates[0].pair.key, Path::new("/a.key"));
    let ocsp: Vec<_> = tls.certificates.iter().map(|it| it.ocsp.clone()).collect();
    assert_eq!(ocsp, [Some(path("a.ocsp")), None]);
    assert!(config.files.paths().any(|file| file == path("a.ocsp")));
    let asked = tls.client_certificates.as_ref().unwrap();
    assert!(asked.required);
    let header = asked.subject_header.as_ref();
    assert_eq!(header.map(|it| it.as_str()), Some("x-client-subject"));
    assert_eq!(tls.redirect_to_https, None);
    assert_eq!(config.listeners["plain"].redirect_to_https, Some(443));
    assert_eq!(
        config.listeners["local"].address,
        ListenAddress::Unix {
            path: path("run/a.sock"),
            mode: 0o600
        }
    );
    assert_eq!(config.admin.unwrap().socket, Some(path("admin.sock")));
    let place = config.files.place(&path("ca.pem")).unwrap();
    assert_eq!((place.line, place.column), (15, 30));
    assert_eq!(config.files.paths().count(), 6);
    assert_eq!((tls.place.line, tls.place.column), (9, 1));
}

#[test]
fn routes() {
    let config = parsed(&with(
        "[[routes]]",
        r#"
host = "*.Example.com."
path = "/doc/*/live/*"
methods = ["GET", "PURGE"]
headers = { X-Tenant = "a", authorization = "*" }
subprotocols = ["mqtt"]
upgrades = ["WebSocket", "websocket", "HTTP/2.0"]
idle_timeout = "1500ms"
max_lifetime = "1d"
max_lifetime_jitter = 1
"#,
    ));
    let route = &config.routes[0];
    assert_eq!(route.name, "*.Example.com. /doc/*/live/*");
    assert_eq!(route.host, HostPattern::Wildcard(".example.com".to_owned()));
    assert_eq!(
        route.methods,
        [Method::GET, Method::from_bytes(b"PURGE").unwrap()]
    );
    assert_eq!(
        route.headers,
        [
            (http::header::AUTHORIZATION, None),
            (
                HeaderName::from_static("x-tenant"),
                Some(HeaderValue::from_static("a"))
            ),
        ]
    );
    assert_eq!(route.upgrades, ["websocket", "http/2.0"]);
    assert_eq!(route.clocks.idle_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(route.clocks.max_lifetime, Some(86400 * SECOND));
    assert_eq!(route.clocks.pings, None);
    let none = parsed(&with("[[routes]]", "upgrades = []"));
    assert!(none.routes[0].upgrades.is_empty());
}

#[test]
fn pings_are_off_until_their_interval_is_written() {
    let pings = |keys| parsed(&with("[[routes]]", keys)).routes[0].clocks.pings;
    assert_eq!(pings("ping_timeout = \"3s\"\nping_side = \"client\""), None);
    assert_eq!(pings("ping_interval = \"off\""), None);
    let interval = 30 * SECOND;
    let by_default = Pings {
        interval,
        timeout: 20 * SECOND,
        side: PingSide::Both,
    };
    assert_eq!(pings("ping_interval = \"30s\""), Some(by_default));
    let given = "ping_interval = \"30s\"\nping_timeout = \"3s\"\nping_side = \"backend\"";
    let expected = Pings {
        timeout: 3 * SECOND,
        side: PingSide::Backend,
        ..by_default
    };
    assert_eq!(pings(given), Some(expected));
}

#[test]
fn upstreams() {
    let config = parsed(&with(
        "[upstreams.chat]",
        r#"
scheme = "https"
tls = { ca = "ca.pem", client_certificate = { chain = "c.pem", key = "c.key" }, server_name = "Chat.internal" }
balance = "least_connections"
sticky = ["cookie:sid", "query:room", "header:X-User", "path:2", "cookie", "client_ip"]
cookie = { name = "s", same_site = "none", max_age = "2h", secure = true }
max_idle_connections = 0
on_removed = "drain"
"#,
    ));
    let chat = &config.upstreams["chat"];
    assert_eq!(chat.tls.server_name.as_deref(), Some("chat.internal"));
    assert_eq!(
        chat.tls.client_certificate.as_ref().unwrap().key,
        path("c.key")
    );
    assert_eq!(chat.sticky.len(), 6);
    assert_eq!(
        chat.sticky[2],
        StickySource::Header(HeaderName::from_static("x-user"))
    );
    assert_eq!(chat.sticky[4], StickySource::OwnCookie);
    assert_eq!(chat.cookie.max_age, Some(7200 * SECOND));
    assert_eq!(chat.on_removed, OnRemoved::Drain);
    assert_eq!(config.files.paths().count(), 3);

    let one = parsed(&with("[upstreams.chat]", "sticky = \"cookie\""));
    assert_eq!(one.upstreams["chat"].sticky, [StickySource::OwnCookie]);
    let none = parsed(&with(
        "[upstreams.chat]",
        "balance = \"random\"\nsticky = []",
    ));
    assert_eq!(none.upstreams["chat"].sticky, []);
    let unused =
        format!("{LEAST}[upstreams.spare]\nbackends = [{{ address = \"[FD00::1]:1\" }}]\n");
    let BackendAddress::Tcp { host, .. } = &parsed(&unused).upstreams["spare"].backends[0].address
    else {
        panic!("not TCP");
    };
    assert_eq!(host, "fd00::1", "without brackets");
}

#[test]
fn moved_sections_are_no_change_and_changed_ones_are() {
    let moved = format!("# moved\n\n{LEAST}");
    assert_eq!(parsed(&moved), parsed(LEAST));
    assert_ne!(
        parsed(&moved).routes[0].place.0,
        parsed(LEAST).routes[0].place.0
    );
    assert_ne!(parsed(&with("[[routes]]", "name = \"a\"")), parsed(LEAST));
}

#[test]
fn networks_of_ipv4_are_so_however_they_are_written() {
    let networks = |of: &str| {
        let line = format!("denied_networks = [{of}]");
        parsed(&with("upstream = \"chat\"", &line)).routes[0]
            .networks
            .denied
            .clone()
    };
    let mapped = networks(r#""::ffff:10.0.0.0/104", "::ffff:192.0.2.1", "::ffff:0:0/96", "::/0""#);
    let plain = networks(r#""10.0.0.0/8", "192.0.2.1", "0.0.0.0/0", "::/0""#);
    assert_eq!(mapped, plain);
}

#[test]
fn edges() {
    let drain = |lines: &str| parsed(&format!("{LEAST}[drain]\n{lines}")).drain;
    assert_eq!(drain("deadline = \"10s\"").window, 5 * SECOND);
    assert_eq!(drain("deadline = \"0s\"").window, Duration::ZERO);
    assert_eq!(drain("close_code = \"none\"").close_code, None);
    for code in [1000, 1003, 1007, 1014, 3000, 4999] {
        assert_eq!(
            drain(&format!("close_code = {code}")).close_code,
            Some(code)
        );
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 70_000] {
        let text = format!("{LEAST}[drain]\nclose_code = {code}");
        assert!(found(&text).contains("wrong value of `close_code`"));
    }
    for (line, right) in [
        ("ping_side = \"client\"", true),
        ("ping_side = \"off\"", false),
        ("ping_interval = \"off\"", true),
        ("ping_interval = \"0s\"", false),
        ("ping_timeout = \"off\"", false),
        ("idle_timeout = \"365d\"", true),
        ("idle_timeout = \"366d\"", false),
        ("idle_timeout = \"1ms\"", true),
        ("idle_timeout = \"-1s\"", false),
        ("idle_timeout = \" 1s\"", false),
        ("idle_timeout = \"1.5s\"", false),
        ("idle_timeout = \"99999999999999999999s\"", false),
        ("max_lifetime_jitter = 0", true),
        ("max_lifetime_jitter = 1.1", false),
        ("max_lifetime_jitter = inf", false),
        ("methods = [\"CONNECT\"]", false),
        ("upgrades = [\"H2C\"]", false),
        ("upgrades = [\"a b\"]", false),
        ("headers = { a = \" b\" }", false),
        ("headers = { a = \"\\n\" }", false),
        ("name = \" \"", false),
    ] {
        let parses = parse(&Source::new("a.toml", with("[[routes]]", line)), &[]).is_ok();
        assert_eq!(parses, right, "{line}");
    }
    for (address, right) in [
        ("localhost:1", true),
        ("a_b:65535", true),
        ("10.0.0.1:1", true),
        ("unix:a", true),
        ("unix:", false),
        ("a:0", false),
        ("a:+1", false),
        ("a:65536", false),
        (":1", false),
        ("a b:1", false),
        ("[::g]:1", false),
        ("::1:1", false),
        ("a..b:1", false),
        ("/run/a.sock", false),
        ("", false),
    ] {
        let text = LEAST.replace("Chat.internal:9000", address);
        let parses = parse(&Source::new("a.toml", text), &[]).is_ok();
        assert_eq!(parses, right, "{address}");
    }
}
