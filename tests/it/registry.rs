//! Thousands of live tunnels in the registry: found and closed by what they have in common, as fast
//! as was asked; and what the registry knows of each client.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::kit::h2::H2;
use crate::kit::{
    Authority, Echo, Opcode, Proxy, Setup, Site, Wire, alone, close_payload, dial, handshake,
    masked, raise_file_limit, soon,
};

const TUNNELS: usize = 9_000;
/// Tunnels of one key.
const OF_A_KEY: usize = 900;
const RATE: f64 = 300.0;

async fn asked(proxy: &Proxy, path: &str, body: Option<Value>) -> Value {
    let (code, answer) = proxy.ask_admin(path, body).await;
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

fn ids(page: &Value) -> impl Iterator<Item = u64> {
    let tunnels = page["tunnels"].as_array().expect("tunnels");
    tunnels.iter().map(|one| one["id"].as_u64().expect("an id"))
}

/// One of nine thousand, under one of ten keys.
async fn open(address: &str, number: usize) -> Wire {
    let mut wire = dial(address).await;
    let key = number % (TUNNELS / OF_A_KEY);
    wire.send(handshake(&format!("/?key={key}"), "localhost", ""))
        .await;
    assert_eq!(wire.response_head().await.status, 101);
    assert_eq!(wire.frame().await.opcode, Opcode::Text);
    wire
}

/// Until it is closed with a code, and properly.
async fn closed(mut wire: Wire, number: usize) -> (usize, Option<u16>) {
    assert!(wire.readable().await, "an end without Close");
    let code = wire.frame().await.close_code();
    wire.send(masked(Opcode::Close, true, &close_payload(1012)))
        .await;
    wire.eof().await;
    (number, code)
}

/// Over HTTP/1.1 alone: its tunnels take the descriptors that there are; closes.rs closes over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_thousand_tunnels_are_listed_at_once_and_closed_by_key_at_a_rate() {
    let _alone = alone().await;
    raise_file_limit(2 * TUNNELS);
    let backend = Echo::start("a").await;
    let site = Site::one(backend.address()).upstream("sticky = 'query:key'");
    let proxy = Setup::new().beside().start(site).await;
    let address = proxy.address("main").await;
    let mut clients = JoinSet::new();
    for number in 0..TUNNELS {
        let wire = open(&address, number).await;
        clients.spawn(closed(wire, number));
    }
    let key = the_key_of_the_first(&proxy).await;
    every_page_comes_at_once(&proxy, &key).await;

    no_close_lasts_for_days(&proxy).await;

    let body = json!({ "key": key, "rate": "300/s", "code": 4001, "reason": "moved" });
    let begun = asked(&proxy, "/tunnels/close", Some(body)).await;
    let start = Instant::now();
    assert_eq!(begun["closing"], OF_A_KEY);
    let seconds = OF_A_KEY as f64 / RATE;
    let said = begun["seconds"].as_f64().expect("a number");
    assert!((said - seconds).abs() < 0.001, "{begun}");
    let mut worst: f64 = 0.0;
    for gone in 1..=OF_A_KEY {
        let (number, code) = clients
            .join_next()
            .await
            .expect("a client")
            .expect("to end");
        assert_eq!((number % (TUNNELS / OF_A_KEY), code), (0, Some(4001)));
        let due = (start.elapsed().as_secs_f64() * RATE).min(OF_A_KEY as f64);
        worst = worst.max((gone as f64 - due).abs());
    }
    println!(
        "closed in {:?}, at worst {worst} from the line",
        start.elapsed()
    );
    assert!(worst <= OF_A_KEY as f64 / 10.0, "{worst} from the line");
    assert!(start.elapsed().as_secs_f64() > 0.95 * seconds);
    // Its client may see the end of the last before the registry does.
    let gone = async {
        while asked(&proxy, "/tunnels?limit=0", None).await["matching"] != TUNNELS - OF_A_KEY {}
    };
    soon("the rest to be listed", gone).await;
}

async fn no_close_lasts_for_days(proxy: &Proxy) {
    let all = json!({ "all": true, "rate": "1/h" });
    let (code, answer) = proxy.ask_admin("/tunnels/close", Some(all)).await;
    assert_eq!(code, 400, "{answer}");
    let error = answer["error"].as_str().expect("an error");
    let least = format!("\"{}/h\"", TUNNELS.div_ceil(24));
    assert!(error.contains(&least), "{error}");
    let closings = asked(proxy, "/closings", None).await;
    assert_eq!(closings["closings"], json!([]));
    let dry =
        json!({ "all": true, "rate": format!("{}/h", TUNNELS.div_ceil(24)), "dry_run": true });
    let told = asked(proxy, "/tunnels/close", Some(dry)).await;
    assert_eq!(told["closing"], TUNNELS);
}

