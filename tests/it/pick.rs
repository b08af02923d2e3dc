//! Which backend: sticky sources, longhaul's own cookie, the other balances, failover.

use std::collections::{BTreeMap, BTreeSet};

use crate::kit::{
    Authority, Echo, Head, Over, Proxy, RawBackend, Setup, Site, Stuck, Ws, eventually, nobodies,
    nobody, over_each,
};

over_each!(
    random_uses_every_backend,
    the_cookies_attributes_are_configured,
    the_cookies_without_a_holder_spread,
    each_sticky_source_sticks_and_spreads,
    the_first_source_that_is_there_is_the_key,
    the_client_address_is_the_trusted_one,
    longhauls_own_cookie_on_200_and_on_101,
    the_cookie_is_secure_on_tls,
    the_cookie_is_issued_again_when_its_backend_refuses,
    round_robin_takes_turns,
    least_connections_counts_live_tunnels_and_survives_reloads,
    a_backend_that_refuses_is_skipped_for_the_next_candidate,
    a_backend_that_does_not_answer_the_dial_is_skipped_in_time,
);

const NAMES: [&str; 3] = ["a", "b", "c"];

struct Cluster {
    proxy: Proxy,
    backends: Vec<Echo>,
}

async fn backends() -> Vec<Echo> {
    let mut backends = Vec::new();
    for name in NAMES {
        backends.push(Echo::start(name).await);
    }
    backends
}

fn site(backends: &[Echo], upstream: &str) -> Site {
    let entries: Vec<_> = backends.iter().map(Echo::entry).collect();
    Site::of(&entries).upstream(upstream)
}

async fn cluster(over: Over, upstream: &str) -> Cluster {
    let backends = backends().await;
    Cluster {
        proxy: Proxy::start(site(&backends, upstream)).await.over(over),
        backends,
    }
}

impl Cluster {
    /// The backend that answers a GET, and its head.
    async fn get(&self, target: &str, headers: &str) -> (String, Head) {
        let response = self.proxy.get_with(target, headers).await;
        assert_eq!(response.head.status, 200);
        (response.text().to_owned(), response.head)
    }

    /// The backend that a WebSocket gets.
    async fn ws(&self, target: &str, headers: &str) -> String {
        let mut ws = self.proxy.ws_with(target, headers).await;
        let name = ws.greeting().await;
        ws.close(1000).await;
        name
    }
}

async fn each_sticky_source_sticks_and_spreads(over: Over) {
    // The source, and a request that carries the key N with it.
    let sources: [(&str, &str, &str); 4] = [
        ("cookie:sid", "/", "Cookie: x=1; sid=N; y=2\r\n"),
        ("query:room", "/?a=1&room=N&b=2", ""),
        ("header:x-user", "/", "X-User: N\r\n"),
        ("path:2", "/doc/N/live", ""),
    ];
    for (source, target, headers) in sources {
        let cluster = cluster(over, &format!("sticky = '{source}'")).await;
        let mut used = BTreeSet::new();
        for key in 0..12 {
            let key = format!("key{key}");
            let (target, headers) = (target.replace('N', &key), headers.replace('N', &key));
            let (first, _) = cluster.get(&target, &headers).await;
            assert_eq!(
                cluster.get(&target, &headers).await.0,
                first,
                "{source} {key}"
            );
            assert_eq!(cluster.ws(&target, &headers).await, first, "{source} {key}");
            used.insert(first);
        }
        assert!(used.len() > 1, "{source}: all keys on {used:?}");
        let event = cluster
            .proxy
            .log
            .wait("tunnel opened", &[("sticky", source)])
            .await;
        assert!(used.contains(event.text("backend")), "{}", event.line);
    }
}

async fn the_first_source_that_is_there_is_the_key(over: Over) {
    let cluster = cluster(over, "sticky = ['cookie:sid', 'query:room', 'client_ip']").await;
    let sticky = async |target: &str, headers: &str| {
        let log = cluster.proxy.log.tail();
        cluster.get(target, headers).await;
        log.wait("request", &[]).await.text("sticky").to_owned()
    };
    assert_eq!(sticky("/?room=7", "Cookie: sid=1\r\n").await, "cookie:sid");
    assert_eq!(
        sticky("/?room=7", "Cookie: other=1\r\n").await,
        "query:room"
    );
    assert_eq!(sticky("/", "").await, "client_ip");
}

