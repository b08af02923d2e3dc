//! What certificates do for those who come: sessions that outlive reloads, the subject that
//! backends are told, and the exchange of keys.

use rustls::{HandshakeKind, NamedGroup};

use crate::kit::h2::{Code, H2};
use crate::kit::{Authority, Echo, Over, Pair, Setup, Site, TlsVersion, Wire, Ws, over_each};

over_each!(
    backends_are_told_the_subject_and_by_longhaul_alone,
    an_open_connection_is_vouched_for_as_the_config_in_force_has_it,
);

const PAIR: &str = "certificates = [{ chain = 'site.pem', key = 'site.key' }]";

fn save(setup: &Setup, name: &str, pair: &Pair) {
    setup.write(&format!("{name}.pem"), &pair.chain);
    setup.write(&format!("{name}.key"), &pair.key);
}

async fn get(wire: &mut Wire, lines: &str) {
    wire.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"))
        .await;
    assert_eq!(wire.response().await.head.status, 200);
}

/// Who reconnects after an edit comes with all the others.
#[tokio::test]
async fn sessions_are_resumed_after_a_reload_and_a_new_certificate_but_under_no_other_ca() {
    let backend = Echo::start("a").await;
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let setup = Setup::new();
        save(&setup, "site", &servers.pair(&["localhost"]));
        setup.write("clients.pem", clients.pem());
        let site = |ca: &str| {
            let asked = format!("client_certificates = {{ ca = '{ca}.pem' }}");
            Site::one(backend.address()).listener(PAIR).listener(&asked)
        };
        let proxy = setup.start(site("clients")).await;
        let client = servers.client_with(version, Some(&clients.client_pair("ann")));
        let come = async || {
            let mut wire = proxy.tls(&client, "localhost").await;
            get(&mut wire, "").await;
            let kind = wire.tls().get_ref().1.handshake_kind();
            kind == Some(HandshakeKind::Resumed)
        };
        assert!(!come().await, "a first session");
        let renewed = servers.pair(&["localhost"]);
        proxy.write("site.key", &renewed.key);
        proxy.write("site.pem", &renewed.chain);
        proxy
            .reload(site("clients").route("idle_timeout = '1h'"))
            .await;
        assert!(come().await, "the session of before ({version:?})");

        // Its ticket names who is no longer let in.
        proxy.write("others.pem", others.pem());
        proxy.reload(site("others")).await;
        let came = proxy.try_tls(&client, "localhost").await;
        if let Ok(mut wire) = came {
            // TLS 1.3 tells the refusal behind the handshake.
            let _ = wire
                .try_send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            assert!(wire.next_response_head().await.is_none());
        }
        let refusal = [("refusal", "bad_client_certificate")];
        proxy.log.wait("tls handshake failed", &refusal).await;
    }
}

#[tokio::test]
async fn keys_are_exchanged_such_that_a_quantum_computer_does_not_find_them() {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::new();
    save(&setup, "site", &authority.pair(&["localhost"]));
    let proxy = setup
        .start(Site::one(backend.address()).listener(PAIR))
        .await;
    let mut wire = proxy.tls(&authority.client(), "localhost").await;
    get(&mut wire, "").await;
    let group = wire.tls().get_ref().1.negotiated_key_exchange_group();
    assert_eq!(
        group.map(|group| group.name()),
        Some(NamedGroup::X25519MLKEM768)
    );
}

async fn backends_are_told_the_subject_and_by_longhaul_alone(over: Over) {
    let backend = Echo::start("a").await;
    let (servers, clients) = (Authority::new(), Authority::new());
    let setup = Setup::new();
    save(&setup, "site", &servers.pair(&["localhost"]));
    setup.write("clients.pem", clients.pem());
    let site = Site::one(backend.address())
        .listener(PAIR)
        .listener(
            "client_certificates = { ca = 'clients.pem', required = false, \
             subject_header = 'X-Subject' }",
        )
        .more("[listeners.plain]\naddress = '127.0.0.1:0'");
    let proxy = setup.start(site).await.over(over);
    let mut forged = "X-Subject: CN=root\r\nx_subject: CN=root\r\n".to_owned();
    if over == Over::Http1 {
        forged.push_str("Connection: X-Subject\r\n");
    }
    let ann = clients.client_pair("ann");
    for (pair, subject) in [(Some(&ann), Some("CN=ann")), (None, None)] {
        let client = servers.client_with(TlsVersion::Any, pair);
        for lines in ["", &forged] {
            get(&mut proxy.tls(&client, "localhost").await, lines).await;
            let wire = proxy.tls(&client, "localhost").await;
            // Its own `Connection` is the handshake's.
            let lines = lines.replace("Connection: X-Subject\r\n", "");
            let mut ws = Ws::open(wire, "/", "localhost", &lines).await;
            assert_eq!(ws.greeting().await, "a");
            ws.close(1000).await;
        }
        let seen = backend.requests().split_off(backend.requests().len() - 4);
        for request in seen {
            assert_eq!(request.header("x-subject"), subject);
            assert_eq!(request.header("x_subject"), None);
        }
    }
    // Nobody asks for certificates there, and nobody may say that he has shown one.
    get(&mut proxy.connect_to("plain").await, &forged).await;
    let seen = backend.requests().pop().expect("a request");
    assert_eq!(seen.header("x-subject"), None);
    assert_eq!(seen.header("x_subject"), None);
    proxy
        .log
        .wait("tunnel closed", &[("client_subject", "CN=ann")])
        .await;
}

