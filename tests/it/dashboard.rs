//! The dashboard's page and its WebSocket, and what they are told.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::kit::{Echo, Over, Proxy, Setup, Site, Wire, Ws, dial, handshake, over_each, soon};

over_each!(
    what_is_told_moves_with_the_tunnels_and_says_how_they_ended,
    tunnels_are_searched_while_they_live_and_after,
);

const TOKEN: &str = "a-token-of-an-operator/+=";
const OFFER: &str = "Sec-WebSocket-Protocol: longhaul.watch\r\n";

async fn get(proxy: &Proxy, path: &str) -> Value {
    let (code, answer) = proxy.ask_admin(path, None).await;
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

async fn at_the_socket(proxy: &Proxy) -> Wire {
    dial(&format!("unix:{}", proxy.path("admin.sock").display())).await
}

/// The status of the answer to a handshake there.
async fn shaken(proxy: &Proxy, host: &str, extra: &str) -> u16 {
    let mut wire = at_the_socket(proxy).await;
    wire.send(handshake("/watch", host, extra)).await;
    wire.response_head().await.status
}

/// The next that is told.
async fn told(ws: &mut Ws) -> Value {
    serde_json::from_str(&ws.text().await).expect("JSON")
}

/// Over HTTP/1.1 alone: it is about the admin API, which speaks that.
#[tokio::test]
async fn the_page_is_for_everybody_and_trusts_nobody() {
    let setup = Setup::new();
    let file = setup.write("token", TOKEN);
    fs::set_permissions(file, Permissions::from_mode(0o600)).expect("to set its mode");
    let admin = "[admin]\nsocket = 'admin.sock'\nlisten = '127.0.0.1:0'\ntoken_file = 'token'\n";
    let echo = Echo::start("a").await;
    let proxy = setup.start(Site::one(echo.address()).more(admin)).await;
    let status = proxy.status().await;
    let address = status["admin_listen"].as_str().expect("an address");
    let mut nonces = Vec::new();
    for site in ["none", "cross-site"] {
        let mut wire = dial(address).await;
        wire.send(format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nSec-Fetch-Site: {site}\r\n\r\n"
        ))
        .await;
        let page = wire.response().await;
        assert_eq!(page.head.status, 200);
        let policy = page
            .head
            .header("content-security-policy")
            .expect("a policy");
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let nonce = policy
            .split("'nonce-")
            .nth(1)
            .and_then(|it| it.split('\'').next());
        let nonce = nonce.expect("a nonce").to_owned();
        assert_eq!(
            page.text().matches(&format!("nonce=\"{nonce}\"")).count(),
            2
        );
        assert_eq!(page.head.header("x-frame-options"), Some("DENY"));
        assert!(!page.text().contains(TOKEN));
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1]);

    // What it would show needs the token: as a page gives it.
    let digits = |token: &str| {
        token
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let wrong = format!(
        "Sec-WebSocket-Protocol: longhaul.watch, longhaul.token.{}\r\n",
        digits("another")
    );
    let right = format!(
        "Sec-WebSocket-Protocol: longhaul.watch, longhaul.token.{}\r\n",
        digits(TOKEN)
    );
    for (extra, expected) in [(OFFER, 401), (&*wrong, 401), ("", 401), (&*right, 101)] {
        let mut wire = dial(address).await;
        wire.send(handshake("/watch", address, extra)).await;
        let head = wire.response_head().await;
        assert_eq!(head.status, expected, "{extra}");
        assert!(
            !format!("{head:?}").contains(&digits(TOKEN)),
            "it says the token again"
        );
    }
}

/// Over HTTP/1.1 alone: it is about who may watch.
#[tokio::test]
async fn no_other_page_may_watch_and_no_more_than_are_meant() {
    let echo = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(echo.address())).await;
    for (host, extra, expected) in [
        ("localhost:9000", "Origin: http://localhost:9000\r\n", 400),
        (
            "localhost:9000",
            &*format!("{OFFER}Origin: https://evil.example\r\n"),
            403,
        ),
        (
            "evil.example:9000",
            &*format!("{OFFER}Origin: http://evil.example:9000\r\n"),
            403,
        ),
        (
            "localhost:9000",
            &*format!("{OFFER}Origin: http://localhost:9000\r\n"),
            101,
        ),
        ("longhaul", OFFER, 101),
    ] {
        assert_eq!(
            shaken(&proxy, host, extra).await,
            expected,
            "{host} {extra}"
        );
    }
    let mut wire = at_the_socket(&proxy).await;
    wire.send("GET /watch HTTP/1.1\r\nHost: longhaul\r\n\r\n")
        .await;
    assert_eq!(wire.response().await.head.status, 400);

    // Those above have gone as soon as it is noticed.
    let mut watchers = Vec::new();
    soon("16 watchers", async {
        while watchers.len() < 16 {
            let mut wire = at_the_socket(&proxy).await;
            wire.send(handshake("/watch", "longhaul", OFFER)).await;
            if wire.response_head().await.status == 101 {
                watchers.push(wire);
            }
        }
    })
    .await;
    let mut wire = at_the_socket(&proxy).await;
    wire.send(handshake("/watch", "longhaul", OFFER)).await;
    let full = wire.response().await;
    assert_eq!(full.head.status, 503);
    assert!(full.text().contains("16 watch"), "{}", full.text());
    // Others are served meanwhile, and a place that is left is taken.
    get(&proxy, "/live").await;
    watchers.pop();
    soon("a place", async {
        while shaken(&proxy, "longhaul", OFFER).await != 101 {}
    })
    .await;
}