async fn the_key_of_the_first(proxy: &Proxy) -> String {
    let first = asked(proxy, "/tunnels?limit=1", None).await;
    let key = first["tunnels"][0]["key"].as_str();
    key.expect("a hash").to_owned()
}

async fn every_page_comes_at_once(proxy: &Proxy, key: &str) {
    for (filter, expected) in [("", TUNNELS), (&*format!("key={key}&"), OF_A_KEY)] {
        let (mut seen, mut after, mut times) = (Vec::new(), Some(0), Vec::new());
        while let Some(place) = after {
            let start = Instant::now();
            let path = format!("/tunnels?{filter}limit=100&after={place}");
            let page = asked(proxy, &path, None).await;
            times.push(start.elapsed());
            assert_eq!(page["matching"], expected);
            seen.extend(ids(&page));
            after = page["next"].as_u64();
        }
        times.sort();
        let middle = times[times.len() / 2];
        println!(
            "{} pages, {middle:?} in the middle, {:?} at most",
            times.len(),
            times.last()
        );
        assert_eq!(seen.len(), expected);
        assert!(seen.is_sorted(), "oldest first, each once");
        // Of a debug build, with the request to the admin socket and its answer.
        assert!(middle < Duration::from_millis(50), "{middle:?}");
    }
}

/// Over HTTP/1.1 alone: it opens tunnels of both itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_each_client_it_says_what_it_speaks_and_over_what() {
    let authority = Authority::new();
    let backend = Echo::start("a").await;
    let setup = Setup::new();
    let pair = authority.pair(&["localhost"]);
    setup.write("site.pem", &pair.chain);
    setup.write("site.key", &pair.key);
    let tls = "[listeners.tls]\naddress = '127.0.0.1:0'\n\
               certificates = [{ chain = 'site.pem', key = 'site.key' }]";
    let proxy = setup.start(Site::one(backend.address()).more(tls)).await;
    let secure = proxy.address("tls").await;
    let mut h1 = proxy.ws("/h1").await;
    h1.greeting().await;
    let h2 = proxy.h2().await;
    let over_h2 = h2.connect("/h2", "h", &[]);
    assert_eq!(over_h2.status().await, 200);
    let client = authority.client().alpn(&["http/1.1"]);
    let mut h1_tls = client.connect(&secure, "localhost").await.expect("TLS");
    h1_tls.send(handshake("/h1-tls", "localhost", "")).await;
    assert_eq!(h1_tls.response_head().await.status, 101);
    let client = authority.client().alpn(&["h2"]);
    let wire = client.connect(&secure, "localhost").await.expect("TLS");
    let h2_tls = H2::over(wire.into_parts().0).await;
    let over_h2_tls = h2_tls.connect("/h2-tls", "localhost", &[]);
    assert_eq!(over_h2_tls.status().await, 200);

    for (path, http, listener, tls) in [
        ("/h1", "1.1", "main", None),
        ("/h2", "2", "main", None),
        ("/h1-tls", "1.1", "tls", Some("TLSv1.3")),
        ("/h2-tls", "2", "tls", Some("TLSv1.3")),
    ] {
        let listed = asked(&proxy, "/tunnels", None).await;
        let mut all = listed["tunnels"]
            .as_array()
            .cloned()
            .expect("tunnels")
            .into_iter();
        let one = all.find(|one| one["path"] == path).expect("the tunnel");
        assert_eq!(one["http"], http, "{one}");
        assert_eq!(one["listener"], listener, "{one}");
        assert_eq!(one["tls"].as_str(), tls, "{one}");
        assert_eq!(one["sni"].as_str(), tls.map(|_| "localhost"), "{one}");
    }
}

/// Over HTTP/1.1 alone: orders are counted, whatever their tunnels speak.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_closes_go_on_at_once() {
    let backend = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(backend.address())).await;
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let mut ws = proxy.ws("/").await;
        ws.greeting().await;
        tunnels.push(ws);
    }
    let slowly = || Some(json!({ "all": true, "window": "1d" }));
    for _ in 0..16 {
        asked(&proxy, "/tunnels/close", slowly()).await;
    }
    let (code, answer) = proxy.ask_admin("/tunnels/close", slowly()).await;
    assert_eq!(code, 429, "{answer}");
    let error = answer["error"].as_str().expect("an error");
    assert!(error.contains("16 closes go on"), "{error}");
    // What begins none is still answered.
    let dry = json!({ "all": true, "dry_run": true });
    assert_eq!(
        asked(&proxy, "/tunnels/close", Some(dry)).await["closing"],
        3
    );
    assert_eq!(proxy.tunnels_of("a").await, 3);
    for ws in tunnels {
        ws.close(1000).await;
    }
    // They end with their last tunnel, and others may begin.
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    soon("a close to be taken", async {
        let now = || Some(json!({ "all": true, "window": "0s" }));
        while proxy.ask_admin("/tunnels/close", now()).await.0 != 200 {}
    })
    .await;
    assert_eq!(ws.closed().await, Some(1012));
}