async fn the_client_address_is_the_trusted_one(over: Over) {
    let backends = backends().await;
    let site = site(&backends, "").top("trusted_proxies = ['127.0.0.1/32']");
    let cluster = Cluster {
        proxy: Proxy::start(site).await.over(over),
        backends,
    };
    let mut used = BTreeMap::new();
    for n in 1..20 {
        let headers = format!("X-Forwarded-For: 192.0.2.{n}\r\n");
        let (first, _) = cluster.get("/", &headers).await;
        assert_eq!(cluster.ws("/", &headers).await, first);
        *used.entry(first).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 3, "{used:?}");
    // IPv6 counts by /64: one household is one key.
    let mut homes = BTreeSet::new();
    for n in 1..20 {
        let headers = format!("X-Forwarded-For: 2001:db8:1:2::{n:x}\r\n");
        homes.insert(cluster.get("/", &headers).await.0);
    }
    assert_eq!(homes.len(), 1);
    for n in 1..20 {
        let headers = format!("X-Forwarded-For: 2001:db8:1:{n:x}::1\r\n");
        homes.insert(cluster.get("/", &headers).await.0);
    }
    assert_eq!(homes.len(), 3, "other networks are other keys");
}

#[tokio::test]
async fn two_longhauls_with_one_config_agree() {
    let backends = backends().await;
    let site = site(&backends, "sticky = 'query:room'");
    let one = Proxy::start(&site).await;
    let two = Setup::new().beside().start(&site).await;
    for room in 0..50 {
        let target = format!("/?room={room}");
        assert_eq!(one.get(&target).await.text(), two.get(&target).await.text());
    }
}

#[tokio::test]
async fn names_are_hashed_and_not_addresses_and_few_keys_move() {
    let backends = backends().await;
    let one = site(&backends, "sticky = 'query:room'");
    let proxy = Proxy::start(&one).await;
    let map = async || {
        let mut map = Vec::new();
        for room in 0..60 {
            map.push(proxy.get(&format!("/?room={room}")).await.text().to_owned());
        }
        map
    };
    let before = map().await;

    // The same names elsewhere: nothing moves.
    let moved: Vec<Echo> = self::backends().await;
    proxy.reload(site(&moved, "sticky = 'query:room'")).await;
    assert_eq!(map().await, before);

    // One of three leaves: only its keys move.
    proxy
        .reload(site(&moved[..2], "sticky = 'query:room'"))
        .await;
    for (old, new) in before.iter().zip(map().await) {
        assert!(old == "c" || *old == new, "{old} moved to {new}");
        assert_ne!(new, "c");
    }
}

/// Newcomers are placed by their address and stick by the cookie, also where their
/// address changes; who says who it is gets none.
#[tokio::test]
async fn a_cookie_outlives_the_address_that_it_began_with() {
    let backends = [Echo::start("a").await, Echo::start("b").await];
    let sticky = "sticky = ['cookie', 'query:room', 'client_ip']";
    let proxy = Proxy::start(site(&backends, sticky)).await;
    let first = proxy.get("/").await;
    let (pair, _) = cookie(&first.head).expect("a cookie");
    for last in 2..12 {
        let mut wire = proxy.connect_from(&format!("127.0.0.{last}")).await;
        wire.send(format!(
            "GET / HTTP/1.1\r\nHost: h\r\nCookie: {pair}\r\n\r\n"
        ))
        .await;
        let response = wire.response().await;
        assert_eq!(response.text(), first.text());
        assert_eq!(response.head.header("set-cookie"), None);
    }
    assert_eq!(cookie(&proxy.get("/?room=7").await.head), None);
}

