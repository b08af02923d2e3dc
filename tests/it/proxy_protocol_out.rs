//! The PROXY protocol out: what a backend is told before all else, once for each connection.

use crate::kit::h2::Gateway;
use crate::kit::{
    Authority, Opcode, Over, Proxy, RawBackend, Setup, Site, TlsVersion, Transport, Wire, dial,
    handshake, over_each, plain, soon,
};
use crate::proxy_protocol::binary;

over_each!(
    a_backend_is_told_who_the_client_is,
    no_connection_is_kept_for_another_client,
    what_one_header_says_the_next_says_too,
);

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn site(backend: &RawBackend, version: &str) -> Site {
    Site::one(backend.address()).upstream(&format!("proxy_protocol = '{version}'"))
}

/// The next connection of a backend, which must begin with these bytes.
async fn begins_with(backend: &RawBackend, header: &[u8]) -> Wire {
    let mut wire = backend.accept().await;
    let begins = wire.take(header.len()).await;
    assert_eq!(begins, header, "{:?}", String::from_utf8_lossy(&begins));
    wire
}

/// The addresses of version 2: `"127.0.0.1:1"` as IPv4.
fn v4(source: &str, destination: &str) -> Vec<u8> {
    let (mut ips, mut ports) = (Vec::new(), Vec::new());
    for address in [source, destination] {
        let address: std::net::SocketAddrV4 = address.parse().expect("an address");
        ips.extend(address.ip().octets());
        ports.extend(address.port().to_be_bytes());
    }
    [ips, ports].concat()
}

async fn a_backend_is_told_who_the_client_is(over: Over) {
    for version in ["v1", "v2"] {
        let backend = RawBackend::start().await;
        let proxy = Proxy::start(site(&backend, version)).await.over(over);
        let mut client = proxy.connect().await;
        let (source, destination) = (client.local_address(), proxy.address("main").await);
        client.send(handshake("/", "h", "")).await;
        let header = match version {
            "v1" => {
                let [from, to] =
                    [&source, &destination].map(|it| it.split_once(':').expect("a port"));
                format!("PROXY TCP4 {} {} {} {}\r\n", from.0, to.0, from.1, to.1).into_bytes()
            }
            _ => binary(0x21, 0x11, &[&v4(&source, &destination)]),
        };
        let mut server = begins_with(&backend, &header).await;
        let request = server.request().await;
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
        server.switch("").await;
        assert_eq!(client.response_head().await.status, 101);
        server.send(plain(Opcode::Text, true, b"hello")).await;
        assert!(client.readable().await);
    }
}

async fn no_connection_is_kept_for_another_client(over: Over) {
    let backend = RawBackend::start().await;
    let proxy = Proxy::start(site(&backend, "v1")).await.over(over);
    let mut client = proxy.connect().await;
    let (source, destination) = (client.local_address(), proxy.address("main").await);
    let [from, to] = [&source, &destination].map(|it| it.split_once(':').expect("a port"));
    let line = format!("PROXY TCP4 {} {} {} {}\r\n", from.0, to.0, from.1, to.1);
    // Nor for the next request of the same: the backend would keep more of them than are used.
    for _ in 0..2 {
        client.send(GET).await;
        let mut server = begins_with(&backend, line.as_bytes()).await;
        server.request().await;
        server.send(OK).await;
        assert_eq!(client.response().await.head.status, 200);
        server.end().await;
    }
}

async fn what_one_header_says_the_next_says_too(over: Over) {
    let backend = RawBackend::start().await;
    let rule = "proxy_protocol = { from = ['127.0.0.1'] }";
    let proxy = Proxy::start(site(&backend, "v2").listener(rule)).await;
    let over_tls = [&[0x20, 0, 15, 3, 0, 0, 0, 0, 0x21, 0, 7], &b"TLSv1.2"[..]].concat();
    let addresses = v4("203.0.113.7:4711", "198.51.100.2:8443");
    let name = [&[2, 0, 6], &b"a.test"[..]].concat();
    let alpn = [&[1, 0, 2], &b"h2"[..]].concat();
    let mut client = proxy.connect_plainly().await;
    let header = binary(0x21, 0x11, &[&addresses, &over_tls, &alpn, &name]);
    client.send(header).await;
    let mut client = match over {
        Over::Http1 => client,
        Over::Http2 => Gateway::over(client).await,
    };
    client.send(GET).await;
    // What is spoken behind it is HTTP/1.1.
    let alpn = [&[1, 0, 8], &b"http/1.1"[..]].concat();
    let header = binary(0x21, 0x11, &[&addresses, &alpn, &name, &over_tls]);
    let mut server = begins_with(&backend, &header).await;
    assert_eq!(
        server.request().await.header("x-forwarded-proto"),
        Some("https")
    );
    server.send(OK).await;
    assert_eq!(client.response().await.head.status, 200);
}

