//! The log: text and JSON, one line for each end, nothing secret in it.

use crate::kit::{
    Echo, Event, Opcode, Over, Proxy, RawBackend, Setup, Site, Wire, close_payload, handshake,
    masked, over_each, plain,
};

over_each!(
    secrets_of_headers_are_in_no_line_at_any_level,
    every_field_is_documented,
    a_tunnel_is_one_line_at_open_and_one_at_close,
    secrets_of_the_query_are_in_no_line_unless_asked_for,
    every_end_is_exactly_one_line_with_its_cause,
);

async fn open(proxy: &Proxy, backend: &RawBackend, target: &str) -> (Wire, Wire) {
    let opening = handshake(target, "chat.test", "");
    backend.join_with(proxy.connect().await, opening).await
}

#[tokio::test]
async fn a_request_is_one_line_with_every_fact() {
    let backend = Echo::start("a").await;
    let site = Site::of(&[backend.entry()])
        .route("name = 'chat'")
        .upstream("sticky = 'query:room'");
    let proxy = Proxy::start(site).await;
    let response = proxy.get_with("/x?room=7", "").await;
    assert_eq!(response.text(), "a");
    let event = proxy.log.wait("request", &[]).await;
    let facts = [
        ("listener", "main"),
        ("host", "localhost"),
        ("path", "/x?room=*"),
        ("method", "GET"),
        ("status", "200"),
        ("route", "chat"),
        ("upstream", "app"),
        ("backend", "a"),
        ("sticky", "query:room"),
        ("bytes_out", "1"),
    ];
    assert!(event.is("request", &facts), "{}", event.line);
    assert_eq!(
        (event.level.as_str(), event.target.as_str()),
        ("INFO", "access")
    );
    assert!(
        event.text("client").starts_with("127.0.0.1:"),
        "{}",
        event.line
    );
    assert!(
        event.has("id") && event.has("duration_ms"),
        "{}",
        event.line
    );
    assert!(
        !event.has("refusal") || event.text("refusal").is_empty(),
        "{}",
        event.line
    );
}

async fn a_tunnel_is_one_line_at_open_and_one_at_close(over: Over) {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address())
        .route("name = 'chat'")
        .upstream("sticky = 'query:room'");
    let proxy = Proxy::start(site).await.over(over);
    let (mut client, mut server) = open(&proxy, &backend, "/ws?room=7&token=secret").await;
    let opened = proxy.log.wait("tunnel opened", &[]).await;
    let up = [
        masked(Opcode::Text, true, b"one"),
        masked(Opcode::Binary, false, b"t"),
        masked(Opcode::Ping, true, b"p"),
        masked(Opcode::Continuation, true, b"wo"),
    ]
    .concat();
    client.send(&up).await;
    for _ in 0..4 {
        server.frame().await;
    }
    let down = plain(Opcode::Text, true, b"back");
    server.send(&down).await;
    client.frame().await;
    client
        .send(masked(Opcode::Close, true, &close_payload(1000)))
        .await;
    server.frame().await;
    server
        .send(plain(Opcode::Close, true, &close_payload(1000)))
        .await;
    client.frame().await;
    drop((client, server));

    let closed = proxy.log.wait("tunnel closed", &[]).await;
    for event in [&opened, &closed] {
        let facts = [
            ("listener", "main"),
            ("host", "chat.test"),
            ("path", "/ws?room=*&token=*"),
            ("route", "chat"),
            ("upstream", "app"),
            ("backend", "a"),
            ("sticky", "query:room"),
        ];
        assert!(event.is(&event.message, &facts), "{}", event.line);
        assert_eq!(event.target, "access");
    }
    assert_eq!(opened.number("id"), closed.number("id"));
    let facts = [
        ("ended_by", "client"),
        ("cause", "close 1000"),
        ("messages_in", "2"),
        ("messages_out", "1"),
    ];
    assert!(closed.is("tunnel closed", &facts), "{}", closed.line);
    assert_eq!(closed.number("bytes_in"), up.len() as u64 + 8);
    assert_eq!(closed.number("bytes_out"), down.len() as u64 + 4);
    assert!(closed.has("duration_ms"));
    let access = proxy.log.all(|event| event.target == "access");
    assert_eq!(access.len(), 2, "no request line beside them: {access:?}");
}