async fn an_open_connection_is_vouched_for_as_the_config_in_force_has_it(over: Over) {
    let backend = Echo::start("a").await;
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let setup = Setup::new();
    save(&setup, "site", &servers.pair(&["localhost"]));
    setup.write("clients.pem", clients.pem());
    setup.write("others.pem", others.pem());
    setup.write("both.pem", others.pem() + &clients.pem());
    let site = |ca: &str, required: bool| {
        let asked = format!(
            "client_certificates = {{ ca = '{ca}.pem', required = {required}, \
             subject_header = 'X-Subject' }}"
        );
        Site::one(backend.address()).listener(PAIR).listener(&asked)
    };
    let proxy = setup.start(site("clients", true)).await.over(over);
    let ann = clients.client_pair("ann");
    let client = servers.client_with(TlsVersion::Any, Some(&ann));
    let mut wire = proxy.tls(&client, "localhost").await;
    let mut tunnel = Ws::open(proxy.tls(&client, "localhost").await, "/", "localhost", "").await;
    tunnel.greeting().await;
    let told = async |wire: &mut Wire| {
        get(wire, "").await;
        let seen = backend.requests().pop().expect("a request");
        seen.header("x-subject").map(ToOwned::to_owned)
    };
    let named = Some("CN=ann".to_owned());
    assert_eq!(told(&mut wire).await, named);
    // Who trusts one more would have let it in as well.
    proxy.reload(site("both", true)).await;
    assert_eq!(told(&mut wire).await, named);
    proxy.reload(site("others", false)).await;
    assert_eq!(told(&mut wire).await, None);
    proxy.reload(site("clients", false)).await;
    assert_eq!(told(&mut wire).await, named);

    proxy.reload(site("others", true)).await;
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let refused = wire.response().await;
    assert_eq!(refused.head.status, 421);
    let line = [("refusal", "no_client_certificate")];
    let line = proxy.log.wait("request", &line).await;
    assert_eq!(line.number("status"), 421);
    // It is told to come again, by a handshake that judges it anew.
    if over == Over::Http1 {
        assert_eq!(refused.head.header("connection"), Some("close"));
        assert!(wire.next_response_head().await.is_none());
    }
    tunnel.echo("still there").await;
    let other = others.client_pair("bob");
    let other = servers.client_with(TlsVersion::Any, Some(&other));
    let mut wire = proxy.tls(&other, "localhost").await;
    assert_eq!(told(&mut wire).await, Some("CN=bob".to_owned()));
}

#[tokio::test]
async fn an_http2_client_whose_certificate_counts_no_more_is_sent_to_another_connection() {
    let backend = Echo::start("a").await;
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let setup = Setup::new();
    save(&setup, "site", &servers.pair(&["localhost"]));
    setup.write("clients.pem", clients.pem());
    let asked = "client_certificates = { ca = 'clients.pem' }";
    let site = Site::one(backend.address()).listener(PAIR).listener(asked);
    let proxy = setup.start(&site).await;
    let ann = clients.client_pair("ann");
    let client = servers.client_with(TlsVersion::Any, Some(&ann));
    let address = proxy.address("main").await;
    let client = client.alpn(&["h2"]);
    let wire = client.connect(&address, "localhost").await;
    let (transport, _) = wire.expect("a handshake").into_parts();
    let client = H2::over(transport).await;
    let ask = || {
        let target = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/"),
        ];
        client.request(&target, true)
    };
    assert_eq!(ask().status().await, 200);
    // The file alone, under the same name.
    let log = proxy.log.tail();
    proxy.write("clients.pem", others.pem());
    log.wait("config reloaded", &[]).await;
    assert_eq!(ask().status().await, 421);
    assert_eq!(client.goaway().await.1, Code::NO_ERROR);
}
