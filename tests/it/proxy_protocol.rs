//! The PROXY protocol in: who may say whose connection it is, what is believed, and what is
//! refused before a byte of HTTP.

use std::time::{Duration, Instant};

use crate::kit::h2::Gateway;
use crate::kit::{
    Authority, Echo, End, Over, Proxy, Setup, Site, TlsClient, Wire, Ws, dial, handshake, over_each,
};

over_each!(
    a_header_says_who_the_client_is,
    tls_comes_behind_the_header,
    clients_count_under_the_addresses_that_headers_say,
    a_reload_changes_who_must_say_it_and_no_tunnel,
);

const RULE: &str = "proxy_protocol = { from = ['127.0.0.0/8'], timeout = '2s' }";
const LINE: &str = "PROXY TCP4 203.0.113.7 198.51.100.2 4711 8443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The same as [`LINE`].
const ADDRESSES: &[u8] = &[203, 0, 113, 7, 198, 51, 100, 2, 0x12, 0x67, 0x20, 0xfb];

/// A header of version 2.
pub fn binary(command: u8, family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let rest = parts.concat();
    let length = u16::try_from(rest.len()).expect("a short header");
    [SIGNATURE, &[command, family], &length.to_be_bytes(), &rest].concat()
}

fn site(backend: &Echo) -> Site {
    Site::of(&[backend.entry()]).listener(RULE)
}

/// A connection to `main` that begins with this header.
async fn introduced(proxy: &Proxy, over: Over, header: impl AsRef<[u8]>) -> Wire {
    let mut wire = proxy.connect_plainly().await;
    wire.send(header).await;
    match over {
        Over::Http1 => wire,
        Over::Http2 => Gateway::over(wire).await,
    }
}

async fn a_header_says_who_the_client_is(over: Over) {
    let backend = Echo::start("a").await;
    // Who the proxy is does not count any more.
    let site = site(&backend).top("trusted_proxies = ['127.0.0.1']");
    let proxy = Proxy::start(site).await;
    for header in [LINE.as_bytes(), &binary(0x21, 0x11, &[ADDRESSES])] {
        let log = proxy.log.tail();
        let wire = introduced(&proxy, over, header).await;
        let mut ws = Ws::open(wire, "/", "h", "X-Forwarded-For: 6.6.6.6\r\n").await;
        assert_eq!(ws.greeting().await, "a");
        ws.echo("hello").await;
        let seen = backend.requests().pop().expect("a request");
        assert_eq!(seen.all("x-forwarded-for"), ["203.0.113.7"]);
        assert_eq!(seen.header("x-forwarded-port"), Some("8443"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
        ws.close(1000).await;
        let closed = log.wait("tunnel closed", &[]).await;
        assert_eq!(closed.text("client"), "203.0.113.7:4711");
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte_and_with_what_follows() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend)).await;
    let v6 = binary(
        0x21,
        0x21,
        &[&[0x20, 1, 0xd, 0xb8], &[0; 28], &[0, 1, 0, 2]],
    );
    for (header, client) in [
        (LINE.as_bytes(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8:: ::1 1 2\r\n", "2001:db8::"),
        (&v6, "2001:db8::"),
    ] {
        let request = [header, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        for slowly in [true, false] {
            let mut wire = proxy.connect_plainly().await;
            match slowly {
                true => wire.send_slowly(&request).await,
                false => wire.send(&request).await,
            }
            assert_eq!(wire.response().await.head.status, 200);
            let seen = backend.requests().pop().expect("a request");
            assert_eq!(seen.header("x-forwarded-for"), Some(client));
        }
    }
}

async fn tls_comes_behind_the_header(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let proxy = setup.start(site(&backend).tls()).await;
    let client: TlsClient = match over {
        Over::Http1 => authority.client(),
        Over::Http2 => authority.client().alpn(&["h2"]),
    };
    let mut wire = proxy.connect_plainly().await;
    wire.send(binary(0x21, 0x11, &[ADDRESSES])).await;
    let wire = client.over(wire, "localhost").await.expect("a handshake");
    let wire = match over {
        Over::Http1 => wire,
        Over::Http2 => Gateway::over(wire).await,
    };
    let mut ws = Ws::open(wire, "/", "localhost", "").await;
    assert_eq!(ws.greeting().await, "a");
    let seen = backend.requests().pop().expect("a request");
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    // A failed handshake is the client's too.
    let mut wire = proxy.connect_plainly().await;
    wire.send([LINE.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat())
        .await;
    let failed = proxy.log.wait("tls handshake failed", &[]).await;
    assert_eq!(failed.text("client"), "203.0.113.7:4711");
}

/// What the backend hears of client and scheme.
async fn heard(proxy: &Proxy, backend: &Echo, header: &[u8]) -> (String, String) {
    let mut wire = introduced(proxy, Over::Http1, header).await;
    wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(wire.response().await.head.status, 200);
    let seen = backend.requests().pop().expect("a request");
    let of = |name: &str| seen.header(name).expect("a header").to_owned();
    (of("x-forwarded-for"), of("x-forwarded-proto"))
}

#[tokio::test]
async fn a_proxy_may_speak_for_itself_or_not_know() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend)).await;
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN whatever it is\r\n",
        &binary(0x20, 0x00, &[]),
        &binary(0x20, 0x11, &[ADDRESSES]),
        &binary(0x21, 0x00, &[]),
        &binary(0x21, 0x31, &[&[7; 216]]),
    ] {
        let heard = heard(&proxy, &backend, header).await;
        assert_eq!(heard, ("127.0.0.1".into(), "http".into()), "{header:?}");
    }
}

#[tokio::test]
async fn a_client_of_a_proxy_that_ended_tls_is_secure() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend).upstream("sticky = ['cookie']")).await;
    let over_tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
    let unknown = [0xee, 0, 2, 1, 2];
    let header = binary(0x21, 0x11, &[ADDRESSES, &unknown, &over_tls]);
    let heard = heard(&proxy, &backend, &header).await;
    assert_eq!(heard, ("203.0.113.7".into(), "https".into()));
    let mut wire = introduced(&proxy, Over::Http1, &header).await;
    wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let answer = wire.response().await;
    let cookie = answer.head.header("set-cookie").expect("a cookie");
    assert!(cookie.contains("; Secure"), "{cookie}");
}

