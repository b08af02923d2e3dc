//! Every wait and every buffer has its bound, and what the peer sees at it.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::kit::{
    Authority, Echo, End, Over, Proxy, RawBackend, Setup, Site, Stuck, Wire, dial, dial_from,
    eventually, handshake, over_each, soon,
};

over_each!(all_attempts_together_have_one_deadline,);

async fn site(limits: &str) -> (Proxy, Echo) {
    let backend = Echo::start("a").await;
    let more = format!("[limits]\n{limits}\n");
    let proxy = Proxy::start(Site::one(backend.address()).more(&more)).await;
    (proxy, backend)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// Each of these clients has one line in the log, and no more, with this message
/// and refusal.
async fn one_line_each(proxy: &Proxy, clients: &[String], message: &str, refusal: &str) {
    for client in clients {
        let facts = [("client", &**client), ("refusal", refusal)];
        proxy.log.wait(message, &facts).await;
    }
    // The log keeps its order: what was to come has come before this line.
    let address = proxy.address("main").await;
    dial(&address).await.abort();
    proxy.signal(Signal::HUP);
    proxy.log.wait("config reloaded", &[]).await;
    for client in clients {
        let lines = proxy.log.all(|event| event.text("client") == client);
        assert_eq!(lines.len(), 1, "{client}: {lines:?}");
    }
}

async fn ask(wire: &mut Wire) -> u16 {
    wire.send(GET).await;
    wire.response().await.head.status
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let (proxy, _backend) = site("first_byte_timeout = '300ms'").await;
    let start = Instant::now();
    let mut wire = proxy.connect().await;
    wire.eof().await;
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(250) && took < Duration::from_secs(3),
        "{took:?}"
    );
    one_line_each(
        &proxy,
        &[wire.local_address()],
        "request",
        "first_byte_timeout",
    )
    .await;
}

/// What comes back for a head that is not finished in time.
async fn timed_out(wire: &mut Wire) {
    if let Some(head) = wire.next_response_head().await {
        assert_eq!(head.status, 408);
        wire.rest_and_end().await;
    }
}

#[tokio::test]
async fn half_a_head_is_closed_however_it_trickles() {
    let (proxy, backend) = site("request_head_timeout = '500ms'").await;
    let mut clients = Vec::new();
    for head in [
        "G",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n",
    ] {
        let mut wire = proxy.connect().await;
        wire.send(head).await;
        timed_out(&mut wire).await;
        clients.push(wire.local_address());
    }
    let mut wire = proxy.connect().await;
    clients.push(wire.local_address());
    wire.send("GET / HTTP/1.1\r\nHost: h\r\nX: ").await;
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while start.elapsed() < Duration::from_secs(5) && wire.try_send("x").await.is_ok() {
        ticks.tick().await;
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "a trickle resets nothing"
    );
    assert_eq!(backend.connections(), 0);
    one_line_each(&proxy, &clients, "request", "request_head_timeout").await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_more_is_closed() {
    let (proxy, _backend) = site("keepalive_timeout = '300ms'").await;
    let mut wire = proxy.connect().await;
    assert_eq!(ask(&mut wire).await, 200);
    wire.eof().await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let backend = RawBackend::start().await;
    let more = "[limits]\nrequest_body_timeout = '300ms'\n";
    let proxy = Proxy::start(Site::one(backend.address()).more(more)).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
        .await;
    let mut server = backend.accept().await;
    server.request().await;
    assert_eq!(server.take(5).await, b"12345");
    assert_eq!(client.response().await.head.status, 408);
    client.end().await;
    server.end().await;
}

#[tokio::test]
async fn a_head_has_a_size_and_a_number_of_lines() {
    let (proxy, backend) = site("max_request_head = '8KiB'\nmax_request_headers = 20").await;
    let lines = |n: usize| (0..n).fold(String::new(), |text, n| text + &format!("x-{n}: y\r\n"));
    let cases = [
        (lines(10), 200),
        (lines(30), 431),
        (format!("x: {}\r\n", "y".repeat(6_000)), 200),
        (format!("x: {}\r\n", "y".repeat(10_000)), 431),
        (format!("x: {}\r\n", "y".repeat(1_000_000)), 431),
    ];
    let mut refused = Vec::new();
    for (headers, status) in cases {
        let mut wire = proxy.connect().await;
        if status != 200 {
            refused.push(wire.local_address());
        }
        // A refusal may come before all of it is sent.
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        let _ = wire.try_send(head).await;
        let what = format!("{} bytes", headers.len());
        match wire.next_response_head().await {
            Some(head) => assert_eq!(head.status, status, "{what}"),
            // Closing with unread bytes resets, which may overtake the answer.
            None => assert!(
                headers.len() > 100_000 && status == 431,
                "{what}: no answer"
            ),
        }
    }
    let mut wire = proxy.connect().await;
    refused.push(wire.local_address());
    wire.send(format!(
        "GET /{} HTTP/1.1\r\nHost: h\r\n\r\n",
        "x".repeat(10_000)
    ))
    .await;
    let status = wire.response_head().await.status;
    assert!(status == 414 || status == 431, "{status}");
    assert_eq!(backend.requests().len(), 2);
    one_line_each(&proxy, &refused, "request", "bad_head").await;
}

/// Over HTTP/1.1 alone: on HTTP/2 a tunnel has
/// no connection of its own; `h2` counts its streams.
#[tokio::test]
async fn connections_of_one_address_are_bounded_tunnels_included() {
    let (proxy, _backend) = site("max_connections_per_address = 2").await;
    let address = proxy.address("main").await;
    let tunnel = proxy.ws("/").await;
    let mut plain = dial(&address).await;
    assert_eq!(ask(&mut plain).await, 200);
    for _ in 0..3 {
        // Refused without a byte.
        let mut third = dial(&address).await;
        let (bytes, _) = third.rest_and_end().await;
        assert!(bytes.is_empty());
    }
    let mut neighbour = dial_from("127.0.0.2", &address).await;
    assert_eq!(ask(&mut neighbour).await, 200);
    tunnel.close(1000).await;
    proxy.log.wait("tunnel closed", &[]).await;
    let mut again = dial(&address).await;
    assert_eq!(ask(&mut again).await, 200);
}

#[tokio::test]
async fn connections_in_all_are_bounded() {
    let (proxy, _backend) = site("max_connections = 3").await;
    let address = proxy.address("main").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut wire = dial(&address).await;
        assert_eq!(ask(&mut wire).await, 200);
        open.push(wire);
    }
    // The fourth waits in the queue or is closed; it is not served.
    let mut fourth = dial(&address).await;
    if fourth.try_send(GET).await.is_ok() {
        let early = fourth.next_response_head();
        if let Ok(Some(head)) = tokio::time::timeout(Duration::from_millis(200), early).await {
            assert_eq!(head.status, 503);
        }
    }
    drop((open, fourth));
    // That the three have gone is in no log; the next to be served shows it.
    let served = async {
        loop {
            let mut again = dial(&address).await;
            if again.try_send(GET).await.is_ok() && again.next_response_head().await.is_some() {
                return;
            }
        }
    };
    soon("a place for another", served).await;
}

