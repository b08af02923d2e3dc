//! The admin API over TCP: who may ask what, and that no web page may.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use crate::kit::{
    Echo, Event, Proxy, Response, Setup, Site, Wire, dial, dial_from, longhaul, nobody, soon,
};

const OPERATOR: &str = "the-operators-own-token";
const READER: &str = "a-token-that-only-reads";

/// With this in `[admin]` beside the socket and a port.
async fn start(setup: Setup, backend: &str, more: &str) -> Proxy {
    let admin = format!("[admin]\nsocket = 'admin.sock'\nlisten = '127.0.0.1:0'\n{more}");
    setup.start(Site::one(backend).more(&admin)).await
}

async fn with_tokens(backend: &str) -> Proxy {
    let setup = Setup::new();
    write_token(&setup.path("operator.token"), OPERATOR, 0o600);
    write_token(&setup.path("reader.token"), READER, 0o640);
    let keys = "token_file = 'operator.token'\nread_token_file = 'reader.token'";
    start(setup, backend, keys).await
}

fn write_token(path: &Path, token: &str, mode: u32) {
    fs::write(path, format!("{token}\n")).expect("to write a token");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("to set its mode");
}

async fn address(proxy: &Proxy) -> String {
    let status = proxy.status().await;
    status["admin_listen"]
        .as_str()
        .expect("an address")
        .to_owned()
}

async fn asked(address: &str, line: &str, headers: &str) -> Response {
    asked_by(dial(address).await, line, headers).await
}