/// The cookie that an answer sets, as (name=value, attributes).
fn cookie(head: &Head) -> Option<(String, Vec<String>)> {
    let line = head.header("set-cookie")?;
    let mut parts = line.split("; ").map(str::to_owned);
    Some((
        parts.next().expect("a pair"),
        parts.map(|one| one.to_lowercase()).collect(),
    ))
}

async fn longhauls_own_cookie_on_200_and_on_101(over: Over) {
    let cluster = cluster(over, "sticky = 'cookie'").await;
    let (name, head) = cluster.get("/", "").await;
    let (pair, attributes) = cookie(&head).expect("a cookie on the 200");
    assert!(pair.starts_with("longhaul="), "{pair}");
    assert!(
        attributes.contains(&"httponly".to_owned()),
        "{attributes:?}"
    );
    assert!(
        attributes.contains(&"samesite=lax".to_owned()),
        "{attributes:?}"
    );
    assert!(attributes.contains(&"path=/".to_owned()), "{attributes:?}");
    assert!(
        !attributes.contains(&"secure".to_owned()),
        "plain: {attributes:?}"
    );
    assert!(
        !attributes.iter().any(|one| one.starts_with("max-age")),
        "{attributes:?}"
    );
    for opaque in ["127.0.0.1", cluster.backends[0].address()] {
        assert!(!pair.contains(opaque), "{pair}");
    }
    // Held, it sticks and is not set again.
    for _ in 0..5 {
        let (again, head) = cluster.get("/", &format!("Cookie: z=1; {pair}\r\n")).await;
        assert_eq!((again, cookie(&head)), (name.clone(), None));
    }
    let mut ws = cluster
        .proxy
        .ws_with("/", &format!("Cookie: {pair}\r\n"))
        .await;
    assert_eq!(ws.greeting().await, name);
    assert_eq!(cookie(&ws.head), None);
    ws.close(1000).await;

    let mut ws = cluster.proxy.ws("/").await;
    let (pair, attributes) = cookie(&ws.head).expect("a cookie on the 101");
    assert!(
        attributes.contains(&"httponly".to_owned()),
        "{attributes:?}"
    );
    let name = ws.greeting().await;
    assert_eq!(
        cluster.get("/", &format!("Cookie: {pair}\r\n")).await.0,
        name
    );
}

async fn the_cookies_without_a_holder_spread(over: Over) {
    let cluster = cluster(over, "sticky = 'cookie'").await;
    let mut used = BTreeSet::new();
    for _ in 0..30 {
        used.insert(cluster.get("/", "").await.0);
    }
    assert_eq!(used.len(), 3, "new clients spread: {used:?}");
}

async fn the_cookies_attributes_are_configured(over: Over) {
    let keys = "sticky = 'cookie'\n\
         cookie = { name = 'lh', same_site = 'none', max_age = '1d', secure = true }";
    let cluster = cluster(over, keys).await;
    let (_, head) = cluster.get("/", "").await;
    let (pair, attributes) = cookie(&head).expect("a cookie");
    assert!(pair.starts_with("lh="), "{pair}");
    for wanted in ["samesite=none", "max-age=86400", "secure", "httponly"] {
        assert!(
            attributes.contains(&wanted.to_owned()),
            "{wanted} in {attributes:?}"
        );
    }
}

async fn the_cookie_is_secure_on_tls(over: Over) {
    let backend = Echo::start("a").await;
    let authority = Authority::new();
    let setup = Setup::with_pair(&authority.pair(&["localhost"]));
    let site = Site::of(&[backend.entry()])
        .upstream("sticky = 'cookie'")
        .tls();
    let proxy = setup.start(site).await.over(over);
    let wire = proxy.tls(&authority.client(), "localhost").await;
    let ws = Ws::open(wire, "/", "localhost", "").await;
    let (_, attributes) = cookie(&ws.head).expect("a cookie");
    assert!(attributes.contains(&"secure".to_owned()), "{attributes:?}");
}

