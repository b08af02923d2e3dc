//! What each example is there to show, seen from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::kit::h2::{H2, Setting};
use crate::kit::{
    Authority, Echo, End, Event, Proxy, Response, TlsVersion, Wire, Ws, dial, handshake, soon,
};

/// What a proxy in front says of a client.
pub const HEADER: &str = "PROXY TCP4 198.51.100.7 198.51.100.1 4711 443\r\n";

/// The password of `ann` is `secret`.
pub const USERS: &str = "ann:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
/// A key that nobody has.
pub const KEYS: &str = r#"{"keys": [{"kty": "oct", "alg": "HS256", "k": "dGhpcnR5LXR3byBieXRlcywgdGhhdCBpcyBlbm91Z2g"}]}"#;

pub struct Example {
    pub proxy: Proxy,
    pub authority: Authority,
    /// Behind every address.
    pub backend: Echo,
}

impl Example {
    pub async fn does_what_it_shows(self, file: &str) {
        match file {
            "acme.toml" => self.acme().await,
            "admission.toml" => self.admission().await,
            "auth.toml" => self.auth().await,
            "basic-auth.toml" => self.basic_auth().await,
            "behind-a-proxy.toml" => self.behind_a_proxy().await,
            "discovery-dns.toml" => self.discovery_dns().await,
            "discovery-file.toml" => self.discovery_file().await,
            "drain.toml" => self.drain().await,
            "ejection.toml" => self.ejection().await,
            "guard.toml" => self.guard().await,
            "hash-by-room.toml" => self.hash_by_room().await,
            "health.toml" => self.health().await,
            "http2.toml" => self.http2().await,
            "https-backends.toml" => self.https_backends().await,
            "includes.toml" => self.includes().await,
            "jwt-keys-from-url.toml" => self.jwt_keys_from_url().await,
            "jwt.toml" => self.jwt().await,
            "least-connections.toml" => self.least_connections().await,
            "logging-and-limits.toml" => self.logging_and_limits().await,
            "minimal.toml" => self.minimal().await,
            "mqtt.toml" => self.mqtt().await,
            "mutual-tls.toml" => self.mutual_tls().await,
            "other-upgrades.toml" => self.other_upgrades().await,
            "path-and-header-routing.toml" => self.routing().await,
            "proxy-protocol.toml" => self.proxy_protocol().await,
            "redirect.toml" => self.redirect().await,
            "socketio.toml" => self.socketio().await,
            "sticky-cookie.toml" => self.sticky_cookie().await,
            "timeouts.toml" => self.timeouts().await,
            "tls-sni.toml" => self.tls_sni().await,
            "traces.toml" => self.traces().await,
            "unix-sockets.toml" => self.unix_sockets().await,
            other => panic!("what does {other} show?"),
        }
    }

    pub async fn public(&self) -> Wire {
        self.proxy.connect_to("public").await
    }

    async fn ask(&self, head: &str) -> Response {
        let mut wire = self.public().await;
        wire.send(format!("{head}\r\n\r\n")).await;
        wire.response().await
    }