async fn tls_site(limits: &str) -> (Proxy, Echo, Authority) {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = Site::one(backend.address())
        .tls()
        .more(&format!("[limits]\n{limits}\n"));
    (setup.start(site).await, backend, authority)
}

/// A record header that promises a ClientHello of 512 bytes, and its beginning.
const HALF_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7, 7];

#[tokio::test]
async fn half_a_client_hello_is_closed_in_time() {
    let (proxy, _backend, authority) = tls_site("tls_handshake_timeout = '400ms'").await;
    let mut clients = Vec::new();
    for start in [&b""[..], HALF_HELLO] {
        let mut wire = proxy.connect().await;
        wire.send(start).await;
        wire.rest_and_end().await;
        clients.push(wire.local_address());
    }
    one_line_each(&proxy, &clients, "tls handshake failed", "timeout").await;
    let mut wire = proxy.tls(&authority.client(), "localhost").await;
    assert_eq!(ask(&mut wire).await, 200);
}

#[tokio::test]
async fn silence_after_the_tls_handshake_is_closed_in_time() {
    let (proxy, _backend, authority) = tls_site("first_byte_timeout = '300ms'").await;
    let mut wire = proxy.tls(&authority.client(), "localhost").await;
    wire.end().await;
    one_line_each(
        &proxy,
        &[wire.local_address()],
        "request",
        "first_byte_timeout",
    )
    .await;
}

#[tokio::test]
async fn handshakes_in_flight_are_bounded_and_the_next_waits_its_turn() {
    let limits = "max_tls_handshakes = 1\ntls_handshake_timeout = '2s'";
    let (proxy, _backend, authority) = tls_site(limits).await;
    // Half a hello calculates nothing and takes no turn.
    let mut half = proxy.connect().await;
    half.send(HALF_HELLO).await;
    let mut wire = proxy.tls(&authority.client(), "localhost").await;
    assert_eq!(ask(&mut wire).await, 200);
    let client = authority.client();
    // A whole one does, and this client never goes on.
    let mut stuck = proxy.connect().await;
    stuck.send(client.hello("localhost")).await;
    // When exactly that one is in flight cannot be seen, but once it is, the next
    // of these waits for it: until it has had its turn, not until its deadline.
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    while start.elapsed() < Duration::from_millis(1_500) {
        let began = Instant::now();
        let mut wire = proxy.tls(&client, "localhost").await;
        assert_eq!(ask(&mut wire).await, 200);
        longest = longest.max(began.elapsed());
    }
    assert!(
        longest > Duration::from_millis(500),
        "beside the one in flight: {longest:?} at most"
    );
    stuck.rest_and_end().await;
    let mut wire = proxy.tls(&client, "localhost").await;
    assert_eq!(ask(&mut wire).await, 200);
}