/// The connection ends without an answer, and the log says why.
async fn refused(proxy: &Proxy, bytes: &[u8], refusal: &str) {
    let log = proxy.log.tail();
    let mut wire = proxy.connect_plainly().await;
    // It may be closed before all is sent.
    let _ = wire.try_send(bytes).await;
    let (answer, _) = wire.rest_and_end().await;
    assert_eq!(answer, b"", "{bytes:?}");
    let event = log.wait("request", &[("refusal", refusal)]).await;
    assert!(event.text("client").starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn what_is_no_header_is_refused_without_an_answer() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend)).await;
    // The sum over this header is another.
    let sum = [3, 0, 4, 0, 0, 0, 0];
    let wrong = [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x00\x05".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 198.51.100.2 4711\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.300 198.51.100.2 4711 8443\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        binary(0x21, 0x11, &[&ADDRESSES[1..]]),
        binary(0x21, 0x11, &[ADDRESSES, &[4, 0xff, 0xff]]),
        binary(0x21, 0x11, &[ADDRESSES, &sum]),
        binary(0x21, 0x11, &[&[0; 5000]]),
        binary(0x31, 0x11, &[ADDRESSES]),
    ];
    for bytes in &wrong {
        refused(&proxy, bytes, "bad_proxy_header").await;
    }
    let counted = proxy
        .metric("longhaul_refusals_total{refusal=\"bad_proxy_header\"}")
        .await;
    assert_eq!(counted, wrong.len() as f64);
    // The next connection is served.
    heard(&proxy, &backend, LINE.as_bytes()).await;
    assert_eq!(backend.requests().len(), 1);
}

/// Whoever the client is, and whichever HTTP the listener speaks.
#[tokio::test]
async fn where_it_is_not_asked_for_a_header_is_refused_by_its_name() {
    let backend = Echo::start("a").await;
    let of_one = "[listeners.one]\naddress = '127.0.0.1:0'\nhttp2 = false";
    let site = Site::of(&[backend.entry()]).top("trusted_proxies = ['127.0.0.1']");
    let proxy = Proxy::start(site.more(of_one)).await;
    let unasked = [("refusal", "unasked_proxy_header")];
    for listener in ["main", "one"] {
        for header in [LINE.as_bytes(), &binary(0x21, 0x11, &[ADDRESSES])] {
            let log = proxy.log.tail();
            let mut wire = proxy.connect_to(listener).await;
            let request = [header, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
            wire.send(request).await;
            assert_eq!(wire.response_head().await.status, 400);
            let event = log.wait("request", &unasked).await;
            assert!(event.text("client").starts_with("127.0.0.1:"));
            assert!(event.text("reason").contains("proxy_protocol"), "{event:?}");
        }
    }
    let counted = "longhaul_refusals_total{refusal=\"unasked_proxy_header\"}";
    assert_eq!(proxy.metric(counted).await, 4.0);
    assert_eq!(backend.requests().len(), 0);
}

#[tokio::test]
async fn who_may_not_say_it_is_refused_unheard() {
    let backend = Echo::start("a").await;
    let rule = "proxy_protocol = { from = ['192.0.2.0/24', '127.0.0.2'] }";
    let proxy = Proxy::start(Site::of(&[backend.entry()]).listener(rule)).await;
    refused(&proxy, LINE.as_bytes(), "untrusted_proxy").await;
    let mut wire = proxy.connect_plainly().await;
    // It need not say anything for that.
    wire.end().await;
    let mut trusted = proxy.connect_from("127.0.0.2").await;
    trusted
        .send(format!("{LINE}GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
        .await;
    assert_eq!(trusted.response().await.head.status, 200);
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for() {
    let backend = Echo::start("a").await;
    let rule = "proxy_protocol = { from = ['127.0.0.1'], timeout = '300ms' }";
    let proxy = Proxy::start(Site::of(&[backend.entry()]).listener(rule)).await;
    for part in [
        &b""[..],
        b"P",
        b"PROXY TCP4 203.",
        &SIGNATURE[..11],
        &binary(0x21, 0x11, &[ADDRESSES])[..20],
    ] {
        let start = Instant::now();
        refused(&proxy, part, "proxy_header_timeout").await;
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(290) && took < Duration::from_secs(5),
            "{took:?}"
        );
    }
}

#[tokio::test]
async fn a_probe_that_leaves_without_a_word_is_no_refusal() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend)).await;
    let mut wire = proxy.connect_plainly().await;
    wire.finish().await;
    assert_eq!(wire.end().await, End::Eof);
    // One that leaves within its header is.
    let log = proxy.log.tail();
    let mut wire = proxy.connect_plainly().await;
    wire.send("PROXY T").await;
    wire.finish().await;
    wire.end().await;
    log.wait("request", &[("refusal", "proxy_left")]).await;
    let refusals = proxy.log.all(|event| event.has("refusal"));
    assert_eq!(refusals.len(), 1, "{refusals:?}");
}