#[tokio::test]
async fn the_cookie_is_issued_again_when_its_backend_is_gone_or_forged() {
    let backends = backends().await;
    let proxy = Proxy::start(site(&backends, "sticky = 'cookie'")).await;
    let cluster = Cluster { proxy, backends };
    let (name, head) = cluster.get("/", "").await;
    let (pair, _) = cookie(&head).expect("a cookie");
    let left: Vec<_> = cluster
        .backends
        .iter()
        .filter(|one| one.name != name)
        .map(Echo::entry)
        .collect();
    cluster
        .proxy
        .reload(Site::of(&left).upstream("sticky = 'cookie'"))
        .await;
    let (other, head) = cluster.get("/", &format!("Cookie: {pair}\r\n")).await;
    assert_ne!(other, name);
    let (pair, _) = cookie(&head).expect("a new cookie");
    assert_eq!(
        cluster.get("/", &format!("Cookie: {pair}\r\n")).await.0,
        other
    );

    for forged in ["longhaul=", "longhaul=xyz", "longhaul=a", "longhaul=%00%ff"] {
        let (_, head) = cluster.get("/", &format!("Cookie: {forged}\r\n")).await;
        assert!(cookie(&head).is_some(), "{forged}");
    }
}

async fn the_cookie_is_issued_again_when_its_backend_refuses(over: Over) {
    let mut backends = backends().await;
    let proxy = Proxy::start(site(&backends, "sticky = 'cookie'"))
        .await
        .over(over);
    let response = proxy.get("/").await;
    let (pair, _) = cookie(&response.head).expect("a cookie");
    let at = backends
        .iter()
        .position(|one| one.name == response.text())
        .expect("a backend");
    backends.swap_remove(at).stop().await;
    let mut ws = proxy.ws_with("/", &format!("Cookie: {pair}\r\n")).await;
    let (pair, _) = cookie(&ws.head).expect("a new cookie");
    let name = ws.greeting().await;
    assert_ne!(name, response.text());
    assert_eq!(
        proxy
            .get_with("/", &format!("Cookie: {pair}\r\n"))
            .await
            .text(),
        name
    );
}

async fn round_robin_takes_turns(over: Over) {
    let cluster = cluster(over, "balance = 'round_robin'").await;
    let mut counts = BTreeMap::new();
    for _ in 0..9 {
        *counts.entry(cluster.ws("/", "").await).or_insert(0) += 1;
    }
    assert_eq!(
        counts.values().copied().collect::<Vec<_>>(),
        [3, 3, 3],
        "{counts:?}"
    );
}

async fn random_uses_every_backend(over: Over) {
    let cluster = cluster(over, "balance = 'random'").await;
    let mut used = BTreeSet::new();
    for _ in 0..40 {
        used.insert(cluster.get("/", "").await.0);
    }
    assert_eq!(used.len(), 3, "{used:?}");
}

