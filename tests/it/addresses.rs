//! Listeners that move: to addresses that overlap their own, and back.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kit::{Echo, Over, Proxy, Site, Ws, dial, over_each};

over_each!(two_listeners_exchange_their_addresses,);

fn at(backend: &Echo, address: &str) -> Site {
    Site::one(backend.address()).listener(&format!("address = '{address}'"))
}

/// Asks again and again until told to stop; says how often it was answered.
async fn hammer(address: String, stop: Arc<AtomicBool>) -> usize {
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut wire = dial(&address).await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(wire.response().await.text(), "a");
        answers += 1;
    }
    answers
}

/// Over HTTP/1.1 alone: it is about accepting, which knows nothing of HTTP.
#[tokio::test]
async fn a_listener_moves_to_an_address_that_overlaps_its_own_and_refuses_nobody() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    let main = proxy.address("main").await;
    let port = main.rsplit_once(':').expect("host:port").1;
    let mut tunnel = proxy.ws("/").await;
    tunnel.greeting().await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients = tokio::spawn(hammer(main.clone(), Arc::clone(&stop)));
    let wide = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    for address in [&wide[0], &wide[1], &main, &wide[1], &wide[0], &main] {
        proxy.reload(at(&backend, address)).await;
        let status = proxy.status().await;
        assert_eq!(status["listeners"][0]["address"], **address);
        let mut ws = Ws::open(dial(&main).await, "/", "localhost", "").await;
        assert_eq!(ws.greeting().await, "a");
        tunnel.echo(address).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(clients.await.expect("every client answered") > 0);
}

#[tokio::test]
async fn a_move_is_all_or_nothing_and_the_address_stays_its_own() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    let main = proxy.address("main").await;
    let port = main.rsplit_once(':').expect("host:port").1;
    let wide = format!("0.0.0.0:{port}");
    let fails = "[listeners.two]\naddress = '192.0.2.1:1'\n";
    proxy.refuse(at(&backend, &wide).more(fails)).await;
    assert_eq!(proxy.address("main").await, main);
    assert_eq!(proxy.get("/").await.text(), "a");
    exclusive(&main);
    proxy.reload(at(&backend, &wide)).await;
    exclusive(&main);

    // Beside one that stays or comes it would only get in the way.
    let two = |address: &str| format!("[listeners.two]\naddress = '{address}'\n");
    for (one, other) in [(&wide, &main), (&main, &format!("[::]:{port}"))] {
        let event = proxy.refuse(at(&backend, one).more(&two(other))).await;
        assert!(event.line.contains("in use"), "{}", event.line);
        assert_eq!(proxy.get("/").await.text(), "a");
    }
}

/// Nobody else can listen there.
fn exclusive(address: &str) {
    let address: SocketAddr = address.parse().expect("an address");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    let error = socket.bind(&address.into()).expect_err("an address in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

async fn two_listeners_exchange_their_addresses(over: Over) {
    let backend = Echo::start("a").await;
    let ports: Vec<TcpListener> = (0..2)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let address = |one: &TcpListener| one.local_addr().expect("an address").to_string();
    let [one, two] = [address(&ports[0]), address(&ports[1])];
    drop(ports);
    let both = |main: &str, other: &str| {
        at(&backend, main).more(&format!("[listeners.two]\naddress = '{other}'\n"))
    };
    let proxy = Proxy::start(both(&one, &two)).await.over(over);
    proxy.reload(both(&two, &one)).await;
    assert_eq!(proxy.address("main").await, two);
    for listener in ["main", "two"] {
        let mut ws = Ws::open(proxy.connect_to(listener).await, "/", "h", "").await;
        assert_eq!(ws.greeting().await, "a");
    }
}
