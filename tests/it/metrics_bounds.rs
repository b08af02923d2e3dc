//! Whatever clients do, the metrics have no more series.

use crate::kit::{
    Authority, Echo, Opcode, Over, Proxy, Setup, Site, close_payload, eventually, handshake,
    masked, over_each, soon,
};

over_each!(hostile_clients_make_no_series,);

/// Clients that put something new wherever they may: it must not become a label.
async fn hostile_clients_make_no_series(over: Over) {
    let (authority, backend) = (Authority::new(), Echo::start("a").await);
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let more = "[listeners.tls]\naddress = '127.0.0.1:0'\n\
                certificates = [{ chain = 'site.pem', key = 'site.key' }]";
    let proxy = setup
        .start(Site::one(backend.address()).top("workers = 1").more(more))
        .await;
    let proxy = proxy.over(over);
    // What comes with time and not with clients.
    for worker in ["control", "worker", "relay", "tunnels-0"] {
        let lag = format!("longhaul_worker_lag_seconds_count{{worker=\"{worker}\"}}");
        let told = async { while !proxy.samples().await.contains_key(&lag) {} };
        soon(lag.clone(), told).await;
    }
    let mut before = None;
    for round in 0..6_u16 {
        hostilities(&proxy, &authority, round).await;
        let series: Vec<String> = proxy.samples().await.into_keys().collect();
        let before = before.get_or_insert_with(|| series.clone());
        let new: Vec<&String> = series.iter().filter(|one| !before.contains(one)).collect();
        assert!(new.is_empty(), "in round {round}: {new:?}");
    }
}

/// The same kinds of mischief each time, with words that were never seen before.
async fn hostilities(proxy: &Proxy, authority: &Authority, round: u16) {
    let word = format!("w{round}x{}", 7919 * u32::from(round + 1));
    for request in [
        format!("GET /{word} HTTP/1.1\r\nHost: {word}.test\r\n\r\n"),
        format!(
            "{} /{word}?{word} HTTP/1.1\r\nHost: {word}\r\n\r\n",
            word.to_uppercase()
        ),
        format!("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: {word}\r\nConnection: upgrade\r\n\r\n"),
        handshake("/", &word, &format!("Sec-WebSocket-Protocol: {word}\r\n")).replace("13", "8"),
        format!("GET /{word} HTTP/7.{round}\r\nHost: a\r\n\r\n"),
        format!("{word}\r\n\r\n"),
    ] {
        let mut wire = proxy.connect_plainly().await;
        wire.send(request).await;
        wire.finish().await;
        wire.rest_and_end().await;
    }
    let headers = format!("X-Forwarded-For: 10.0.0.{round}\r\nUser-Agent: {word}\r\n");
    for code in [3000 + round, 4000 + round, 2000 + round, 65_000 + round] {
        let mut wire = proxy.connect().await;
        wire.send(handshake(&format!("/{word}"), &word, &headers))
            .await;
        assert_eq!(wire.response_head().await.status, 101);
        wire.frame().await;
        wire.send(masked(Opcode::Close, true, &close_payload(code)))
            .await;
        wire.frame().await;
        drop(wire);
    }
    let address = proxy.address("tls").await;
    let client = authority.client();
    // Not for a name of the certificate: the client breaks off.
    assert!(
        client
            .connect(&address, &format!("{word}.test"))
            .await
            .is_err()
    );
    let mut wire = client
        .connect(&address, "localhost")
        .await
        .expect("a handshake");
    wire.send(format!("GET / HTTP/1.1\r\nHost: {word}\r\n\r\n"))
        .await;
    assert_eq!(wire.response().await.head.status, 200);
    drop(wire);
    // Its line is written when all else about it has been counted.
    let closed = || {
        proxy
            .log
            .all(|event| event.message == "tunnel closed")
            .len()
    };
    let most = 4 * (usize::from(round) + 1);
    eventually("the tunnels to close", || closed() == most).await;
    let failed = || {
        proxy
            .log
            .all(|event| event.message == "tls handshake failed")
            .len()
    };
    let most = usize::from(round) + 1;
    eventually("the handshake to fail", || failed() == most).await;
}
