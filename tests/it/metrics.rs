//! What the metrics say while and after things happen.

use std::time::Duration;

use crate::kit::{
    Authority, Echo, Opcode, Over, Proxy, RawBackend, Setup, Site, Transport, Wire, close_payload,
    handshake, masked, nobody, over_each, plain, soon,
};

const TUNNELS: &str = "route=\"all\",upstream=\"app\",backend=\"a\"";

fn passed(what: &str, direction: &str) -> String {
    format!("longhaul_tunnel_{what}_total{{{TUNNELS},direction=\"{direction}\"}}")
}

over_each!(
    what_passes_is_counted_while_the_tunnel_lives,
    an_end_is_told_by_side_cause_and_close_code,
    a_tunnel_is_stalled_while_a_side_takes_nothing,
    handshakes_are_counted_by_outcome_and_timed,
    what_a_handshake_and_a_dial_took_is_what_they_took,
);

/// By how much what the page says of a live tunnel may lag, at most.
const LAG: Duration = Duration::from_secs(5);

async fn site(over: Over) -> (Proxy, RawBackend) {
    let backend = RawBackend::start().await;
    let site = Site::one(backend.address()).route("name = 'all'");
    (Proxy::start(site).await.over(over), backend)
}

async fn what_passes_is_counted_while_the_tunnel_lives(over: Over) {
    let (proxy, backend) = site(over).await;
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    proxy
        .settles(&format!("longhaul_tunnels_active{{{TUNNELS}}}"), 1.0)
        .await;
    let (up, down) = (
        masked(Opcode::Text, true, &[b'u'; 1000]),
        plain(Opcode::Text, true, b"down"),
    );
    for round in 1..4_usize {
        client.send(&up).await;
        server.frame().await;
        server.send(&down).await;
        client.frame().await;
        let count = round as f64;
        for (what, direction, value) in [
            ("bytes", "in", count * up.len() as f64),
            ("bytes", "out", count * down.len() as f64),
            ("messages", "in", count),
            ("messages", "out", count),
        ] {
            let name = passed(what, direction);
            proxy.settles_within(LAG, &name, value).await;
        }
    }
    let counted = proxy.samples().await;
    assert!(counted["longhaul_message_delay_seconds_count"] >= 1.0);
    // After its end nothing is lost and nothing counted twice.
    client.abort();
    server.abort();
    proxy
        .settles(&format!("longhaul_tunnels_active{{{TUNNELS}}}"), 0.0)
        .await;
    proxy.log.wait("tunnel closed", &[]).await;
    proxy
        .settles(&passed("bytes", "in"), 3.0 * up.len() as f64)
        .await;
    proxy.settles(&passed("messages", "out"), 3.0).await;
    let opened = format!("longhaul_tunnels_opened_total{{{TUNNELS}}}");
    assert_eq!(proxy.samples().await[&opened], 1.0);
}

async fn an_end_is_told_by_side_cause_and_close_code(over: Over) {
    let (proxy, backend) = site(over).await;
    let ended = |by: &str, cause: &str, code: &str| {
        format!(
            "longhaul_tunnels_closed_total{{ended_by=\"{by}\",cause=\"{cause}\",\
             close_code=\"{code}\",{TUNNELS}}}"
        )
    };
    for (code, word) in [
        (1000, "1000"),
        (1011, "1011"),
        (4321, "4xxx"),
        (2999, "other"),
    ] {
        let (mut client, mut server) = proxy.tunnel(&backend).await;
        client
            .send(masked(Opcode::Close, true, &close_payload(code)))
            .await;
        server.frame().await;
        server
            .send(plain(Opcode::Close, true, &close_payload(code)))
            .await;
        client.frame().await;
        drop((client, server));
        proxy.settles(&ended("client", "close", word), 1.0).await;
    }
    let (mut client, mut server) = proxy.tunnel(&backend).await;
    server.send(plain(Opcode::Close, true, &[])).await;
    client.frame().await;
    drop(server);
    drop(client);
    proxy.settles(&ended("backend", "close", "none"), 1.0).await;
    let (client, server) = proxy.tunnel(&backend).await;
    server.abort();
    proxy.settles(&ended("backend", "reset", ""), 1.0).await;
    drop(client);
}

async fn a_tunnel_is_stalled_while_a_side_takes_nothing(over: Over) {
    let (proxy, backend) = site(over).await;
    let stalled = format!("longhaul_tunnels_stalled{{{TUNNELS}}}");
    let quiet = Duration::from_millis(300);
    // Small frames, then one of 4 GB, whose payload nobody need look at.
    let header = [&[0x82, 127][..], &4_000_000_000_u64.to_be_bytes()].concat();
    for header in [&[][..], &header] {
        let (mut client, mut server) = proxy.tunnel(&backend).await;
        server.send(header).await;
        let sent = header.len() + server.send_until_stalled(quiet).await;
        assert_eq!(proxy.samples().await[&stalled], 0.0, "too early");
        proxy.settles(&stalled, 1.0).await;
        client.take(sent).await;
        proxy.settles(&stalled, 0.0).await;
    }
}