async fn clients_count_under_the_addresses_that_headers_say(over: Over) {
    let backend = Echo::start("a").await;
    // A stream of HTTP/2 counts beside its connection.
    let most = match over {
        Over::Http1 => 1,
        Over::Http2 => 2,
    };
    let limits = format!("[limits]\nmax_connections_per_address = {most}");
    let proxy = Proxy::start(site(&backend).more(&limits)).await;
    let header = |client: &str| format!("PROXY TCP4 {client} 198.51.100.2 4711 8443\r\n");
    let open = async |client: &str| {
        let wire = introduced(&proxy, over, header(client)).await;
        Ws::open(wire, "/", "h", "").await
    };
    // All of one proxy, each of another client.
    let first = open("203.0.113.1").await;
    let mut second = open("203.0.113.2").await;
    let mut refused = proxy.connect_plainly().await;
    refused.send(header("203.0.113.2")).await;
    assert_eq!(refused.rest_and_end().await.0, b"");
    let counted = "longhaul_connections_refused_total{refusal=\"max_connections_per_address\"}";
    assert_eq!(proxy.metric(counted).await, 1.0);
    second.greeting().await;
    second.echo("still here").await;
    first.close(1000).await;
    proxy.log.wait("tunnel closed", &[]).await;
    let mut again = loop {
        // The connection of HTTP/2 may outlive its tunnel by a moment.
        let mut wire = proxy.connect_plainly().await;
        let opening = header("203.0.113.1") + &handshake("/", "h", "");
        let _ = wire.try_send(opening).await;
        if let Some(head) = wire.next_response_head().await {
            assert_eq!(head.status, 101);
            break wire;
        }
    };
    assert!(again.readable().await);
}

async fn a_reload_changes_who_must_say_it_and_no_tunnel(over: Over) {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(site(&backend)).await;
    let wire = introduced(&proxy, over, LINE).await;
    let mut told = Ws::open(wire, "/", "h", "").await;
    told.greeting().await;
    proxy.reload(Site::of(&[backend.entry()])).await;
    told.echo("off").await;
    let mut plain = Ws::open(introduced(&proxy, over, "").await, "/", "h", "").await;
    plain.greeting().await;
    proxy.reload(site(&backend)).await;
    told.echo("on").await;
    plain.echo("on").await;
    refused(&proxy, b"GET / HTTP/1.1\r\n\r\n", "bad_proxy_header").await;
    let wire = introduced(&proxy, over, LINE).await;
    Ws::open(wire, "/", "h", "").await.greeting().await;
}

#[tokio::test]
async fn whoever_reaches_a_unix_socket_may_say_it() {
    let backend = Echo::start("a").await;
    let listener = "address = 'unix:front.sock'\nproxy_protocol = {}";
    let proxy = Proxy::start(Site::of(&[backend.entry()]).listener(listener)).await;
    let front = format!("unix:{}", proxy.path("front.sock").display());
    let mut wire = dial(&front).await;
    wire.send(format!("{LINE}GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
        .await;
    assert_eq!(wire.response().await.head.status, 200);
    let seen = backend.requests().pop().expect("a request");
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
    let mut wire = dial(&front).await;
    wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    wire.end().await;
    proxy
        .log
        .wait("request", &[("refusal", "bad_proxy_header")])
        .await;
}