async fn secrets_of_the_query_are_in_no_line_unless_asked_for(over: Over) {
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address());
    let proxy = Proxy::start(&site).await.over(over);
    let target = "/ws?token=s3cr3t&bare-s3cr3t&x=%73s3cr3t";
    proxy.get(target).await;
    let ws = proxy.ws(target).await;
    ws.close(1000).await;
    proxy.log.wait("tunnel closed", &[]).await;
    let found = proxy.log.all(|event| event.line.contains("s3cr3t"));
    assert!(found.is_empty(), "{found:?}");

    proxy
        .reload(site.more("[log]\nformat = 'json'\nquery_values = true\n"))
        .await;
    proxy.get(target).await;
    proxy.log.wait("request", &[("path", target)]).await;
}

#[tokio::test]
async fn text_has_the_same_facts_in_a_line() {
    let backend = Echo::start("a").await;
    let text = "[log]\nformat = 'text'\n";
    let proxy = Proxy::start(Site::one(backend.address()).more(text)).await;
    proxy.get("/x?token=secret").await;
    let event = proxy
        .log
        .wait_for(|event| event.line.contains("/x?token=*"))
        .await;
    for word in ["INFO", "access", "request", "status=200", "backend"] {
        assert!(event.line.contains(word), "{word} in {}", event.line);
    }
    assert!(
        !event.line.contains('\u{1b}'),
        "no colours in a pipe: {}",
        event.line
    );
}

#[tokio::test]
async fn what_a_client_says_cannot_forge_a_line() {
    let backend = Echo::start("a").await;
    let text = "[log]\nformat = 'text'\n";
    let proxy = Proxy::start(Site::one(backend.address()).more(text)).await;
    let forged = proxy.get("/%0aINFO%20forged?x=\u{1b}[31m").await;
    assert!([200, 400].contains(&forged.head.status));
    proxy.get("/last").await;
    proxy
        .log
        .wait_for(|event| event.line.contains("/last"))
        .await;
    for event in proxy.log.events() {
        assert!(!event.line.starts_with("INFO forged"), "{}", event.line);
        assert!(!event.line.contains('\u{1b}'), "{:?}", event.line);
    }
}

/// What the libraries below say prints header fields.
async fn secrets_of_headers_are_in_no_line_at_any_level(over: Over) {
    const SECRET: &str = "s3cr3t-of-a-header";
    let backend = Echo::start("a").await;
    // HTTP/2 on both legs.
    let behind = Proxy::start(Site::one(backend.address())).await;
    let address = behind.address("main").await;
    let site = |level: &str| {
        Site::one(&address)
            .upstream("http2 = true")
            .more(&format!("[log]\nformat = 'json'\nlevel = '{level}'\n"))
    };
    let proxy = Setup::new().beside().start(site("debug")).await.over(over);
    let headers = format!("Authorization: {SECRET}\r\nCookie: {SECRET}\r\nX-Own: {SECRET}\r\n");
    let is_foreign =
        |event: &Event| !matches!(event.target.split("::").next(), Some("access" | "longhaul"));
    ask(&proxy, &headers).await;
    proxy.reload(site("trace")).await;
    ask(&proxy, &headers).await;
    for event in proxy.log.events() {
        assert!(!event.line.contains(SECRET), "{}", event.line);
        let detail = ["DEBUG", "TRACE"].contains(&&*event.level);
        assert!(!(detail && is_foreign(&event)), "{}", event.line);
    }
    // Asked for by name, it is there.
    proxy.reload(site("info,h2=trace")).await;
    let log = proxy.log.tail();
    ask(&proxy, &headers).await;
    log.wait_for(|event| event.level == "TRACE" && event.target.starts_with("h2"))
        .await;
}

async fn ask(proxy: &Proxy, headers: &str) {
    assert_eq!(proxy.get_with("/", headers).await.text(), "a");
    proxy.ws_with("/", headers).await.close(1000).await;
}