#[tokio::test]
async fn what_is_known_of_the_clients_tls_is_said() {
    let backend = RawBackend::start().await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    setup.write("ca.pem", authority.pem());
    let asked = "client_certificates = { ca = 'ca.pem', required = false }";
    let site = site(&backend, "v2").tls().listener(asked);
    let proxy = setup.start(site).await;
    let own = authority.client_pair("device");
    let with = authority.client_with(TlsVersion::Any, Some(&own));
    for (client, flags) in [
        (authority.client(), [1, 0, 0, 0, 1]),
        (with, [3, 0, 0, 0, 0]),
    ] {
        let mut client = proxy.tls(&client, "localhost").await;
        client.send(GET).await;
        let addresses = v4(&client.local_address(), &proxy.address("main").await);
        let alpn = [&[1, 0, 8], &b"http/1.1"[..]].concat();
        let name = [&[2, 0, 9], &b"localhost"[..]].concat();
        let tls = [&[0x20, 0, 15], &flags[..], &[0x21, 0, 7], b"TLSv1.3"].concat();
        let header = binary(0x21, 0x11, &[&addresses, &alpn, &name, &tls]);
        begins_with(&backend, &header).await.request().await;
    }
}

#[tokio::test]
async fn a_trusted_proxys_client_has_no_port() {
    let backend = RawBackend::start().await;
    let site = site(&backend, "v1").top("trusted_proxies = ['127.0.0.1']");
    let proxy = Proxy::start(site).await;
    let mut client = proxy.connect().await;
    let request = GET.replace("\r\n\r\n", "\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n");
    client.send(request).await;
    let address = proxy.address("main").await;
    let (_, port) = address.split_once(':').expect("a port");
    let line = format!("PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 0 {port}\r\n");
    begins_with(&backend, line.as_bytes()).await.request().await;
}

#[tokio::test]
async fn a_client_on_a_unix_socket_is_unknown() {
    for (version, header) in [
        ("v1", b"PROXY UNKNOWN\r\n".to_vec()),
        ("v2", binary(0x21, 0x00, &[])),
    ] {
        let backend = RawBackend::start().await;
        let proxy =
            Proxy::start(site(&backend, version).listener("address = 'unix:front.sock'")).await;
        let front = format!("unix:{}", proxy.path("front.sock").display());
        let mut client = dial(&front).await;
        client.send(GET).await;
        begins_with(&backend, &header).await.request().await;
    }
}

#[tokio::test]
async fn the_header_goes_before_tls() {
    let backend = RawBackend::start().await;
    let authority = Authority::new();
    let acceptor = authority.acceptor(&authority.pair(&["127.0.0.1"]), None);
    let setup = Setup::new();
    setup.write("ca.pem", authority.pem());
    let tls = "scheme = 'https'\ntls = { ca = 'ca.pem' }";
    let proxy = setup.start(site(&backend, "v1").upstream(tls)).await;
    let mut client = proxy.connect().await;
    let source = client.local_address();
    client.send(GET).await;
    let destination = proxy.address("main").await;
    let [from, to] = [&source, &destination].map(|it| it.split_once(':').expect("a port"));
    let line = format!("PROXY TCP4 {} {} {} {}\r\n", from.0, to.0, from.1, to.1);
    // Byte for byte: what is read ahead of TLS is lost to it.
    let mut server = backend.accept().await;
    assert_eq!(server.take_exactly(line.len()).await, line.as_bytes());
    let (Transport::Tcp(stream), _) = server.into_parts() else {
        panic!("no TCP");
    };
    let tls = soon("a TLS handshake", acceptor.accept(stream)).await;
    let tls = tls.expect("a TLS handshake");
    let mut server = Wire::new(Transport::Tls(Box::new(tls.into())));
    server.request().await;
    server.send(OK).await;
    assert_eq!(client.response().await.head.status, 200);
}

#[tokio::test]
async fn probes_speak_for_longhaul() {
    for (version, header) in [
        ("v1", b"PROXY UNKNOWN\r\n".to_vec()),
        ("v2", binary(0x20, 0x00, &[])),
    ] {
        for kind in ["tcp", "http", "websocket"] {
            let backend = RawBackend::start().await;
            let health = format!("health = {{ type = '{kind}', interval = '100ms' }}");
            let _proxy = Proxy::start(site(&backend, version).upstream(&health)).await;
            let mut server = begins_with(&backend, &header).await;
            if kind != "tcp" {
                server.request().await;
            }
        }
    }
}