async fn asked_by(mut wire: Wire, line: &str, headers: &str) -> Response {
    let body = if line.starts_with("POST") { "{}" } else { "" };
    let length = body.len();
    wire.send(format!(
        "{line} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire.response().await
}

fn shown(address: &str, token: &str) -> String {
    format!("Host: {address}\r\nAuthorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn no_page_of_another_origin_may_ask_whatever_it_shows() {
    let proxy = with_tokens(&nobody().await).await;
    let address = address(&proxy).await;
    let shown = shown(&address, OPERATOR);
    for (more, expected) in [
        (String::new(), 200),
        (format!("Origin: http://{address}\r\n"), 200),
        ("Sec-Fetch-Site: same-origin\r\n".to_owned(), 200),
        ("Origin: https://evil.example\r\n".to_owned(), 403),
        ("Origin: null\r\n".to_owned(), 403),
        ("Sec-Fetch-Site: cross-site\r\n".to_owned(), 403),
        // The first of two is good.
        (
            format!("Origin: http://{address}\r\nOrigin: https://evil.example\r\n"),
            403,
        ),
        (
            "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n".to_owned(),
            403,
        ),
    ] {
        let headers = format!("{shown}{more}");
        let answer = asked(&address, "GET /status", &headers).await;
        assert_eq!(answer.head.status, expected, "{headers}");
    }
    // What changes something, too.
    let hostile = format!("{shown}Origin: https://evil.example\r\n");
    let answer = asked(&address, "POST /tunnels/close", &hostile).await;
    assert_eq!(answer.head.status, 403);
    // On the Unix socket its mode has decided.
    assert_eq!(proxy.admin("/status").await.head.status, 200);
}

#[tokio::test]
async fn a_token_is_asked_for_and_one_of_them_only_reads() {
    let proxy = with_tokens(&nobody().await).await;
    let address = address(&proxy).await;
    let plain = format!("Host: {address}\r\n");
    for headers in [
        plain.clone(),
        shown(&address, "not-the-operators-token"),
        shown(&address, &OPERATOR[1..]),
        shown(&address, ""),
        format!("{plain}Authorization: Basic {OPERATOR}\r\n"),
    ] {
        for line in [
            "GET /status",
            "GET /metrics",
            "POST /tunnels/close",
            "GET /nothing",
        ] {
            let answer = asked(&address, line, &headers).await;
            assert_eq!(answer.head.status, 401, "{line}: {headers}");
            assert_eq!(answer.head.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.text().contains(OPERATOR));
        }
    }
    for (token, line, expected) in [
        (OPERATOR, "GET /status", 200),
        (OPERATOR, "POST /tunnels/close", 400),
        (READER, "GET /status", 200),
        (READER, "GET /metrics", 200),
        (READER, "GET /tunnels", 200),
        (READER, "POST /impact", 200),
        (READER, "POST /tunnels/close", 403),
        (READER, "POST /backends", 403),
        (READER, "POST /rebalance", 403),
    ] {
        let answer = asked(&address, line, &shown(&address, token)).await;
        assert_eq!(answer.head.status, expected, "{token}: {line}");
    }
    // A name is nobody's trick where a token is asked for; a page still is.
    let named = shown("admin.example:9000", OPERATOR);
    assert_eq!(
        asked(&address, "GET /status", &named).await.head.status,
        200
    );
    let page = format!(
        "{}Origin: https://evil.example\r\n",
        shown(&address, OPERATOR)
    );
    assert_eq!(asked(&address, "GET /status", &page).await.head.status, 403);
}

#[tokio::test]
async fn another_token_holds_at_once_and_a_file_that_is_not_good_lets_nobody_in() {
    let proxy = with_tokens(&nobody().await).await;
    let address = address(&proxy).await;
    let file = proxy.path("operator.token");
    let status = async |token: &str| {
        let headers = shown(&address, token);
        asked(&address, "GET /status", &headers).await.head.status
    };
    assert_eq!(status(OPERATOR).await, 200);
    write_token(&file, "quite-another-token", 0o600);
    assert_eq!(status(OPERATOR).await, 401);
    assert_eq!(status("quite-another-token").await, 200);
    write_token(&file, "quite-another-token", 0o644);
    assert_eq!(status("quite-another-token").await, 401);
    // Once for each reason, however many ask.
    let warned = async |word: &str| {
        let is_told = |line: &Event| {
            line.message == "admin token is not usable" && line.text("error").contains(word)
        };
        proxy.log.wait_for(is_told).await;
        proxy.log.all(is_told).len()
    };
    assert_eq!(warned("0644").await, 1);
    fs::remove_file(&file).expect("to remove it");
    assert_eq!(status("quite-another-token").await, 401);
    assert_eq!(status("").await, 401);
    assert_eq!(status(READER).await, 200);
    write_token(&file, OPERATOR, 0o666);
    assert_eq!(status(OPERATOR).await, 401);
    assert_eq!(warned("0666").await, 1);
    assert_eq!(warned("No such file").await, 1);
    assert_eq!(warned("0644").await, 1);
    write_token(&file, OPERATOR, 0o600);
    assert_eq!(status(OPERATOR).await, 200);
}

/// Over HTTP/1.1 alone: it is about the way to the admin API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_ask_over_tcp() {
    let backend = Echo::start("a").await;
    let proxy = with_tokens(backend.address()).await;
    let mut ws = proxy.ws("/").await;
    ws.greeting().await;
    let url = format!("http://{}", address(&proxy).await);
    let run = |words: &[&str], token: Option<&str>| -> Output {
        let mut command = longhaul();
        command.args(words).args(["--admin", &url]);
        if let Some(token) = token {
            command.arg("--token-file").arg(proxy.path(token));
        }
        command.output().expect("to run longhaul")
    };
    let says = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let listed = run(&["tunnels"], Some("reader.token"));
    assert!(says(&listed.stdout).contains("1 of 1"), "{listed:?}");
    let refused = run(&["tunnels"], None);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        says(&refused.stderr).contains("Authorization: Bearer"),
        "{refused:?}"
    );
    let refused = run(&["tunnels", "close", "--all"], Some("reader.token"));
    assert!(
        says(&refused.stderr).contains("may only read"),
        "{refused:?}"
    );
    let now = ["tunnels", "close", "--all", "--window", "0s"];
    let closed = run(&now, Some("operator.token"));
    assert!(closed.status.success(), "{closed:?}");
    let wrong = longhaul()
        .args(["status", "--admin", "ftp://127.0.0.1:1"])
        .output()
        .expect("to run longhaul");
    assert!(
        says(&wrong.stderr).contains("http://HOST:PORT"),
        "{wrong:?}"
    );
    let mut check = longhaul();
    check
        .arg("check")
        .arg(proxy.config_path())
        .args(["--against", &url, "--token-file"]);
    let check = check
        .arg(proxy.path("reader.token"))
        .output()
        .expect("to check");
    assert!(
        says(&check.stdout).contains("0 would be closed"),
        "{check:?}"
    );
    assert_eq!(ws.closed().await, Some(1012));
}

/// So many that say no more than the beginning of a head.
async fn silent(address: &str, count: usize) -> Vec<Wire> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut wire = dial(address).await;
        wire.send("GET /status HTTP/1.1\r\n").await;
        held.push(wire);
    }
    held
}