#[tokio::test]
async fn weights_share_the_turns() {
    let backends = backends().await;
    let listed: Vec<String> = backends
        .iter()
        .zip([1, 2, 3])
        .map(|(one, weight)| {
            format!(
                "{{ name = '{}', address = '{}', weight = {weight} }}",
                one.name,
                one.address()
            )
        })
        .collect();
    let config = format!(
        "[listeners.main]\naddress = '127.0.0.1:0'\n[[routes]]\nupstream = 'app'\n\
         [upstreams.app]\nbalance = 'round_robin'\nbackends = [{}]\n",
        listed.join(", ")
    );
    let proxy = Proxy::start(config).await;
    let mut counts = BTreeMap::new();
    for _ in 0..12 {
        *counts
            .entry(proxy.get("/").await.text().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(
        counts.values().copied().collect::<Vec<_>>(),
        [2, 4, 6],
        "{counts:?}"
    );
}

async fn least_connections_counts_live_tunnels_and_survives_reloads(over: Over) {
    let backends = backends().await;
    let two = site(&backends[..2], "balance = 'least_connections'");
    let proxy = Proxy::start(&two).await.over(over);
    let mut tunnels = Vec::new();
    for _ in 0..6 {
        let mut ws = proxy.ws("/").await;
        ws.greeting().await;
        tunnels.push(ws);
    }
    assert_eq!(
        (proxy.tunnels_of("a").await, proxy.tunnels_of("b").await),
        (3, 3)
    );

    // A third backend joins: the next tunnels are its own until it has caught up.
    proxy
        .reload(site(&backends, "balance = 'least_connections'"))
        .await;
    assert_eq!(
        (proxy.tunnels_of("a").await, proxy.tunnels_of("b").await),
        (3, 3)
    );
    for _ in 0..3 {
        let mut ws = proxy.ws("/").await;
        assert_eq!(ws.greeting().await, "c");
        tunnels.push(ws);
    }
    assert_eq!(proxy.tunnels_of("c").await, 3);

    // Plain requests do not stay.
    for _ in 0..6 {
        proxy.get("/").await;
    }
    let log = proxy.log.tail();
    for ws in tunnels.drain(..) {
        ws.close(1000).await;
    }
    eventually("nine closed tunnels in the log", || {
        log.all(|event| event.message == "tunnel closed").len() == 9
    })
    .await;
    for name in NAMES {
        assert_eq!(proxy.tunnels_of(name).await, 0, "{name}");
    }
}

async fn a_backend_that_refuses_is_skipped_for_the_next_candidate(over: Over) {
    let backend = Echo::start("live").await;
    let [one, two] = nobodies().await;
    let backends = [
        ("dead-1", one.as_str()),
        ("dead-2", two.as_str()),
        backend.entry(),
    ];
    for balance in ["hash", "round_robin", "least_connections", "random"] {
        let site = Site::of(&backends).upstream(&format!("balance = '{balance}'"));
        let site = if balance == "hash" {
            site.upstream("sticky = 'query:k'")
        } else {
            site
        };
        let proxy = Proxy::start(site).await.over(over);
        for n in 0..6 {
            assert_eq!(
                proxy.get(&format!("/?k={n}")).await.text(),
                "live",
                "{balance}"
            );
            let mut ws = proxy.ws(&format!("/?k={n}")).await;
            assert_eq!(ws.greeting().await, "live", "{balance}");
        }
    }
}

#[tokio::test]
async fn attempts_are_bounded() {
    let backend = Echo::start("live").await;
    let dead: [String; 4] = nobodies().await;
    let names = ["d1", "d2", "d3", "d4"];
    let mut listed: Vec<_> = names
        .into_iter()
        .zip(&dead)
        .map(|(name, address)| (name, address.as_str()))
        .collect();
    listed.push(backend.entry());
    let site = Site::of(&listed).upstream("balance = 'round_robin'\nmax_attempts = 2");
    let proxy = Proxy::start(site).await;
    let mut answers = BTreeMap::new();
    for _ in 0..10 {
        *answers.entry(proxy.get("/").await.head.status).or_insert(0) += 1;
    }
    assert!(
        answers.contains_key(&200) && answers.contains_key(&502),
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_body_is_not_lost_on_the_way_to_the_next_candidate() {
    let live = RawBackend::start().await;
    let dead = nobody().await;
    let site =
        Site::of(&[("dead", &dead), ("live", live.address())]).upstream("balance = 'round_robin'");
    let proxy = Proxy::start(site).await;
    for _ in 0..2 {
        let mut client = proxy.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            .await;
        let mut server = live.accept().await;
        let request = server.request().await;
        assert_eq!(server.body(request.length()).await.0, b"hello");
        server
            .send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(client.response().await.head.status, 204);
    }
}

/// The dial ends by its own timeout, not the handshake's.
async fn a_backend_that_does_not_answer_the_dial_is_skipped_in_time(over: Over) {
    let live = Echo::start("live").await;
    let socket = Stuck::start();
    let stuck = socket.address();
    let site = Site::of(&[("stuck", &stuck), live.entry()])
        .upstream("balance = 'round_robin'\ndial_timeout = '200ms'");
    let proxy = Proxy::start(site).await.over(over);
    for _ in 0..2 {
        let mut ws = proxy.ws("/").await;
        assert_eq!(ws.greeting().await, "live");
    }
}