async fn all_attempts_together_have_one_deadline(over: Over) {
    let stuck = [Stuck::start(), Stuck::start(), Stuck::start()];
    let addresses = stuck.each_ref().map(Stuck::address);
    let backends = ["a", "b", "c"].into_iter().zip(&addresses);
    let backends: Vec<_> = backends.map(|(name, address)| (name, &**address)).collect();
    let site = Site::of(&backends)
        .route("handshake_timeout = '500ms'\nresponse_timeout = '700ms'")
        .upstream("dial_timeout = '3s'\nmax_attempts = 10");
    let proxy = Proxy::start(site).await.over(over);
    for (request, least) in [(handshake("/", "h", ""), 450), (GET.to_owned(), 650)] {
        let mut wire = proxy.connect().await;
        let start = Instant::now();
        wire.send(request).await;
        assert_eq!(wire.response().await.head.status, 504);
        let took = start.elapsed();
        assert!(
            took > Duration::from_millis(least) && took < Duration::from_secs(2),
            "{took:?}"
        );
    }
}

/// Over HTTP/1.1 alone: a stream takes no descriptor.
#[tokio::test]
async fn out_of_descriptors_it_backs_off_and_recovers_by_itself() {
    let backend = Echo::start("a").await;
    let setup = Setup::new().after("ulimit -n 100");
    let site = Site::one(backend.address())
        .more("[limits]\nmax_connections = 10000\nfirst_byte_timeout = '30s'\n");
    let proxy = setup.start(site).await;
    let address = proxy.address("main").await;
    let mut tunnel = proxy.ws("/").await;
    tunnel.greeting().await;

    let log = proxy.log.tail();
    let mut crowd = Vec::new();
    for _ in 0..150 {
        crowd.push(dial(&address).await);
    }
    log.wait_for(|event| event.level == "WARN").await;
    tunnel.echo("tunnels do not notice").await;
    // Backed off, not spinning: little CPU while nothing can be done.
    let busy = cpu(&proxy);
    tunnel_silence(&mut crowd[0]).await;
    let used = cpu(&proxy) - busy;
    assert!(
        used < Duration::from_millis(200),
        "{used:?} of CPU in half a second"
    );

    drop(crowd);
    // Who is let in needs a second descriptor, for a backend; some of the crowd may
    // only be coming in now.
    eventually("the crowd is gone", || proxy.descriptors() < 50).await;
    let mut again = dial(&address).await;
    assert_eq!(ask(&mut again).await, 200);
    tunnel.echo("still here").await;
    let warnings = log.all(|event| event.level == "WARN");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let failed = proxy.samples().await["longhaul_accept_errors_total"];
    assert!((1.0..100.0).contains(&failed), "each is counted: {failed}");
}

async fn tunnel_silence(wire: &mut Wire) {
    wire.silent_for(Duration::from_millis(500)).await;
}

/// CPU time of the process so far.
fn cpu(proxy: &Proxy) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("tasks");
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Over HTTP/1.1 alone: half a head is text; in `tunnel` resets over both
/// leave none.
#[tokio::test]
async fn connections_that_end_leave_no_descriptor_behind() {
    let (proxy, _backend) = site("").await;
    assert_eq!(ask(&mut proxy.connect().await).await, 200);
    let before = proxy.descriptors();
    for n in 0..50 {
        match n % 5 {
            0 => drop(proxy.connect().await),
            1 => {
                let mut wire = proxy.connect().await;
                wire.send("GET / HT").await;
                wire.abort();
            }
            2 => {
                let mut wire = proxy.connect().await;
                wire.send("\0\0\0\r\n\r\n").await;
                let (_, end) = wire.rest_and_end().await;
                assert!(end == End::Eof || end == End::Reset);
            }
            3 => proxy.ws("/").await.close(1000).await,
            _ => {
                let mut wire = proxy.connect().await;
                wire.send(handshake("/", "h", "").replace("13", "7")).await;
                assert_eq!(wire.response().await.head.status, 426);
            }
        }
    }
    // One idle connection to the backend may have been kept.
    eventually("the descriptors to go", || {
        proxy.descriptors() <= before + 1
    })
    .await;
}