/// Connections at once that one address may have, and others that may wait for one.
const SHARE: usize = 8;
const WAITING: usize = 64;

#[tokio::test]
async fn one_address_keeps_nobody_else_out() {
    let proxy = with_tokens(&nobody().await).await;
    let address = address(&proxy).await;
    let refused = "longhaul_admin_refusals_total{refusal=\"max_connections_per_address\"}";
    assert_eq!(proxy.metric(refused).await, 0.0);
    let held = silent(&address, SHARE + WAITING).await;
    for _ in 0..3 {
        let (bytes, _) = dial(&address).await.rest_and_end().await;
        assert!(bytes.is_empty());
    }
    assert_eq!(proxy.metric(refused).await, 3.0);
    let other = dial_from("127.0.0.2", &address).await;
    let answer = asked_by(other, "GET /status", &shown(&address, READER)).await;
    assert_eq!(answer.head.status, 200);
    // And the next is served once they have gone.
    drop(held);
    soon("a place", async {
        loop {
            let mut wire = dial(&address).await;
            let asked = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
            if wire.try_send(asked).await.is_ok() && wire.next_response_head().await.is_some() {
                break;
            }
        }
    })
    .await;
    // Users of this machine have no address.
    let socket = format!("unix:{}", proxy.path("admin.sock").display());
    let _held = silent(&socket, 3 * SHARE).await;
    assert_eq!(proxy.admin("/status").await.head.status, 200);
}

/// Lines a minute that are about one address.
const LINES: usize = 10;

#[tokio::test]
async fn what_strangers_ask_for_does_not_fill_the_log() {
    let proxy = with_tokens(&nobody().await).await;
    let address = address(&proxy).await;
    let ask = async |ip: &str, path: &str| {
        let wire = dial_from(ip, &address).await;
        let answer = asked_by(wire, &format!("POST {path}"), &shown(&address, "wrong")).await;
        assert_eq!(answer.head.status, 401);
    };
    for number in 0..3 * LINES {
        ask("127.0.0.1", &format!("/nothing/{number}")).await;
    }
    ask("127.0.0.2", "/backends").await;
    let others = [("action", "backend state"), ("who", "unknown")];
    let line = proxy.log.wait("operator action", &others).await;
    // One or two more came back with time, on a machine that is slow.
    let told = proxy
        .log
        .all(|line| line.is("operator action", &[("action", "unknown")]));
    assert!((LINES..2 * LINES).contains(&told.len()), "{}", told.len());
    let before: u64 = told.iter().map(|line| line.number("suppressed")).sum();
    let all = before as usize + told.len() + line.number("suppressed") as usize;
    assert_eq!(all, 3 * LINES);
    let unauthorized = "longhaul_admin_refusals_total{refusal=\"unauthorized\"}";
    assert_eq!(proxy.metric(unauthorized).await, (3 * LINES + 1) as f64);
}

#[tokio::test]
async fn a_token_that_is_not_good_is_told_before_and_at_the_start() {
    let setup = Setup::new();
    write_token(&setup.path("short.token"), "too-short", 0o600);
    let admin = "[admin]\nlisten = '127.0.0.1:0'\ntoken_file = 'short.token'\n";
    let text = Proxy::complete(Site::one("127.0.0.1:9").more(admin));
    let file = setup.write("longhaul.toml", text);
    for words in [&["check"][..], &["run", "--config"]] {
        let output = longhaul().args(words).arg(&file).output().expect("to run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?}: {said}");
        assert!(
            said.contains("short.token is not usable: it must hold"),
            "{words:?}: {said}"
        );
        assert!(!said.contains("too-short"), "{said}");
    }
}