    /// A GET of this target, and its line in the log.
    async fn get(&self, target: &str, host: &str, lines: &str) -> (Response, Event) {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}{lines}");
        let response = self.ask(&head).await;
        let path = target.split('?').next().expect("a path");
        let asked =
            |event: &Event| event.message == "request" && event.text("path").starts_with(path);
        let event = self.proxy.log.wait_for(asked).await;
        (response, event)
    }

    async fn acme(self) {
        let second = [("name", "www.example.com")];
        self.proxy.log.wait("certificate issued", &second).await;
        let status = self.proxy.status().await;
        let all = status["acme"].as_array().expect("a list");
        assert!(
            all.len() == 2 && all.iter().all(|one| one["error"].is_null()),
            "{status}"
        );
    }

    async fn behind_a_proxy(self) {
        let told = "\r\nX-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https";
        let (response, event) = self.get("/told", "localhost", told).await;
        assert_eq!(event.text("forwarded_for"), "198.51.100.7");
        let cookie = response.head.header("set-cookie").expect("a cookie");
        assert!(cookie.contains("; Secure"), "{cookie}");
        let seen = self.backend.requests().pop().expect("a request");
        assert_eq!(
            seen.header("x-forwarded-for"),
            Some("198.51.100.7, 127.0.0.1")
        );
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    }

    async fn proxy_protocol(self) {
        let asked = |event: &Event| event.message == "request" && event.has("backend");
        let event = self.proxy.log.wait_for(asked).await;
        assert_eq!(event.text("client"), "198.51.100.7:4711");
        let mut wire = self.public().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        wire.end().await;
    }

    async fn basic_auth(self) {
        // As a client of the name and the password sends it.
        let lines = "\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\nX-User: root";
        let (response, _) = self.get("/staff/x", "localhost", lines).await;
        assert_eq!(response.head.status, 200);
        let seen = self.backend.requests().pop().expect("a request");
        assert_eq!(seen.all("x-user"), ["ann"]);
        let (response, event) = self.get("/staff/y", "localhost", "").await;
        assert_eq!(response.head.status, 401);
        assert_eq!(event.text("refusal"), "no_credentials");
        let (response, _) = self.get("/else", "localhost", "").await;
        assert_eq!(response.head.status, 200);
    }

    async fn jwt(self) {
        let mut wire = self.public().await;
        let forged = "Sec-WebSocket-Protocol: chat, bearer.eyJhbGciOiJub25lIn0.e30.\r\n";
        wire.send(handshake("/", "h", forged)).await;
        assert_eq!(wire.response_head().await.status, 401);
        let refusal = [("refusal", "bad_credentials")];
        self.proxy.log.wait("request", &refusal).await;
        assert_eq!(self.backend.connections(), 0);
    }

    async fn jwt_keys_from_url(self) {
        // Nobody here is the login service.
        let none = "keys not fetched: there are none yet";
        self.proxy.log.wait(none, &[]).await;
        let token = "\r\nAuthorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.AAAA";
        let (response, event) = self.get("/chat", "localhost", token).await;
        assert_eq!(response.head.status, 503);
        assert_eq!(event.text("refusal"), "no_keys");
    }

    async fn drain(self) {
        let mut ws = Ws::open(self.public().await, "/", "h", "").await;
        ws.greeting().await;
        self.proxy.terminate();
        self.proxy.log.wait("draining", &[("tunnels", "1")]).await;
        // It paces over a minute: the deadline is not for this test.
        let left = self.proxy.log.wait("still draining", &[]).await;
        assert!(left.number("seconds_left") > 100, "{}", left.line);
    }

    async fn hash_by_room(self) {
        let mut chosen = Vec::new();
        for (target, source) in [
            ("/rooms?room=7&try=1", "query:room"),
            ("/rooms?room=7&try=2", "query:room"),
            ("/doc/42/a", "path:2"),
            ("/doc/42/b", "path:2"),
        ] {
            let log = self.proxy.log.tail();
            self.ask(&format!("GET {target} HTTP/1.1\r\nHost: h")).await;
            let event = log.wait("request", &[("sticky", source)]).await;
            chosen.push(event.text("backend").to_owned());
        }
        assert_eq!((&chosen[0], &chosen[2]), (&chosen[1], &chosen[3]));
        assert!(chosen[0].starts_with("rooms-") && chosen[2].starts_with("documents-"));
    }

    async fn health(self) {
        let good = "longhaul_probes_total{upstream=\"chat\"";
        soon("every backend to be probed with success", async {
            while self.proxy.metric(good).await < 3.0 {}
        })
        .await;
        let status = self.proxy.status().await;
        for backend in status["upstreams"][0]["backends"]
            .as_array()
            .expect("backends")
        {
            assert_eq!(backend["health"], "up", "{backend}");
            assert_eq!(backend["last_probe"]["ok"], true, "{backend}");
        }
    }

    /// One listener says that WebSockets may go over HTTP/2, the other does not.
    async fn http2(self) {
        let client = self.authority.client().alpn(&["h2"]);
        for (listener, allowed) in [("public", Some(1)), ("careful", None)] {
            let address = self.proxy.address(listener).await;
            let wire = client.connect(&address, "localhost").await;
            let wire = wire.expect("a TLS handshake");
            let client = H2::over(wire.into_parts().0).await;
            let setting = client.setting(Setting::ENABLE_CONNECT_PROTOCOL);
            assert_eq!(setting, allowed, "{listener}");
            let most = client.setting(Setting::MAX_CONCURRENT_STREAMS);
            assert_eq!(most, Some(500), "{listener}");
        }
    }

    async fn guard(self) {
        for (origin, status) in [
            ("https://chat.example.com", 101),
            ("https://evil.example", 403),
        ] {
            let mut wire = self.public().await;
            let told = format!("Origin: {origin}\r\n");
            wire.send(handshake("/ws/a", "chat.example.com", &told))
                .await;
            assert_eq!(wire.response_head().await.status, status, "{origin}");
        }
        let mut wires = Vec::new();
        for status in [101, 101, 429] {
            let mut wire = self.public().await;
            wire.send(handshake("/ws/a", "h", "Cookie: user=a\r\n"))
                .await;
            assert_eq!(wire.response_head().await.status, status);
            wires.push(wire);
        }
        let (answer, event) = self.get("/internal/a", "h", "").await;
        assert_eq!(answer.head.status, 403);
        assert_eq!(event.text("refusal"), "network_denied");
    }

    async fn https_backends(self) {
        // The backend speaks no TLS: what came to it was a ClientHello and no request.
        assert!(self.backend.connections() > 0);
        assert_eq!(self.backend.requests().len(), 0);
        let refused = [("refusal", "dial_failed"), ("upstream", "partner")];
        self.proxy.log.wait("request", &refused).await;
    }

    async fn includes(self) {
        let status = self.proxy.status().await;
        let upstreams = status["upstreams"].as_array().expect("upstreams");
        assert!(upstreams.len() > 1, "from more than one file: {status}");
    }

    async fn least_connections(self) {
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut ws = Ws::open(self.public().await, "/live/x", "h", "").await;
            ws.greeting().await;
            open.push(ws);
        }
        // By weight: one and two.
        let on = |name: &str| {
            let opened = |event: &Event| event.is("tunnel opened", &[("backend", name)]);
            self.proxy.log.all(opened).len()
        };
        self.proxy
            .log
            .wait_for(|_| on("tickers-1") + on("tickers-2") == 3)
            .await;
        assert_eq!((on("tickers-1"), on("tickers-2")), (1, 2));
    }

    async fn logging_and_limits(self) {
        let (_, event) = self.get("/asked?token=secret", "h", "").await;
        assert!(event.line.starts_with('{') && !event.line.contains("secret"));
        assert_eq!(event.text("request_id").len(), 32, "{}", event.line);
        assert_eq!(event.text("trace_id").len(), 32, "{}", event.line);
        let lines: String = (0..64).map(|n| format!("\r\nx-{n}: y")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: h{lines}");
        assert_eq!(self.ask(&head).await.head.status, 431);
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\nx: {}", "y".repeat(17 << 10));
        assert_eq!(self.ask(&head).await.head.status, 431);
    }

    async fn minimal(self) {
        let (_, one) = self.get("/one", "h", "").await;
        let (_, two) = self.get("/two", "h", "").await;
        assert_eq!(one.text("sticky"), "client_ip");
        assert_eq!(one.text("backend"), two.text("backend"));
    }

    async fn mqtt(self) {
        let offer = |name: &str| format!("Sec-WebSocket-Protocol: {name}\r\n");
        for (lines, status) in [
            (offer("mqtt"), 101),
            (offer("chat"), 404),
            (String::new(), 404),
        ] {
            let mut wire = self.public().await;
            wire.send(handshake("/mqtt", "h", &lines)).await;
            assert_eq!(wire.response_head().await.status, status, "{lines}");
        }
    }

    async fn mutual_tls(self) {
        let address = self.proxy.address("devices").await;
        let bare = self.authority.client_with(TlsVersion::V12, None);
        assert!(bare.connect(&address, "localhost").await.is_err());
        let refusal = [("refusal", "no_client_certificate")];
        self.proxy.log.wait("tls handshake failed", &refusal).await;
        let shown = [("client_subject", "CN=device")];
        self.proxy.log.wait("request", &shown).await;
        let seen = self.backend.requests().pop().expect("a request");
        assert_eq!(seen.header("x-client-subject"), Some("CN=device"));
    }

    async fn other_upgrades(self) {
        let upgrade = |path: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp")
        };
        // The backend knows it not and answers plainly; elsewhere it is not asked.
        let answer = self.ask(&upgrade("/containers/1/attach")).await;
        assert_eq!(answer.head.status, 200);
        let seen = self.backend.requests().pop().expect("a request");
        assert_eq!(seen.header("upgrade"), Some("tcp"));
        assert_eq!(self.ask(&upgrade("/elsewhere")).await.head.status, 501);
    }

    async fn routing(self) {
        let route = async |target: &str, lines: &str| {
            let (_, event) = self.get(target, "app.example.com", lines).await;
            event.text("upstream").to_owned()
        };
        assert_eq!(route("/ws/deep", "").await, "chat");
        assert_eq!(route("/doc/1/live", "").await, "documents");
        assert_eq!(
            route("/doc/2/live", "\r\nX-Tenant: acme").await,
            "documents-next"
        );
        assert_eq!(route("/api/in", "\r\nAuthorization: x").await, "api");
        assert_eq!(route("/api/out", "").await, "site");
        let mut wire = self.public().await;
        wire.send(handshake(
            "/api/ws",
            "app.example.com",
            "Authorization: x\r\n",
        ))
        .await;
        assert_eq!(wire.response().await.head.status, 501, "upgrades = []");
    }

    async fn redirect(self) {
        let mut wire = self.proxy.connect_to("plain").await;
        wire.send("GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n")
            .await;
        let head = wire.response().await.head;
        assert_eq!(head.header("location"), Some("https://example.com:8443/a"));
    }

    async fn socketio(self) {
        let (response, first) = self.get("/socket.io/poll", "h", "").await;
        let cookie = response.head.header("set-cookie").expect("a cookie");
        let cookie = cookie.split(';').next().expect("a pair");
        let mut ws = Ws::open(
            self.public().await,
            "/socket.io/up",
            "h",
            &format!("Cookie: {cookie}\r\n"),
        )
        .await;
        ws.greeting().await;
        let opened = self.proxy.log.wait("tunnel opened", &[]).await;
        assert_eq!(opened.text("sticky"), "cookie");
        assert_eq!(opened.text("backend"), first.text("backend"));
    }

    async fn sticky_cookie(self) {
        let (response, _) = self.get("/new", "h", "").await;
        let cookie = response.head.header("set-cookie").expect("a cookie");
        let (pair, attributes) = cookie.split_once(';').expect("attributes");
        assert!(pair.starts_with("longhaul="), "{cookie}");
        for attribute in ["Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=86400"] {
            assert!(attributes.contains(attribute), "{attribute} in {cookie}");
        }
        let (response, event) = self
            .get("/known", "h", &format!("\r\nCookie: {pair}"))
            .await;
        assert_eq!(response.head.header("set-cookie"), None);
        assert_eq!(event.text("sticky"), "cookie");
    }

    async fn traces(self) {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736";
        let told = format!("traceparent: {trace}-00f067aa0ba902b7-01\r\n");
        let mut wire = self.public().await;
        wire.send(handshake("/", "h", &told)).await;
        assert_eq!(wire.response_head().await.status, 101);
        let seen = self.backend.requests().pop().expect("a request");
        let passed = seen.header("traceparent").expect("a trace");
        assert!(
            passed.starts_with(trace) && !told.contains(passed),
            "{passed}"
        );
        self.proxy.log.wait("spans are not exported", &[]).await;
    }

    async fn timeouts(self) {
        let mut wire = self.public().await;
        let start = Instant::now();
        wire.eof().await;
        let took = start.elapsed();
        assert!(
            took > Duration::from_secs(4) && took < Duration::from_secs(9),
            "{took:?}"
        );
        let refusal = [("refusal", "first_byte_timeout")];
        self.proxy.log.wait("request", &refusal).await;
    }

    async fn tls_sni(self) {
        // Nobody has written the response yet, which is no reason not to start.
        let missing = |event: &Event| {
            let what = "example.pem is shown without an OCSP response";
            event.level == "WARN" && event.line.contains(what)
        };
        self.proxy.log.wait_for(missing).await;
        let address = self.proxy.address("public").await;
        let client = self.authority.client();
        let shown = async |name: &str| {
            let wire = client.connect(&address, name).await.expect("TLS");
            wire.peer_certificate().to_vec()
        };
        // One has its name, the other fits by wildcard.
        assert_ne!(
            shown("chat.example.com").await,
            shown("www.example.com").await
        );
        let old = self.authority.client_with(TlsVersion::V12, None);
        assert!(old.connect(&address, "www.example.com").await.is_err());
        let mut wire = client
            .connect(&address, "chat.example.com")
            .await
            .expect("TLS");
        wire.send("GET / HTTP/1.1\r\nHost: chat.example.com\r\n\r\n")
            .await;
        assert_eq!(wire.response().await.head.status, 200);
        let facts = [("sni", "chat.example.com"), ("upstream", "chat")];
        self.proxy.log.wait("request", &facts).await;
    }

    async fn unix_sockets(self) {
        let socket = self.proxy.path("front.sock");
        let mode = |path: &std::path::Path| {
            let found = fs::metadata(path).expect("the socket");
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode(&socket), 0o660);
        assert_eq!(mode(&self.proxy.path("admin.sock")), 0o600);
        let mut wire = dial(&format!("unix:{}", socket.display())).await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(wire.response().await.text(), "a");
        assert_eq!(wire.end().await, End::Eof);
    }
}