async fn handshakes_are_counted_by_outcome_and_timed(over: Over) {
    let backend = Echo::start("a").await;
    let site = Site::of(&[("a", backend.address())]).route("name = 'all'\npath = '/here/*'");
    let more = format!(
        "[[routes]]\nname = 'dead'\npath = '/dead'\nupstream = 'dead'\n\
         [upstreams.dead]\nbackends = [{{ name = 'd', address = '{}' }}]",
        nobody().await
    );
    let proxy = Proxy::start(site.more(&more)).await.over(over);
    proxy.ws("/here").await.close(1000).await;
    for (target, status) in [("/nowhere", 404), ("/dead", 502)] {
        let mut wire = proxy.connect().await;
        wire.send(handshake(target, "h", "")).await;
        assert_eq!(wire.response().await.head.status, status);
    }
    let counted = |route: &str, outcome: &str| {
        format!("longhaul_handshakes_total{{route=\"{route}\",outcome=\"{outcome}\"}}")
    };
    proxy.settles(&counted("all", "opened"), 1.0).await;
    proxy.settles(&counted("", "no_route"), 1.0).await;
    proxy.settles(&counted("dead", "dial_failed"), 1.0).await;
    let page = proxy.samples().await;
    for (name, count) in [
        (
            "longhaul_handshake_duration_seconds_count{outcome=\"opened\"}",
            1.0,
        ),
        (
            "longhaul_dial_duration_seconds_count{upstream=\"app\",result=\"ok\"}",
            1.0,
        ),
        (
            "longhaul_dial_duration_seconds_count{upstream=\"dead\",result=\"connect\"}",
            1.0,
        ),
    ] {
        assert_eq!(page.get(name), Some(&count), "{name}");
    }
    // A plain request is no handshake.
    assert_eq!(proxy.get("/here").await.head.status, 200);
    let page = proxy.samples().await;
    assert!(
        page.keys()
            .all(|name| !name.contains("outcome=\"answered\""))
    );
}

async fn what_a_handshake_and_a_dial_took_is_what_they_took(over: Over) {
    const HELD: Duration = Duration::from_millis(300);
    let authority = Authority::new();
    let pair = authority.pair(&["localhost"]);
    let acceptor = authority.acceptor(&pair, None);
    let backend = RawBackend::start().await;
    let setup = Setup::new();
    setup.write("ca.pem", authority.pem());
    let site = Site::one(backend.address())
        .upstream("scheme = 'https'\ntls = { ca = 'ca.pem', server_name = 'localhost' }");
    let proxy = setup.start(site).await.over(over);
    let mut client = proxy.connect().await;
    client.send(handshake("/", "h", "")).await;
    // From here on the dial lasts: it is connected to, and answers nothing of TLS yet.
    let (Transport::Tcp(stream), _) = backend.accept().await.into_parts() else {
        panic!("a socket of TCP");
    };
    client.silent_for(HELD).await;
    let stream = soon("TLS at the backend", acceptor.accept(stream)).await;
    let stream = stream.expect("TLS at the backend").into();
    let mut server = Wire::new(Transport::Tls(Box::new(stream)));
    let request = server.request().await;
    client.silent_for(HELD).await;
    server.send(request.switching("")).await;
    assert_eq!(client.response_head().await.status, 101);
    let dial = "longhaul_dial_duration_seconds_count{upstream=\"app\",result=\"ok\"}";
    let handshake = "longhaul_handshake_duration_seconds_count{outcome=\"opened\"}";
    for (name, held) in [(dial, HELD), (handshake, 2 * HELD)] {
        proxy.settles(name, 1.0).await;
        let sum = proxy.samples().await[&name.replace("_count", "_sum")];
        let most = held.as_secs_f64() + 5.0;
        assert!((held.as_secs_f64()..most).contains(&sum), "{name}: {sum}");
    }
    let page = proxy.samples().await;
    let (dial, whole) = (
        dial.replace("_count", "_sum"),
        handshake.replace("_count", "_sum"),
    );
    assert!(
        page[&dial] < page[&whole],
        "a dial is part of its handshake"
    );
}

#[tokio::test]
async fn a_name_may_have_quotes_and_the_page_stays_readable() {
    let backend = Echo::start("a").await;
    let limits = "name = 'a\"b\\c'\nrequest_rate_per_client = '1000/s'\n";
    let proxy = Proxy::start(Site::of(&[backend.entry()]).route(limits)).await;
    // What it is counted as for: it speaks for others, and is not trusted.
    let told = "X-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(proxy.get_with("/", told).await.head.status, 200);
    let counted = r#"longhaul_proxies_counted_total{route="a\"b\\c"}"#;
    assert_eq!(proxy.metric(counted).await, 1.0);
}