async fn what_is_told_moves_with_the_tunnels_and_says_how_they_ended(over: Over) {
    let echo = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(echo.address()).route("name = 'all'"))
        .await
        .over(over);
    let wire = at_the_socket(&proxy).await;
    let mut watch = Ws::open(wire, "/watch", "longhaul", OFFER).await;
    let backend = |told: &Value| told["upstreams"][0]["backends"][0].clone();
    let before = told(&mut watch).await;
    assert_eq!(
        (&before["tunnels"], &before["ended"]),
        (&json!(0), &json!([]))
    );
    let mut ws = proxy.ws("/room?secret=1").await;
    ws.greeting().await;
    ws.echo("hello").await;
    soon("its message", async {
        while backend(&told(&mut watch).await)["messages_in"] != 1 {}
    })
    .await;
    let live = get(&proxy, "/live").await;
    assert_eq!(backend(&live)["tunnels"], 1);
    ws.close(4001).await;
    proxy.log.wait("tunnel closed", &[]).await;
    soon("its end", async {
        while told(&mut watch).await["ended"][0]["cause"] != "close 4001" {}
    })
    .await;
    let ended = get(&proxy, "/tunnels/ended").await["ended"][0].clone();
    assert_eq!(
        (&ended["ended_by"], &ended["route"]),
        (&json!("client"), &json!("all"))
    );
    assert_eq!(
        (&ended["client"], &ended["messages_in"]),
        (&json!("127.0.0.1"), &json!(1))
    );
    assert!(!ended.to_string().contains("secret=1"), "{ended}");
    // What has ended still counts, once.
    soon("the sums", async {
        while backend(&told(&mut watch).await)["messages_out"] != 2 {}
    })
    .await;
}

async fn tunnels_are_searched_while_they_live_and_after(over: Over) {
    let echo = Echo::start("a").await;
    let proxy = Proxy::start(Site::one(echo.address()).route("name = 'Chat'"))
        .await
        .over(over);
    let mut all = Vec::new();
    for path in ["/room-1", "/room-12", "/lobby"] {
        let mut ws = proxy.ws(path).await;
        ws.greeting().await;
        all.push(ws);
    }
    for (text, expected) in [
        ("room-1", 2),
        ("ROOM-12", 1),
        ("chat", 3),
        ("127.0.0.1", 3),
        ("nothing", 0),
        ("", 3),
    ] {
        let found = get(&proxy, &format!("/tunnels?search={text}")).await;
        assert_eq!(found["matching"], expected, "{text}");
    }
    let id = get(&proxy, "/tunnels?search=lobby").await["tunnels"][0]["id"].clone();
    let found = get(&proxy, &format!("/tunnels?search={id}&route=Chat")).await;
    assert!(found["matching"].as_u64() >= Some(1), "{found}");
    // What is closed is named, not searched.
    let (code, answer) = proxy
        .ask_admin("/tunnels/close", Some(json!({ "search": "room" })))
        .await;
    assert_eq!(code, 400, "{answer}");

    // Whoever was cut is found by the same words.
    for ws in all {
        ws.close(4001).await;
    }
    let ended = async |query: &str| {
        let found = get(&proxy, &format!("/tunnels/ended?{query}")).await["ended"].clone();
        found.as_array().expect("a list").len()
    };
    soon("the three ends", async { while ended("").await < 3 {} }).await;
    for (query, expected) in [
        ("search=room-1", 2),
        ("search=ROOM-12&route=Chat", 1),
        ("client=127.0.0.0/8", 3),
        ("client=198.51.100.1", 0),
        ("upstream=app&backend=a&listener=main", 3),
        ("route=chat", 0),
        ("state=open", 0),
    ] {
        assert_eq!(ended(query).await, expected, "{query}");
    }
    let (code, answer) = proxy.ask_admin("/tunnels/ended?client=me", None).await;
    assert_eq!(code, 400, "{answer}");
}

#[tokio::test]
async fn the_last_reloads_say_what_they_changed() {
    let echo = Echo::start("a").await;
    let site = || Site::one(echo.address());
    let proxy = Proxy::start(site()).await;
    proxy.reload(site().route("name = 'other'")).await;
    proxy.refuse("[nonsense").await;
    let reloads = get(&proxy, "/reloads").await["reloads"].clone();
    let facts: Vec<_> = reloads
        .as_array()
        .expect("reloads")
        .iter()
        .map(|one| (one["ok"].as_bool(), one["generation"].as_u64()))
        .collect();
    assert_eq!(
        facts,
        [
            (Some(false), Some(2)),
            (Some(true), Some(2)),
            (Some(true), Some(1))
        ]
    );
    assert!(
        reloads[0]["message"]
            .as_str()
            .is_some_and(|it| it.contains("unclosed table")),
        "{reloads}"
    );
    assert!(
        reloads[1]["message"]
            .as_str()
            .is_some_and(|it| it.contains("other")),
        "{reloads}"
    );
}