/// Each way a tunnel can end, and what its one line must say.
async fn every_end_is_exactly_one_line_with_its_cause(over: Over) {
    let backend = RawBackend::start().await;
    let site = |route: &str| Site::one(backend.address()).route(route);
    let proxy = Proxy::start(site("")).await.over(over);
    let cases = [
        ("client closes", "", "client", "close 1000"),
        ("backend closes", "", "backend", "close 1000"),
        ("client eof", "", "client", "eof"),
        ("backend eof", "", "backend", "eof"),
        ("client reset", "", "client", "reset"),
        ("backend reset", "", "backend", "reset"),
        ("idle", "idle_timeout = '150ms'", "longhaul", "idle_timeout"),
        (
            "half closed",
            "half_close_timeout = '150ms'",
            "longhaul",
            "half_close_timeout",
        ),
        ("old", "max_lifetime = '150ms'", "longhaul", "max_lifetime"),
    ];
    for (what, route, by, cause) in cases {
        if !route.is_empty() {
            proxy.reload(site(route)).await;
        }
        let log = proxy.log.tail();
        let (client, server) = open(&proxy, &backend, "/").await;
        end(what, client, server).await;
        let event = log.wait("tunnel closed", &[]).await;
        assert!(
            event.is("tunnel closed", &[("ended_by", by), ("cause", cause)]),
            "{what}: {}",
            event.line
        );
        // Its answer comes after whatever the tunnel had to say.
        proxy.status().await;
        assert_eq!(log.all(is_close).len(), 1, "{what}");
    }
    let opened = proxy
        .log
        .all(|event| event.message == "tunnel opened")
        .len();
    let closed = proxy.log.all(is_close).len();
    assert_eq!((opened, closed), (cases.len(), cases.len()));
}

fn is_close(event: &Event) -> bool {
    event.message == "tunnel closed"
}

/// Ends a tunnel in the way that the name says.
async fn end(what: &str, mut client: Wire, mut server: Wire) {
    let close = close_payload(1000);
    match what {
        "client closes" => {
            client.send(masked(Opcode::Close, true, &close)).await;
            server.frame().await;
            server.send(plain(Opcode::Close, true, &close)).await;
            client.frame().await;
        }
        "backend closes" => {
            server.send(plain(Opcode::Close, true, &close)).await;
            client.frame().await;
            client.send(masked(Opcode::Close, true, &close)).await;
            server.frame().await;
        }
        "client eof" => {
            client.finish().await;
            server.eof().await;
        }
        "backend eof" => {
            server.finish().await;
            client.eof().await;
        }
        "client reset" => {
            client.abort();
            server.end().await;
        }
        "backend reset" => {
            server.abort();
            client.end().await;
        }
        "half closed" => {
            client.finish().await;
            client.rest_and_end().await;
            server.rest_and_end().await;
        }
        _ => {
            client.rest_and_end().await;
            server.rest_and_end().await;
        }
    }
}

#[tokio::test]
async fn a_client_that_left_has_its_line() {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    let mut client = proxy.connect().await;
    client.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut server = backend.accept().await;
    server.request().await;
    client.abort();
    server.end().await;
    let event = proxy.log.wait("request", &[("path", "/slow")]).await;
    assert!(
        event.is("request", &[("refusal", "client_left")]),
        "{}",
        event.line
    );
}

/// Every field of the three access lines is in the table of the operations guide.
async fn every_field_is_documented(over: Over) {
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address()).route("path = '/here/*'");
    let site = site.top("trusted_proxies = ['127.0.0.1']");
    let proxy = Proxy::start(site).await.over(over);
    let from = "X-Forwarded-For: 192.0.2.7\r\n";
    proxy.get_with("/here", from).await;
    proxy.get_with("/nowhere", from).await;
    proxy.ws_with("/here", from).await.close(1000).await;
    proxy.log.wait("tunnel closed", &[]).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let guide = std::fs::read_to_string(path).expect("docs/operations.md");
    let rows: Vec<&str> = guide
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let access = proxy.log.all(|event| event.target == "access");
    assert_eq!(access.len(), 4, "{access:?}");
    for event in access {
        for field in event.fields() {
            let found = rows.iter().any(|row| row.contains(&format!("`{field}`")));
            assert!(found, "{field} of {}", event.line);
        }
    }
}
